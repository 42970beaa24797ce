from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stix.model.errors import TaskError
from stix.model.resources import Resources
from stix.model.task import Task

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def test_values_stay_as_written_when_envs_hold_numbers_and_words():
    text = "envs: {A: 1.10, B: yes, C: 0x10, D: 2024-01-02, E: 22:30, F: ~, G: 'x', H: 1e3, ON: off}"
    assert Task.from_yaml_text(text).envs == {
        "A": "1.10",
        "B": "yes",
        "C": "0x10",
        "D": "2024-01-02",
        "E": "22:30",
        "F": None,
        "G": "x",
        "H": "1e3",
        "ON": "off",
    }


def test_values_become_text_when_envs_come_from_plain_values():
    task = Task.from_yaml_config({"envs": {"A": 1, "B": True, "C": 1.5, "D": None}})
    assert task.envs == {"A": "1", "B": "true", "C": "1.5", "D": None}


def test_null_means_default_when_a_field_is_given_without_value():
    text = "name:\nworkdir:\nnum_nodes:\nresources:\nenvs:\nsecrets:\nfile_mounts:\nsetup:\nrun:\n"
    assert Task.from_yaml_text(text) == Task()


def test_merged_fields_yield_to_own_ones_when_anchors_are_used():
    text = (
        "envs: &e {A: 1, B: 2}\nfile_mounts: {}\nsecrets: {<<: {C: 3}}\nresources: {labels: {<<: *e, B: 3}}"
    )
    task = Task.from_yaml_text(text)
    assert task.resources.labels == {"A": "1", "B": "3"}
    assert task.secret_values() == {"C": "3"}


def test_overrides_win_and_are_filled_in_when_envs_are_merged():
    task = Task(
        workdir="./$MODEL/x",
        envs={"MODEL": "a", "TOKEN": None},
        file_mounts={"/data/${MODEL}": "~/$MODEL/$OTHER/$$"},
        secrets={"KEY": None},
        run="echo $MODEL",
    )
    ready = task.with_envs({"MODEL": "b", "TOKEN": "t", "EXTRA": "e"}, secrets={"KEY": "k"})
    assert ready.workdir == "./b/x"
    assert ready.file_mounts == {"/data/b": "~/b/$OTHER/$$"}
    assert ready.envs == {"MODEL": "b", "TOKEN": "t", "EXTRA": "e"}
    assert ready.secret_values() == {"KEY": "k"}
    assert ready.run == "echo $MODEL"
    assert task.workdir == "./$MODEL/x"


def test_every_variable_without_value_is_named_when_envs_are_merged():
    task = Task(envs={"A": None, "B": None}, secrets={"S": None})
    with pytest.raises(TaskError) as caught:
        task.with_envs({"A": "1"})
    assert str(caught.value).splitlines() == [
        "envs.B: has no value. Give it: --env B=VALUE.",
        "secrets.S: has no value. Give it: --secret S=VALUE.",
    ]


def test_a_path_is_refused_when_a_variable_makes_it_wrong():
    with pytest.raises(TaskError, match="not a place on the machine"):
        Task(envs={"D": ".."}, file_mounts={"/a/$D": "x"}).with_envs()


def test_secrets_stay_hidden_when_a_task_is_shown():
    task = Task(secrets={"KEY": "hunter2", "LATER": None})
    assert (
        "hunter2"
        not in f"{task!r} {task} {task.to_yaml_config()} {task.to_yaml_text()} {task.model_dump_json()}"
    )
    assert task.to_yaml_config() == {"secrets": {"KEY": None, "LATER": None}}
    assert task.to_yaml_config(reveal_secrets=True) == {"secrets": {"KEY": "hunter2", "LATER": None}}


def test_only_given_fields_change_when_overridden():
    task = Task(name="a", num_nodes=2, resources={"cpus": 4, "infra": "aws/us-east-1", "labels": {"a": "b"}})
    changed = task.with_overrides(
        name="b", workdir=None, resources={"gpus": "l4", "cpus": "8+", "use_spot": True, "memory": None}
    )
    assert changed.to_yaml_config() == {
        "name": "b",
        "num_nodes": 2,
        "resources": {
            "infra": "aws/us-east-1",
            "cpus": "8+",
            "accelerators": {"L4": 1},
            "use_spot": True,
            "labels": {"a": "b"},
        },
    }
    assert task.with_overrides() is task
    assert (
        task.with_overrides(resources={"region": "us-west-2"}).resources.to_config()["infra"] == "*/us-west-2"
    )
    assert not changed.with_overrides(resources={"use_spot": False}).resources.use_spot


def test_the_digest_is_equal_when_the_meaning_is():
    one = Task.from_yaml_text("run: x\nresources: {memory: 16GB, gpus: a100, infra: AWS}\nenvs: {A: 1, B: 2}")
    two = Task.from_yaml_text(
        "envs: {B: '2', A: '1'}\nresources: {cloud: aws, accelerators: {A100: 1}, memory: 16}\nrun: x"
    )
    assert one == two
    assert one.digest() == two.digest()
    assert len(one.digest()) == 64


@pytest.mark.parametrize(
    "changed",
    [
        {"run": "y"},
        {"name": "n"},
        {"setup": "s"},
        {"num_nodes": 2},
        {"workdir": "."},
        {"envs": {"A": "2"}},
        {"envs": {"A": None}},
        {"secrets": {"S": "2"}},
        {"secrets": {"S": None}},
        {"secrets": {}},
        {"file_mounts": {"/x": "y"}},
        {"resources": {"cpus": 4}},
        {"resources": {"any_of": [{"cpus": 4}]}},
        {"secrets": {"S": "secrets:S"}},
        {"deadline": "6h"},
        {"service": {"readiness_probe": "/"}},
    ],
)
def test_the_digest_differs_when_the_meaning_does(changed: dict):
    base = {"run": "x", "envs": {"A": "1"}, "secrets": {"S": "1"}}
    assert Task(**base).digest() != Task(**{**base, **changed}).digest()


def test_the_digest_is_the_same_when_computed_by_another_process():
    task = Task(run="x", envs={"B": "1", "A": "2"}, secrets={"S": "s"})
    made = "Task(secrets={'S': 's'}, envs={'A': '2', 'B': '1'}, run='x')"
    code = f"from stix.model.task import Task; print({made}.digest())"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == task.digest()


FORMS = [
    ("deadline: 2030-01-02T03:04:05+01:00", {"deadline": "2030-01-02T02:04:05Z"}),
    ("deadline: 2030-01-02 03:04Z", {"deadline": "2030-01-02T03:04:00Z"}),
    ("deadline: 1.5h", {"deadline": "1h30m"}),
    ("max_duration: 90m", {"max_duration": "1h30m"}),
    ("max_duration: 1W", {"max_duration": "7d"}),
    ("estimated_duration: 90s", {"estimated_duration": "1m30s"}),
    (
        "estimated_duration: {a100: 2h, 'H100:8': 15m, default: 1d}",
        {"estimated_duration": {"A100": "2h", "H100:8": "15m", "default": "1d"}},
    ),
    ("max_cost: 2.5", {"max_cost": 2.5}),
    ("optimize: COST", {}),
    ("optimize: Time", {"optimize": "time"}),
    ("depends_on: a", {"depends_on": {"a": None}}),
    ("depends_on: {a: 2TB}", {"depends_on": {"a": 2048}}),
    ("inputs: {s3://b: 100}", {"inputs": {"s3://b": 100}}),
    ("outputs: {gs://b: 0.5}", {"outputs": {"gs://b": 0.5}}),
    ("workdir: {url: 'git@h:o/r.git', ref: v1}", {"workdir": {"url": "git@h:o/r.git", "ref": "v1"}}),
    ("secrets: ['secrets:team/TOKEN']", {"secrets": {"TOKEN": "secrets:team/TOKEN"}}),
    ("secrets: {A: 'secrets:B'}", {"secrets": {"A": "secrets:B"}}),
    (
        "managed_secrets: [A, {user/B: {mount_path: /x}}]",
        {"managed_secrets": ["A", {"user/B": {"mount_path": "/x"}}]},
    ),
    (
        "file_mounts: {/a: s3://b/c, /b: {name: n, mode: copy, store: s3, persistent: false}}",
        {
            "file_mounts": {
                "/a": "s3://b/c",
                "/b": {"name": "n", "mode": "COPY", "store": "S3", "persistent": False},
            }
        },
    ),
    (
        "file_mounts: {/a: {source: [./x, ./y], name: n, type: dataset_ro, "
        "_bucket_sub_path: p, _force_delete: 1}}",
        {
            "file_mounts": {
                "/a": {"name": "n", "source": ["./x", "./y"], "type": "DATASET_RO", "_bucket_sub_path": "p"}
            }
        },
    ),
    (
        "volumes: {/a: v, /b: {name: v, sub_path: x/y}, /c: {size: 100Gi}, /d: {host_path: /h}}",
        {
            "volumes": {
                "/a": "v",
                "/b": {"name": "v", "sub_path": "x/y"},
                "/c": {"size": 100},
                "/d": {"host_path": "/h"},
            }
        },
    ),
    (
        "volume_mounts: [{path: /a, volume_name: v, volume_config: {cloud: K8S, region: null, x: 1}}]",
        {
            "volume_mounts": [
                {"path": "/a", "volume_name": "v", "volume_config": {"cloud": "kubernetes", "x": 1}}
            ]
        },
    ),
    (
        "service: {readiness_probe: /h, replicas: 2, load_balancer: {stream_timeout_seconds: 5}}",
        {
            "service": {
                "readiness_probe": "/h",
                "replicas": 2,
                "load_balancer": {"stream_timeout_seconds": 5},
            }
        },
    ),
    (
        "service: {readiness_probe: {path: /h, post_data: {a: [1]}, headers: {A: b}}, ports: 80}",
        {
            "service": {
                "readiness_probe": {"path": "/h", "post_data": {"a": [1]}, "headers": {"A": "b"}},
                "replicas": 1,
                "ports": 80,
            }
        },
    ),
    (
        "service: {readiness_probe: /, load_balancing_policy: instance_aware_least_load, replica_policy: "
        "{min_replicas: 0, max_replicas: 4, target_qps_per_replica: {'a100:1': 5, L4: 1}, "
        "spot_placer: Dynamic_fallback, dynamic_ondemand_fallback: false}}",
        {
            "service": {
                "readiness_probe": "/",
                "replica_policy": {
                    "min_replicas": 0,
                    "max_replicas": 4,
                    "target_qps_per_replica": {"A100:1": 5, "L4": 1},
                    "dynamic_ondemand_fallback": False,
                    "spot_placer": "dynamic_fallback",
                },
                "load_balancing_policy": "instance_aware_least_load",
            }
        },
    ),
    (
        "service: {readiness_probe: /, load_balancing_policy: Sticky, replica_policy: {min_replicas: 0, "
        "max_replicas: 4, target_latency_p95: 1.5, target_queue_length: 8, custom_metric: {name: busy_slots, "
        "target: 3, path: /metrics}, schedule: [{cron: 0 8 * * mon-fri, min_replicas: 2, timezone: utc}]}}",
        {
            "service": {
                "readiness_probe": "/",
                "replica_policy": {
                    "min_replicas": 0,
                    "max_replicas": 4,
                    "target_queue_length": 8,
                    "target_latency_p95": 1.5,
                    "custom_metric": {"name": "busy_slots", "target": 3},
                    "schedule": [{"cron": "0 8 * * mon-fri", "min_replicas": 2}],
                },
                "load_balancing_policy": "sticky",
            }
        },
    ),
    ("pool: {workers: 0}", {"pool": {"workers": 0}}),
    ("service: {workers: 3}", {"pool": {"workers": 3}}),
    ("service: {pool: {workers: 3}}", {"pool": {"workers": 3}}),
    (
        "pool: {min_workers: 0, max_workers: 9, queue_length_threshold: 2, upscale_delay_seconds: 5}",
        {
            "pool": {
                "min_workers": 0,
                "max_workers": 9,
                "queue_length_threshold": 2,
                "upscale_delay_seconds": 5,
            }
        },
    ),
    (
        "config: {hooks: [{run: x, events: STOP, timeout: 5}], gcp: {vpc_name: p/n, subnet_names: [a]}, "
        "kubernetes: {enable_docker: build, set_pod_resource_limits: 1.5, pod_config: {a: [{b: null}]}}}",
        {
            "config": {
                "hooks": [{"run": "x", "events": ["stop"], "timeout": 5}],
                "gcp": {"vpc_name": "p/n", "subnet_names": ["a"]},
                "kubernetes": {
                    "enable_docker": "BUILD",
                    "set_pod_resource_limits": 1.5,
                    "pod_config": {"a": [{"b": None}]},
                },
            }
        },
    ),
    (
        "event_callback: notify\napi_server_access: false",
        {"event_callback": "notify", "api_server_access": False},
    ),
    ("file_mounts_mapping: {a: b}\n_metadata: {c: d}", {}),
]


@pytest.mark.parametrize(("text", "config"), FORMS, ids=[one[0][:40] for one in FORMS])
def test_a_field_has_its_canonical_form_when_written_again(text: str, config: dict):
    task = Task.from_yaml_text(text)
    assert task.to_yaml_config() == config
    assert Task.from_yaml_config(config) == task
    assert Task.from_yaml_text(task.to_yaml_text()).digest() == task.digest()


def test_the_nearest_estimate_counts_when_it_is_by_accelerator():
    estimate = Task(estimated_duration={"A100:8": "1h", "A100": "6h", "default": "1d"}).estimated_duration
    assert [estimate.of("A100", 8), estimate.of("A100", 4), estimate.of("L4", 1)] == [3600, 21600, 86400]
    assert Task(estimated_duration={"A100": "1h"}).estimated_duration.of("", 0) is None
    assert Task(estimated_duration="2h").estimated_duration == 7200


def test_a_deadline_is_an_epoch_second_when_the_submission_is_known():
    assert Task(deadline="6h").deadline.epoch(1000) == 22600
    assert Task(deadline="2001-09-09T01:46:40Z").deadline.epoch(5) == 1_000_000_000


def test_defaults_are_skypilots_when_a_service_is_short():
    service = Task(service={"readiness_probe": "/"}).service
    probe, policy = service.readiness_probe, service.replica_policy
    assert (probe.initial_delay_seconds, probe.timeout_seconds) == (1200, 15)
    assert (policy.min_replicas, policy.upscale_delay_seconds, policy.downscale_delay_seconds) == (
        1,
        300,
        1200,
    )
    assert (service.load_balancing_policy, service.load_balancer.stream_timeout_seconds) == (
        "least_load",
        120,
    )


def test_envs_are_filled_in_when_a_bucket_volume_service_or_repository_names_them():
    task = Task(
        envs={"B": "bucket", "P": "9", "R": "main"},
        workdir={"url": "https://h/$B.git", "ref": "${R}"},
        file_mounts={"/a": "s3://$B/x", "/b": {"source": "gs://${B}"}},
        volumes={"/v": "vol-$P"},
        service={"readiness_probe": "/health/$P"},
    ).with_envs()
    assert (task.workdir.url, task.workdir.ref) == ("https://h/bucket.git", "main")
    assert task.file_mounts["/a"] == "s3://bucket/x"
    assert task.file_mounts["/b"].source == "gs://bucket"
    assert task.volumes["/v"].name == "vol-9"
    assert task.service.readiness_probe.path == "/health/9"


def test_only_local_sources_are_uploaded_when_mounts_are_mixed():
    task = Task(file_mounts={"/a": "./x", "/b": "s3://b", "/c": {"source": "./y"}})
    assert task.local_mounts() == {"/a": "./x"}


def test_a_task_changes_when_a_setter_is_called():
    task = Task("train", run="x")
    assert task.set_resources(Resources(gpus="A100")) is task
    assert str(task.resources.accelerator) == "A100:1"
    task.set_resources([Resources(gpus="A100"), Resources(gpus="L4")])
    assert task.resources.is_ordered
    task.set_resources({Resources(gpus="A100"), Resources(gpus="L4")})
    assert len(task.resources.alternatives()) == 2
    assert not task.resources.is_ordered
    task.update_envs({"A": 1}).update_envs({"B": "2"}).update_secrets({"S": "s"}).set_inputs("s3://b", 5)
    task.set_file_mounts({"/a": "./x"}).update_file_mounts({"/b": "./y"}).set_outputs("s3://c", 1)
    task.set_service({"readiness_probe": "/"})
    assert (task.name, task.envs, list(task.file_mounts)) == ("train", {"A": "1", "B": "2"}, ["/a", "/b"])
    assert Task.from_yaml_config(task.to_yaml_config(reveal_secrets=True)) == task
    with pytest.raises(TaskError, match=r"resources\.cpus"):
        task.set_resources({"cpus": "x"})
    assert len(task.resources.alternatives()) == 2


def test_the_constructor_raises_a_task_error_when_anything_is_wrong():
    with pytest.raises(TaskError, match="num_nodes: 0 is not"):
        Task("a b", num_nodes=0)
    with pytest.raises(TaskError, match=r"resources\.cpus"):
        Task(resources={"cpus": "x"})


def test_no_http_client_is_imported_when_a_task_is_read(tmp_path):
    (tmp_path / "x.yaml").write_text("run: x\nresources: {gpus: A100}")
    code = (
        "import stix, sys; stix.Task.from_yaml('x.yaml'); "
        "print(sorted({'httpx', 'click', 'boto3'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_a_command_becomes_a_task_when_given_inline():
    assert Task.from_command("nvidia-smi").to_yaml_config() == {"run": "nvidia-smi"}
    with pytest.raises(TaskError, match="empty"):
        Task.from_command("  ")


def test_a_task_cannot_be_changed_when_made():
    with pytest.raises(ValueError, match="frozen"):
        Task(run="x").run = "y"  # type: ignore[misc]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_an_example_is_a_task_when_read(path: Path):
    task = Task.from_yaml(path).with_envs()
    assert task.run
    if task.workdir:
        assert (EXAMPLES.parents[1] / task.workdir).is_dir()


def test_the_ring_sums_right_when_two_ranks_run_it(unused_ports):
    import os

    script = Task.from_yaml(EXAMPLES / "ring.yaml").run
    assert script
    environment = {**os.environ, "STIX_NODE_IPS": "127.0.0.1\n127.0.0.1", "RING_PORT": str(unused_ports)}
    ranks = [
        subprocess.Popen(
            ["bash", "-c", script],
            env={**environment, "STIX_NODE_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    shown = [process.communicate(timeout=90)[0] for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0]
    assert "sums to 3" in shown[0]
    assert "got 1 and passed on 3" in shown[1]


@pytest.fixture
def unused_ports() -> int:
    """The first of two neighbouring ports that nobody uses."""
    import socket

    for base in range(29400, 29600, 2):
        try:
            with socket.create_server(("127.0.0.1", base)), socket.create_server(("127.0.0.1", base + 1)):
                return base
        except OSError:
            continue
    raise AssertionError("no two free neighbouring ports")
