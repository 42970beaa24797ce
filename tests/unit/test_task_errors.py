"""What a person is told about a wrong task YAML: where, what, and the fix."""

from __future__ import annotations

import pytest

from stix.model.errors import TaskError
from stix.model.runnable import check_runnable
from stix.model.task import Task


def refused(text: str) -> TaskError:
    with pytest.raises(TaskError) as caught:
        Task.from_yaml_text(text, source="t.yaml")
    return caught.value


# YAML, field path, line, words that the message must hold.
BAD = [
    ("runn: x", "runn", 1, 'Did you mean "run"?'),
    ("zebra: 1", "zebra", 1, "Accepted: name, workdir"),
    ("resources:\n  acelerators: A100", "resources.acelerators", 2, 'Did you mean "accelerators"?'),
    ("resources: big", "resources", 1, '"big" is not a mapping'),
    ("resources:\n\n  cpus: four", "resources.cpus", 3, '"four" is not a number of vCPUs. Write 4'),
    ("resources:\n  cpus: 0", "resources.cpus", 2, "0 is not"),
    ("resources:\n  cpus: -1", "resources.cpus", 2, "-1 is not"),
    ("resources:\n  cpus: .inf", "resources.cpus", 2, "inf is not"),
    ("resources:\n  cpus: .nan", "resources.cpus", 2, "nan is not"),
    ("resources:\n  cpus: true", "resources.cpus", 2, "true is not"),
    ("resources:\n  cpus: 4GB", "resources.cpus", 2, '"4GB" is not'),
    ("resources:\n  memory: 16 bananas", "resources.memory", 2, '"16GB+"'),
    ("resources:\n  memory: [16]", "resources.memory", 2, "a list is not an amount of memory"),
    ("resources:\n  accelerators: 4", "resources.accelerators", 2, "A100:8"),
    ("resources:\n  gpus: A100:0", "resources.gpus", 2, '"A100:0" has no valid count'),
    ("resources:\n  gpus: A100:1.5", "resources.gpus", 2, "whole number"),
    ("resources:\n  gpus: T4\n  accelerators: T4", "resources.accelerators", 3, "two names of one field"),
    ("resources:\n  infra: asw", "resources.infra", 2, 'Did you mean "aws"?'),
    ("resources:\n  infra: aws/a/b/c", "resources.infra", 2, "more than three parts"),
    ("resources:\n  infra: aws/", "resources.infra", 2, "ends in a slash"),
    ("resources:\n  infra: local/here", "resources.infra", 2, "Write local alone"),
    ("resources:\n  infra: aws\n  region: us-east-1", "resources.region", 3, "cannot both be given"),
    ("resources:\n  cloud: gpc", "resources.cloud", 2, 'Did you mean "gcp"?'),
    ("resources:\n  zone: 5", "resources.zone", 2, "5 is not the name of a zone"),
    ("resources:\n  use_spot: 'yes'", "resources.use_spot", 2, "Write true or false"),
    ("resources:\n  instance_type: a b", "resources.instance_type", 2, '"a b" is not an instance type'),
    ("resources:\n  autostop: soon", "resources.autostop", 2, '"soon" is not an idle time'),
    ("resources:\n  autostop: -1", "resources.autostop", 2, "Write false"),
    ("resources:\n  autostop:\n    idle: 4", "resources.autostop.idle", 3, 'Did you mean "idle_minutes"?'),
    ("resources:\n  autostop:\n    wait_for: job", "resources.autostop.wait_for", 3, 'Did you mean "jobs"?'),
    ("resources:\n  autostop:\n    down: 1", "resources.autostop.down", 3, "neither true nor false"),
    ("resources:\n  ports: 0", "resources.ports", 2, "1 to 65535"),
    ("resources:\n  ports:\n  - 80\n  - 90-80", "resources.ports[1]", 4, '"90-80" is not a port'),
    ("resources:\n  labels:\n    stix-x: y", "resources.labels.stix-x", 3, "reserved"),
    ("resources:\n  labels:\n    x: [y]", "resources.labels.x", 3, "a list is not text"),
    ("name: a b", "name", 1, '"a b" is not a name'),
    ("name: 5", "name", 1, "5 is not a name"),
    ("num_nodes: 0", "num_nodes", 1, "whole number from 1"),
    ("num_nodes: '2'", "num_nodes", 1, "without quotes"),
    ("num_nodes: true", "num_nodes", 1, "true is not"),
    ("workdir: [a]", "workdir", 1, "a list is not a folder"),
    ("envs: [A]", "envs", 1, "Write envs as NAME: text"),
    ("envs:\n  1A: x", "envs.1A", 2, "not the name of a variable"),
    ("envs:\n  A: {b: c}", "envs.A", 2, "a mapping is not text"),
    ("envs: {A: x}\nsecrets:\n  A: y", "secrets.A", 3, "in envs and in secrets"),
    ("file_mounts:\n  /: x", "file_mounts[/]", 2, "not a place"),
    ("file_mounts:\n  /a/../b: x", "file_mounts[/a/../b]", 2, "without .. in it"),
    ("file_mounts:\n  /d: 5", "file_mounts[/d]", 2, "5 is not a local path"),
    ("run: [a, b]", "run", 1, "a list is not a script"),
    ('setup: "a\\0b"', "setup", 1, "NUL"),
    ("run: a\nrun: b", "run", 2, "given twice, first on line 1"),
    ("resources:\n  cpus: 1\n  cpus: 2", "resources.cpus", 3, "given twice, first on line 2"),
    ("run: !!python/name:os.system x", "run", 1, "the tag"),
    ("run: !!set {a}", "run", 1, "not allowed"),
    ("num_nodes: !!int x", "num_nodes", 1, "not a valid int"),
    ("num_nodes: " + "9" * 5000, "num_nodes", 1, "not a valid int"),
    # Accelerators.
    ("resources:\n  gpus: [{}]", "resources.gpus[0]", 2, "is not an accelerator"),
    ("resources:\n  gpus:\n  - A100\n  - H100:x", "resources.gpus[1]", 4, '"H100:x" has no valid count'),
    ("resources:\n  gpus: {A100: -1, H100: 8}", "resources.gpus", 2, '"A100: -1" has no valid count'),
    ("resources:\n  gpus: NVIDA:80GB", "resources.gpus", 2, 'Did you mean "NVIDIA"?'),
    ("resources:\n  gpus: 0GB+", "resources.gpus", 2, "no accelerator's memory"),
    ("resources:\n  gpus: 8x A100", "resources.gpus", 2, "no accelerator's name in front"),
    ("resources:\n  accelerator_args: {tpu_nam: x}", "resources.accelerator_args.tpu_nam", 2, '"tpu_name"'),
    ("resources:\n  accelerator_args:\n    tpu_vm: 1", "resources.accelerator_args.tpu_vm", 3, "true nor"),
    # Options.
    ("resources:\n  any_of: {infra: aws}", "resources.any_of", 2, "one option a line, after a dash"),
    ("resources:\n  any_of: [aws]", "resources.any_of[0]", 2, '"aws" is not a mapping'),
    ("resources:\n  any_of:\n  - cpus: x", "resources.any_of[0].cpus", 3, '"x" is not a number'),
    ("resources:\n  any_of:\n  - gpu: L4", "resources.any_of[0].gpu", 3, 'Did you mean "gpus"?'),
    ("resources:\n  any_of:\n  - {ordered: [{}]}", "resources.any_of[0].ordered", 3, "options of its own"),
    ("resources:\n  any_of: [{}]\n  ordered: [{}]", "resources.ordered", 3, "cannot both be given"),
    ("resources:\n  gpus: [A, B]\n  any_of: [{}]", "resources.gpus", 2, "in one list, ordered"),
    ("resources:\n  any_of:\n  - {infra: aws, zone: x}", "resources.any_of[0].zone", 3, "both be given"),
    # Other resources.
    ("resources:\n  disk_size: big", "resources.disk_size", 2, "not a size of storage. Write GB"),
    ("resources:\n  disk_size: 0", "resources.disk_size", 2, "between 1 GB"),
    ("resources:\n  disk_size: 100+", "resources.disk_size", 2, '"100+" is not'),
    ("resources:\n  disk_tier: hgih", "resources.disk_tier", 2, 'Did you mean "high"?'),
    ("resources:\n  network_tier: fast", "resources.network_tier", 2, "Accepted: standard, best"),
    ("resources:\n  local_disk: nvm:100", "resources.local_disk", 2, 'Did you mean "nvme"?'),
    ("resources:\n  local_disk: 1000+", "resources.local_disk", 2, "nvme:1000"),
    ("resources:\n  max_hourly_cost: 0", "resources.max_hourly_cost", 2, "above 0 USD"),
    ("resources:\n  max_hourly_cost: $2", "resources.max_hourly_cost", 2, "without quotes"),
    ("resources:\n  priority: 2000", "resources.priority", 2, "from -1000 to 1000"),
    ("resources:\n  image_id: {us-east-1: 5}", "resources.image_id.us-east-1", 2, "ami-..."),
    ("resources:\n  image_id: {}", "resources.image_id", 2, "has 0 entries"),
    ("resources:\n  image_id: 'docker:'", "resources.image_id", 2, "docker:NAME"),
    ("resources:\n  job_recovery: failver", "resources.job_recovery", 2, 'Did you mean "FAILOVER"?'),
    (
        "resources:\n  job_recovery:\n    max_restart_on_errors: 3",
        "resources.job_recovery.max_restart_on_errors",
        3,
        'Did you mean "max_restarts_on_errors"?',
    ),
    (
        "resources:\n  job_recovery: {recover_on_exit_codes: [1, 256]}",
        "resources.job_recovery.recover_on_exit_codes[1]",
        2,
        "from 0 to 255",
    ),
    ("resources:\n  volumes: [{name: x}]", "resources.volumes[0]", 2, 'needs "path". Add path:'),
    ("resources:\n  volumes: [{path: /x, size: 1}]", "resources.volumes[0].size", 2, '"disk_size"'),
    (
        "resources:\n  _docker_login_config: {}",
        "resources._docker_login_config",
        2,
        "SKYPILOT_DOCKER_PASSWORD",
    ),
    ("resources:\n  autostop: {hook_timeout: 0}", "resources.autostop.hook_timeout", 2, "of 1 or more"),
    # What the plan depends on.
    ("estimated_duration: 3600", "estimated_duration", 1, 'Write it with a unit: "90s"'),
    ("estimated_duration: {A100: soon}", "estimated_duration.A100", 1, "not a length of time"),
    ("estimated_duration: {80GB: 2h}", "estimated_duration.80GB", 1, "Write one's name, or default"),
    ("max_duration: 2 hours and more", "max_duration", 1, "not a length of time"),
    ("max_duration: 0s", "max_duration", 1, "between 1 second and 10 years"),
    ("deadline: tomorrow", "deadline", 1, "Write a time with its zone"),
    ("deadline: 2030-01-02 03:04", "deadline", 1, "does not say its time zone"),
    ("deadline: 5", "deadline", 1, "5 is not a deadline"),
    ("max_cost: free", "max_cost", 1, "above 0 USD"),
    ("optimize: speed", "optimize", 1, "Accepted: cost, time, balanced"),
    ("optimize: tme", "optimize", 1, 'Did you mean "time"?'),
    ("inputs: {a: 1, b: 2}", "inputs", 1, "has 2 entries"),
    ("outputs: {s3://b: much}", "outputs[s3://b]", 1, '"much" is not an amount of data'),
    ("depends_on: [a b]", "depends_on[0]", 1, '"a b" is not a name'),
    ("depends_on: {a: 5+}", "depends_on.a", 1, 'Write GB: 50, "50GB"'),
    # Files, buckets and volumes.
    ("workdir: {ref: main}", "workdir", 1, 'needs "url"'),
    ("workdir: {url: here}", "workdir.url", 1, "not the URL of a git repository"),
    ("workdir: https://host/x.git", "workdir", 1, "Write it as a mapping, workdir: {url: https://host/x.git"),
    ("file_mounts:\n  /d: gss://b", "file_mounts[/d]", 2, 'Did you mean "gs"?'),
    ("file_mounts:\n  /d: s3://", "file_mounts[/d]", 2, "names no bucket"),
    ("file_mounts:\n  /d: {mode: COPY}", "file_mounts[/d]", 2, "needs a name or a source"),
    ("file_mounts:\n  /d: {source: x, mode: MNT}", "file_mounts[/d].mode", 2, 'Did you mean "MOUNT"?'),
    ("file_mounts:\n  /d: {source: s3://b, name: c}", "file_mounts[/d].name", 2, "Leave out the name"),
    ("file_mounts:\n  /d: {source: [s3://b, x]}", "file_mounts[/d].source", 2, "a path of its own"),
    ("file_mounts:\n  /d: {source: x, store: gcp}", "file_mounts[/d].store", 2, 'Did you mean "GCS"?'),
    ("file_mounts:\n  /d: {source: x, persistant: true}", "file_mounts[/d].persistant", 2, '"persistent"'),
    (
        "file_mounts:\n  /d: {name: x, config: {mount_cached: {transfers: 1}}}",
        "file_mounts[/d].config.mount_cached",
        2,
        "Write mode: MOUNT_CACHED",
    ),
    (
        "file_mounts:\n  /d: {name: x, mode: MOUNT_CACHED, config: {mount_cached: {buffer_size: 64MB}}}",
        "file_mounts[/d].config.mount_cached.buffer_size",
        2,
        '"64M"',
    ),
    ("volumes: {/d: {}}", "volumes[/d]", 1, "the size of a new one"),
    ("volumes: {/d: {name: a, size: 5}}", "volumes[/d]", 1, "name and size"),
    ("volumes: {/d: {name: a, sub_path: ../x}}", "volumes[/d].sub_path", 1, "relative path"),
    ("volumes: [a]", "volumes", 1, "a list is not a mapping"),
    ("volume_mounts: [{path: /x}]", "volume_mounts[0]", 1, 'needs "volume_name"'),
    ("managed_secrets: {A: x}", "managed_secrets", 1, "a mapping is not a list"),
    ("managed_secrets: [A: {mount: /x}]", "managed_secrets[0].mount", 1, '"mount_path"'),
    ("secrets: [A]", "secrets[0]", 1, "secrets:NAME"),
    # Services, pools and configuration.
    ("service: {}", "service", 1, 'needs "readiness_probe"'),
    ("service: {readiness_probe: health}", "service.readiness_probe", 1, "does not begin with a slash"),
    ("service: {readiness_probe: {}}", "service.readiness_probe", 1, 'needs "path"'),
    ("service:\n  readiness_probe: /\n  replica: 2", "service.replica", 3, 'Did you mean "replicas"?'),
    ("service:\n  readiness_probe: /\n  ports: 99999", "service.ports", 3, "from 1 to 65535"),
    (
        "service:\n  readiness_probe: /\n  replicas: 1\n  replica_policy: {min_replicas: 1}",
        "service.replicas",
        3,
        "Keep replica_policy",
    ),
    (
        "service:\n  readiness_probe: /\n  replica_policy: {min_replicas: 3, max_replicas: 2}",
        "service.replica_policy.max_replicas",
        3,
        "2 is below min_replicas, 3",
    ),
    (
        "service:\n  readiness_probe: /\n  replica_policy: {min_replicas: 1, max_replicas: 2}",
        "service.replica_policy",
        3,
        "Add target_qps_per_replica",
    ),
    (
        "service:\n  readiness_probe: /\n  replica_policy: {min_replicas: 1, target_qps_per_replica: 2}",
        "service.replica_policy.target_qps_per_replica",
        3,
        "Add max_replicas",
    ),
    (
        "service:\n  readiness_probe: /\n  load_balancing_policy: instance_aware_least_load",
        "service.load_balancing_policy",
        3,
        "go together",
    ),
    (
        "service:\n  readiness_probe: /\n  replica_policy: {min_replicas: 1, target_latency_p95: 2}",
        "service.replica_policy.target_latency_p95",
        3,
        "Add max_replicas",
    ),
    (
        "service:\n  readiness_probe: /\n  load_balancing_policy: weighted",
        "service.load_balancing_policy",
        3,
        "go together",
    ),
    (
        "service:\n  readiness_probe: /\n  replica_policy:\n    min_replicas: 0\n"
        "    schedule: [{cron: 0 8 * *, min_replicas: 1}]",
        "service.replica_policy.schedule[0].cron",
        5,
        "has 4 fields, and cron has 5",
    ),
    (
        "service:\n  readiness_probe: /\n  replica_policy:\n    min_replicas: 0\n"
        "    schedule: [{cron: 0 8 * * mon-fri, min_replicas: 1, timezone: Mars}]",
        "service.replica_policy.schedule[0].timezone",
        5,
        '"Europe/Berlin"',
    ),
    (
        "service:\n  readiness_probe: /\n  replica_policy:\n    min_replicas: 0\n"
        "    schedule: [{cron: '@daily', min_replicas: 3, max_replicas: 1}]",
        "service.replica_policy.schedule[0].max_replicas",
        5,
        "1 is below min_replicas, 3",
    ),
    (
        "service:\n  readiness_probe: /\n  replica_policy:\n    min_replicas: 0\n    max_replicas: 2\n"
        "    custom_metric: {name: 1x, target: 3}",
        "service.replica_policy.custom_metric.name",
        6,
        "as Prometheus has them",
    ),
    ("service: {readiness_probe: /, tls: {keyfile: k}}", "service.tls", 1, 'needs "certfile"'),
    ("service: {readiness_probe: /}\npool: {workers: 1}", "pool", 2, "not both"),
    ("pool: {}", "pool", 1, "its size is not given"),
    ("pool: {workers: 1, max_workers: 2}", "pool.max_workers", 1, "fixes its size"),
    ("pool: {min_workers: 3, max_workers: 2}", "pool.max_workers", 1, "2 is below min_workers, 3"),
    ("config: {docker: {run_option: x}}", "config.docker.run_option", 1, '"run_options"'),
    ("config: {hooks: [{run: x, events: [stp]}]}", "config.hooks[0].events[0]", 1, '"stop"'),
    ("config: {hooks: [{events: [stop]}]}", "config.hooks[0]", 1, 'needs "run"'),
    ("config: {kubernetes: {provision_timeot: 5}}", "config.kubernetes.provision_timeot", 1, "_timeout"),
    ("event_callback: [a]", "event_callback", 1, "a list is not a command"),
    ("api_server_access: 'no'", "api_server_access", 1, "Write true or false"),
]


@pytest.mark.parametrize(
    ("text", "field", "line", "words"), BAD, ids=[f"{b[1]}-{b[2]}-{b[3][:12]}" for b in BAD]
)
def test_a_wrong_field_is_named_with_line_and_fix_when_parsed(text: str, field: str, line: int, words: str):
    error = refused(text)
    assert [one["field"] for one in error.details["problems"]] == [field]
    assert error.details["line"] == line
    assert str(error).startswith(f"t.yaml:{line}:")
    assert f": {field}: " in str(error)
    assert words in str(error)
    assert "Traceback" not in str(error)
    assert "\n" not in str(error)


WHOLE = [
    ("", "no task in it", None),
    ("# only a comment\n", "no task in it", None),
    ("- a\n- b", "this is a list", 1),
    ("echo hello", "this is plain text", 1),
    ("run: a\n---\nrun: b", "pipeline of 2 documents", 3),
    ("run: a: b", "Quote a value", 1),
    ("resources:\n\tcpus: 4", "a tab", 2),
    ("run: x\n  cpus: 4", "not valid YAML", 2),
    ("run: 'x", "not valid YAML", 1),
    ("run: *x", "without its anchor", 1),
    ("run: a\x07b", "U+0007", 1),
    ("a: &a [*a]", "without end", 1),
    ("[" * 100_000, "nested more than", 1),
    ("? [a]\n: b", "must be text", 1),
    ("<<: 5", "<< takes", 1),
    ("a: &a [1,2,3,4,5,6,7,8,9]\nb: &b [" + "*a," * 90 + "]\nc: &c [" + "*b," * 90 + "]", "without end", 1),
    ("run: |\n" + "  x\n" * 300_000, "more than 1 MiB", None),
]


@pytest.mark.parametrize(("text", "words", "line"), WHOLE, ids=[w[1] for w in WHOLE])
def test_text_that_is_no_task_is_told_in_one_paragraph_when_parsed(text: str, words: str, line: int | None):
    error = refused(text)
    assert words in str(error)
    assert "\n" not in str(error)
    assert error.details.get("line") == line
    assert str(error).startswith("t.yaml:")


def test_an_empty_last_document_is_ignored_when_the_file_ends_in_dashes():
    assert Task.from_yaml_text("---\nrun: a\n---\n").run == "a"


def test_all_problems_are_told_together_when_there_are_several():
    error = refused("runn: x\nresources:\n  cpus: x\n  cloud: gpc\n  ports: [80, x]\nenvs: {A: []}")
    lines = str(error).splitlines()
    assert [line.split(": ")[1] for line in lines] == [
        "runn",
        "resources.cpus",
        "resources.cloud",
        "resources.ports[1]",
        "envs.A",
    ]
    assert error.code == "invalid_task"
    assert error.http_status == 400


def test_the_rest_is_counted_when_more_than_five_problems_are_found():
    error = refused("\n".join(f"x{n}: 1" for n in range(8)))
    assert str(error).splitlines()[-1] == "... and 3 more problems."
    assert len(error.details["problems"]) == 8


@pytest.mark.parametrize(
    "text",
    [
        "secrets: hunter2",
        "secrets: {A: [hunter2]}",
        "secrets: {A: {hunter2: x}}",
        "secrets: {A: 'secrets:hunter2 '}",
        'secrets: {A: "hunter2\\0"}',
        "secrets: {A: !!binary hunter2}",
        "secrets: {A: *hunter2}",
        "secrets: {A: hunter2}\nenvs: {A: x}",
        "secrets: {A: hunter2}\nrunn: x",
        "secrets: {A: " + "hunter2" * 30_000 + "}",
    ],
)
def test_a_secret_is_not_repeated_when_it_is_refused(text: str):
    error = refused(text)
    assert "hunter2" not in str(error)
    assert "hunter2" not in repr(error.details)


def test_an_over_long_script_names_its_size_and_the_way_out_when_parsed():
    error = refused("run: " + "x" * (128 * 1024 + 1))
    assert "131073 bytes" in str(error)
    assert "file of the workdir" in str(error)
    assert Task.from_yaml_text("run: " + "x" * (128 * 1024)).run


def test_a_long_value_is_shortened_when_it_is_refused():
    assert len(str(refused("name: " + "x" * 10_000))) < 400


def test_files_that_cannot_be_read_are_explained_when_named(tmp_path, monkeypatch):
    (tmp_path / "train.yaml").write_text("run: x")
    (tmp_path / "bad.yaml").write_bytes(b"run: x\nname: \xff\n")
    (tmp_path / "long.yaml").write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(TaskError, match=r"no such file. Did you mean .*train.yaml\?"):
        Task.from_yaml(tmp_path / "tarin.yaml")
    with pytest.raises(
        TaskError, match=r"a directory, not a task file. Name the file in it: bad.yaml, .*train.yaml"
    ):
        Task.from_yaml(tmp_path)
    with pytest.raises(TaskError, match=r"bad.yaml:2: byte 13 is not UTF-8 text. Save"):
        Task.from_yaml(tmp_path / "bad.yaml")
    with pytest.raises(TaskError, match="more than 1 MiB"):
        Task.from_yaml(tmp_path / "long.yaml")
    with pytest.raises(TaskError, match="cannot be read: Not a directory"):
        Task.from_yaml(tmp_path / "train.yaml" / "x")
    with pytest.raises(TaskError, match="cannot be read"):
        Task.from_yaml("a\0b")


def test_a_file_with_a_byte_order_mark_is_read_when_named(tmp_path):
    (tmp_path / "t.yaml").write_bytes(b"\xef\xbb\xbfrun: x\n")
    assert Task.from_yaml(tmp_path / "t.yaml").run == "x"


# What parses and cannot be launched yet: YAML, field path, words.
NOT_YET = [
    ("service: {readiness_probe: /}", "service", "to run the task once"),
    ("pool: {workers: 2}", "pool", "to run the task once"),
    ("depends_on: [a]", "depends_on", "one after the other"),
    ("deadline: 6h", "deadline", "Remove it"),
    ("max_duration: 2h", "max_duration", "bounds a command"),
    ("optimize: time", "optimize", '"time" is not supported'),
    ("managed_secrets: [A]", "managed_secrets", "--secret"),
    ("secrets: [secrets:A]", "secrets.A", "--secret A=VALUE"),
    ("volumes: {/d: v}", "volumes", "Remove it"),
    ("volume_mounts: [{path: /d, volume_name: v}]", "volume_mounts", "Remove it"),
    ("workdir: {url: 'https://h/r.git'}", "workdir", "Clone it in setup"),
    ("file_mounts: {/d: 's3://b'}", "file_mounts[/d]", "fetch it in setup"),
    ("file_mounts: {/d: {source: ./x}}", "file_mounts[/d]", "Mount a local path"),
    ("resources: {gpus: 80GB+}", "resources.accelerators", "Name one"),
    ("resources: {accelerator_args: {tpu_vm: true}}", "resources.accelerator_args", "Remove it"),
    ("resources: {local_disk: ssd}", "resources.local_disk", "Remove it"),
    ("resources: {network_tier: best}", "resources.network_tier", "Remove it"),
    ("resources: {volumes: [{path: /x}]}", "resources.volumes", "Remove it"),
    ("resources: {autostop: {hook: x}}", "resources.autostop.hook", "Remove it"),
]


@pytest.mark.parametrize(("text", "field", "words"), NOT_YET, ids=[one[1] for one in NOT_YET])
def test_a_field_is_parsed_and_refused_once_when_launched(text: str, field: str, words: str):
    task = Task.from_yaml_text(text)
    assert Task.from_yaml_text(task.to_yaml_text()) == task
    with pytest.raises(TaskError) as caught:
        check_runnable(task)
    assert [one["field"] for one in caught.value.details["problems"]] == [field]
    assert "not supported by `launch` yet" in str(caught.value)
    assert words in str(caught.value)


def test_a_task_is_runnable_when_it_only_informs_plans_and_managed_jobs():
    check_runnable(
        Task(
            run="x",
            estimated_duration="2h",
            inputs={"s3://b": 5},
            event_callback="true",
            api_server_access=False,
            resources={"job_recovery": "FAILOVER", "priority": 5, "priority_class": "x", "autostop": 5},
        )
    )


def test_flags_are_named_when_an_override_is_wrong():
    task = Task(run="x")
    with pytest.raises(TaskError, match=r'^--gpus: "A100:x" has no valid count'):
        task.with_overrides(resources={"accelerators": "A100:x"})
    with pytest.raises(TaskError, match=r"^--num-nodes: 0 is not"):
        task.with_overrides(num_nodes=0)
    with pytest.raises(TaskError, match=r"^--infra: "):
        task.with_overrides(resources={"infra": "asw"})
    with pytest.raises(TaskError, match=r"^--env: .*not the name of a variable"):
        task.with_envs({"1A": "x"})
