"""Round trip over generated tasks, and a fuzz over mutated text."""

from __future__ import annotations

import contextlib
import string
from datetime import UTC, datetime

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from stix.model.dag import Dag
from stix.model.errors import TaskError
from stix.model.fields import RESOURCES as RESOURCE_SECTION
from stix.model.fields import TASK
from stix.model.runnable import unsupported
from stix.model.task import Task
from tests.samples import examples

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
ENV_NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
NAMES = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,8}[A-Za-z0-9])?", fullmatch=True)
NUMBERS = st.one_of(st.integers(1, 4096), st.floats(0.001, 4096).map(lambda number: round(number, 3)))
PORTS = st.one_of(
    st.integers(1, 65535),
    st.tuples(st.integers(1, 65535), st.integers(1, 65535)).map(lambda pair: f"{min(pair)}-{max(pair)}"),
    st.lists(st.integers(1, 65535), min_size=1, max_size=3).map(lambda ports: ",".join(map(str, ports))),
)
BLANK_OR = st.one_of(st.none(), TEXT)
RESOURCES = st.fixed_dictionaries(
    {},
    optional={
        "cpus": st.one_of(NUMBERS, NUMBERS.map(str), NUMBERS.map(lambda number: f"{number}+")),
        "memory": st.tuples(NUMBERS, st.sampled_from(["", "+", "GB", "gib+", "MB", "x", " TB"]))
        .map(lambda pair: f"{pair[0]}{pair[1]}")
        .filter(lambda text: not text.endswith("MB") or float(text[:-2]) > 1)
        .filter(lambda text: not text.endswith("TB") or float(text[:-2]) < 900),
        "accelerators": st.one_of(
            st.sampled_from(["A100", "l4:0.5", "H100:8", "tpu-v5litepod-4", "Custom_1:2", ["T4:1"]]),
            st.sampled_from(["80GB", "80gb+:2", "AMD:192GB+", "NVIDIA:80GB:8", {"40GB+": 2}]),
            st.dictionaries(
                st.sampled_from(["a100", "X9"]), st.one_of(st.none(), st.integers(1, 8)), max_size=1
            ),
        ),
        "infra": st.sampled_from(
            ["local", "AWS", "aws/us-east-1", "*/us-east-1", "aws/*/us-east-1a", "k8s/a/b:c", "*"]
        ),
        "instance_type": st.sampled_from(["m7i.large", "Standard_D4s_v5", "n2-standard-4"]),
        "use_spot": st.booleans(),
        "autostop": st.one_of(
            st.booleans(),
            st.integers(0, 10_000),
            st.sampled_from(["10m", "2H", "1d", "1w", "7"]),
            st.fixed_dictionaries(
                {},
                optional={
                    "idle_minutes": st.integers(0, 99),
                    "down": st.booleans(),
                    "wait_for": st.sampled_from(["jobs", "NONE", "jobs_and_ssh"]),
                },
            ),
        ),
        "ports": st.one_of(PORTS, st.lists(PORTS, max_size=3), st.none()),
        "labels": st.dictionaries(
            ENV_NAMES.filter(lambda key: not key.lower().startswith("stix")), TEXT, max_size=3
        ),
        "disk_size": st.one_of(st.integers(1, 9999), st.sampled_from(["100GB", "1TB", "64Gi"])),
        "disk_tier": st.sampled_from(["low", "BEST", "none", None]),
        "network_tier": st.sampled_from(["standard", "best"]),
        "local_disk": st.sampled_from(["nvme", "ssd:100", "nvme:1000+"]),
        "max_hourly_cost": st.floats(0.001, 1000),
        "image_id": st.sampled_from(["ami-1", "docker:x", {"us-east-1": "ami-1", "docker": "y"}]),
        "priority": st.integers(-1000, 1000),
        "job_recovery": st.one_of(
            st.none(),
            st.sampled_from(["failover", "EAGER_NEXT_REGION", "none"]),
            st.fixed_dictionaries(
                {"max_restarts_on_errors": st.integers(0, 9)},
                optional={
                    "strategy": st.sampled_from([None, "FAILOVER"]),
                    "recover_on_exit_codes": st.one_of(
                        st.integers(0, 255), st.lists(st.integers(0, 255), max_size=3)
                    ),
                },
            ),
        ),
        "accelerator_args": st.fixed_dictionaries({}, optional={"tpu_vm": st.booleans()}),
        "volumes": st.lists(
            st.fixed_dictionaries(
                {"path": st.sampled_from(["/a", "/b"])}, optional={"disk_size": st.integers(1, 99)}
            ),
            max_size=2,
        ),
    },
)
CHOICES = st.one_of(
    RESOURCES,
    st.tuples(RESOURCES, st.sampled_from(["any_of", "ordered"]), st.lists(RESOURCES, max_size=3)).map(
        lambda parts: {**parts[0], parts[1]: parts[2]}
    ),
    st.sampled_from([{"gpus": {"A100": 8, "H100": None}}, {"gpus": ["L4:2", "80GB+"], "use_spot": True}]),
)
DURATIONS = st.one_of(
    st.integers(1, 10**6).map(lambda seconds: f"{seconds}s"),
    st.sampled_from(["90m", "1h30m", "1.5h", "2d", "1w"]),
)
PROBES = st.one_of(
    st.just("/health"),
    st.fixed_dictionaries(
        {"path": st.just("/p")},
        optional={"initial_delay_seconds": st.integers(0, 999), "headers": st.just({"A": "b"})},
    ),
)
CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "name": NAMES,
        "workdir": st.sampled_from([".", "~/code", "./$A/b", "a b"]),
        "num_nodes": st.integers(1, 64),
        "resources": st.one_of(st.none(), CHOICES),
        "estimated_duration": st.one_of(
            DURATIONS, st.dictionaries(st.sampled_from(["A100", "h100:8", "default"]), DURATIONS, min_size=1)
        ),
        "deadline": st.one_of(
            DURATIONS,
            st.datetimes(datetime(2001, 1, 1), datetime(2199, 1, 1), timezones=st.just(UTC)).map(
                datetime.isoformat
            ),
        ),
        "max_duration": DURATIONS,
        "max_cost": st.floats(0.01, 10**6),
        "optimize": st.sampled_from(["cost", "Time", "balanced", None]),
        "depends_on": st.one_of(
            st.lists(NAMES, max_size=2), st.dictionaries(NAMES, st.one_of(st.none(), st.floats(0, 999)))
        ),
        "inputs": st.dictionaries(st.sampled_from(["s3://b", "gs://c"]), st.floats(0, 9999), max_size=1),
        "volumes": st.dictionaries(
            st.sampled_from(["/a", "~/b"]),
            st.sampled_from(["v", {"name": "v", "sub_path": "x"}, {"size": "10Gi"}, {"host_path": "/h"}]),
        ),
        "managed_secrets": st.lists(st.sampled_from(["A", {"B": {"mount_path": "/x"}}, {"C": {}}])),
        "config": st.sampled_from([{}, {"hooks": [{"run": "x"}]}, {"slurm": {"quota": {"queue": "q"}}}]),
        "event_callback": st.sampled_from([None, "echo"]),
        "api_server_access": st.booleans(),
        "envs": st.dictionaries(ENV_NAMES.map(lambda name: f"E{name}"), BLANK_OR, max_size=3),
        "secrets": st.dictionaries(
            ENV_NAMES.map(lambda name: f"S{name}"),
            BLANK_OR.filter(lambda text: text is None or not text.startswith("secrets:")),
            max_size=3,
        ),
        "file_mounts": st.dictionaries(
            st.sampled_from(["/data", "~/x", "rel/path", "/a b/"]),
            st.sampled_from(
                ["./x", "~/y", "/z", "s3://b/c", {"source": "gs://d"}, {"name": "n", "mode": "copy"}]
            ),
            max_size=3,
        ),
        "setup": BLANK_OR,
        "run": BLANK_OR,
    },
)


SERVED = st.one_of(
    st.just({}),
    st.integers(0, 9).map(lambda workers: {"pool": {"workers": workers}}),
    st.fixed_dictionaries(
        {"readiness_probe": PROBES},
        optional={"replicas": st.integers(0, 9), "ports": st.integers(1, 65535)},
    ).map(lambda service: {"service": service}),
)


@given(st.tuples(CONFIGS, SERVED).map(lambda parts: {**parts[0], **parts[1]}))
@settings(max_examples=examples(300))
def test_a_task_is_equal_when_dumped_and_parsed_again(config: dict):
    task = Task.from_yaml_config(config)
    assert Task.from_yaml_config(task.to_yaml_config(reveal_secrets=True)) == task
    again = Task.from_yaml_text(task.to_yaml_text(reveal_secrets=True))
    assert again == task
    assert again.digest() == task.digest()
    assert again.to_yaml_config() == task.to_yaml_config()
    assert again.resources.alternatives() == task.resources.alternatives()


@given(st.lists(CONFIGS, min_size=1, max_size=4), st.sampled_from(["chain", "graph", "group"]))
@settings(max_examples=100)
def test_a_dag_is_equal_when_dumped_and_parsed_again(configs: list[dict], kind: str):
    documents = [{**config, "name": f"t{index}"} for index, config in enumerate(configs)]
    for index, document in enumerate(documents):
        document.pop("depends_on", None)
        if kind == "graph":
            document["depends_on"] = {f"t{earlier}": earlier for earlier in range(0, index, 2)}
    header = {"name": "g", "execution": "parallel"} if kind == "group" else {"name": "g", "max_cost": 5}
    dag = Dag.from_yaml_configs([header, *documents])
    assert len(dag) == len(configs)
    again = Dag.from_yaml_text(dag.to_yaml_text(reveal_secrets=True))
    assert again == dag
    assert again.to_yaml_text() == dag.to_yaml_text()


SEED = """name: train
workdir: ./code
num_nodes: 2
resources:
  infra: aws/us-east-1
  cpus: 4+
  memory: 16GB+
  accelerators: {A100: 8, NVIDIA:80GB+: 4}
  ports: [8080, "80,443"]
  labels: &l {team: a}
  autostop: {idle_minutes: 10, down: true}
  disk_size: 100GB
  local_disk: nvme:1000+
  image_id: {us-east-1: ami-1}
  job_recovery: {strategy: FAILOVER, recover_on_exit_codes: [1, 33]}
  any_of:
    - {region: us-west-2, use_spot: true}
    - {infra: gcp, labels: {team: b}}
envs: {<<: *l, A: 1.10}
secrets:
  TOKEN: hunter2
  KEPT: secrets:NAME
file_mounts:
  /data: ./data
  /b: {source: s3://bucket, mode: MOUNT_CACHED, config: {mount_cached: {transfers: 4}}}
volumes: {/v: {name: v, sub_path: x}}
estimated_duration: {A100: 2h, default: 1d}
deadline: 2030-01-02T03:04:05Z
max_cost: 50
service:
  readiness_probe: {path: /health, headers: {A: b}}
  replica_policy: {min_replicas: 1, max_replicas: 2, target_qps_per_replica: 2.5}
config: {hooks: [{run: x, events: [stop]}], kubernetes: {pod_config: {a: [1]}}}
setup: |
  pip install x
run: |
  python train.py
---
name: after
depends_on: {train: 5GB}
"""
# fmt: off
SNIPPETS = [
    "[", "]", "{", "}", ":", "- ", "&a ", "*a", "!!", "!!int ", "!x ", "|", ">", "\t", "\n", "---\n", "...",
    "? ", "<<: ", '"', "'", "\\", "%", "@", "#", "~", "null", ".nan", ".inf", "1e999", "0x", "0b_", "9" * 30,
    "-", "\u00e9", "\u2028", "\x85", "\ufeff", "\U0001f600", "\x00", "$A", "=", "12:30:45", "2024-13-45",
    "gpus: T4\n",
]
# fmt: on
EDIT = st.tuples(
    st.integers(0, len(SEED)),
    st.integers(0, 12),
    st.one_of(
        st.sampled_from(SNIPPETS),
        st.text(string.printable, max_size=6),
        st.integers(1, 200).map(SEED.__getitem__),
    ),
)


def check_mutated(edits: list[tuple[int, int, str]], seed_text: str = SEED) -> None:
    text = seed_text
    for start, length, snippet in edits:
        text = text[:start] + snippet + text[start + length :]
    with contextlib.suppress(TaskError):
        task = Task.from_yaml_text(text, source="t.yaml")
        unsupported(task)
        assert Task.from_yaml_text(task.to_yaml_text(reveal_secrets=True)) == task
    with contextlib.suppress(TaskError):
        dag = Dag.from_yaml_text(text, source="t.yaml")
        assert Dag.from_yaml_text(dag.to_yaml_text(reveal_secrets=True)) == dag


EDITS = st.lists(EDIT, min_size=1, max_size=6)


@seed(20240601)
@given(EDITS)
@settings(max_examples=examples(500), database=None)
def test_nothing_but_a_task_error_escapes_when_text_is_mutated(edits: list[tuple[int, int, str]]):
    check_mutated(edits)


def test_the_text_that_is_mutated_is_right_when_it_is_not():
    dag = Dag.from_yaml_text(SEED)
    assert [task.name for task in dag.tasks] == ["train", "after"]
    assert len(dag.tasks[0].resources.alternatives()) == 4
    assert Dag.from_yaml_text(dag.to_yaml_text(reveal_secrets=True)) == dag


@pytest.mark.soak
@seed(20240603)
@given(EDITS)
@settings(max_examples=5000, database=None)
def test_nothing_but_a_task_error_escapes_when_much_text_is_mutated(edits: list[tuple[int, int, str]]):
    check_mutated(edits)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(st.text(max_size=4), st.integers(), st.sampled_from(["A", "cpus"])), inner, max_size=3
        ),
    ),
    max_leaves=6,
)
FIELDS = st.sampled_from(sorted(TASK.known))
RESOURCE_FIELDS = st.sampled_from([*RESOURCE_SECTION.known, "gpus", "spot_recovery"])


@seed(20240602)
@given(st.dictionaries(FIELDS, JSON, max_size=4), st.dictionaries(RESOURCE_FIELDS, JSON, max_size=4))
@settings(max_examples=examples(500), database=None)
def test_nothing_but_a_task_error_escapes_when_values_are_anything(fields: dict, resources: dict):
    with contextlib.suppress(TaskError):
        Task.from_yaml_config({**fields, "resources": resources}).digest()
    with contextlib.suppress(TaskError):
        Task.from_yaml_config(fields).digest()
