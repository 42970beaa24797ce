from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stix.model.errors import TaskError
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
    assert task.num_nodes == 2
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
