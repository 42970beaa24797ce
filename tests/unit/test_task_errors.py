"""What a person is told about a wrong task YAML: where, what, and the fix."""

from __future__ import annotations

import pytest

from stix.model.errors import TaskError
from stix.model.task import Task


def refused(text: str) -> TaskError:
    with pytest.raises(TaskError) as caught:
        Task.from_yaml_text(text, source="t.yaml")
    return caught.value


# YAML, field path, line, words that the message must hold.
BAD = [
    ("runn: x", "runn", 1, 'Did you mean "run"?'),
    ("run: x\nservice: {}", "service", 2, "not supported yet"),
    ("pool: {workers: 1}", "pool", 1, "not supported yet"),
    ("volumes: {}", "volumes", 1, "not supported yet"),
    ("file_mounts_mapping: {}", "file_mounts_mapping", 1, "not supported yet"),
    ("zebra: 1", "zebra", 1, "Accepted: name, workdir"),
    ("resources:\n  acelerators: A100", "resources.acelerators", 2, 'Did you mean "accelerators"?'),
    ("resources:\n  cpus: 1\n  any_of: []", "resources.any_of", 3, "not supported yet"),
    ("resources:\n  disk_size: 100", "resources.disk_size", 2, "not supported yet"),
    ("resources:\n  image_id: docker:x", "resources.image_id", 2, "not supported yet"),
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
    ("resources:\n  gpus: {A100: 8, H100: 8}", "resources.gpus", 2, "not supported yet"),
    ("resources:\n  gpus: [A100, H100]", "resources.gpus", 2, "not supported yet"),
    ("resources:\n  gpus: [{}]", "resources.gpus", 2, "not supported yet"),
    ("resources:\n  accelerators: 80GB+", "resources.accelerators", 2, "by its memory"),
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
    ("resources:\n  autostop:\n    hook: x", "resources.autostop.hook", 3, "not supported yet"),
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
    ("workdir: {url: 'https://x'}", "workdir", 1, "not supported yet"),
    ("workdir: [a]", "workdir", 1, "a list is not a folder"),
    ("envs: [A]", "envs", 1, "Write envs as NAME: text"),
    ("envs:\n  1A: x", "envs.1A", 2, "not the name of a variable"),
    ("envs:\n  A: {b: c}", "envs.A", 2, "a mapping is not text"),
    ("secrets: [secrets:A]", "secrets", 1, "not supported yet"),
    ("envs: {A: x}\nsecrets:\n  A: y", "secrets.A", 3, "in envs and in secrets"),
    ("file_mounts:\n  /d: s3://b", "file_mounts[/d]", 2, "not supported yet"),
    ("file_mounts:\n  /d: {source: x}", "file_mounts[/d]", 2, "not supported yet"),
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
    ("run: a\n---\nrun: b", "pipelines", 3),
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
        "secrets: {A: secrets:hunter2}",
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
