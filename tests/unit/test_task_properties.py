"""Round trip over generated tasks, and a fuzz over mutated text."""

from __future__ import annotations

import contextlib
import string

from hypothesis import given, seed, settings
from hypothesis import strategies as st

from stix.model.errors import TaskError
from stix.model.task import Task

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
    },
)
CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "name": NAMES,
        "workdir": st.sampled_from([".", "~/code", "./$A/b", "a b"]),
        "num_nodes": st.integers(1, 64),
        "resources": st.one_of(st.none(), RESOURCES),
        "envs": st.dictionaries(ENV_NAMES.map(lambda name: f"E{name}"), BLANK_OR, max_size=3),
        "secrets": st.dictionaries(
            ENV_NAMES.map(lambda name: f"S{name}"),
            BLANK_OR.filter(lambda text: text is None or not text.startswith("secrets:")),
            max_size=3,
        ),
        "file_mounts": st.dictionaries(
            st.sampled_from(["/data", "~/x", "rel/path", "/a b/"]),
            st.sampled_from(["./x", "~/y", "/z"]),
            max_size=3,
        ),
        "setup": BLANK_OR,
        "run": BLANK_OR,
    },
)


@given(CONFIGS)
@settings(max_examples=300, deadline=None)
def test_a_task_is_equal_when_dumped_and_parsed_again(config: dict):
    task = Task.from_yaml_config(config)
    assert Task.from_yaml_config(task.to_yaml_config(reveal_secrets=True)) == task
    again = Task.from_yaml_text(task.to_yaml_text(reveal_secrets=True))
    assert again == task
    assert again.digest() == task.digest()
    assert again.to_yaml_config() == task.to_yaml_config()


SEED = """name: train
workdir: ./code
num_nodes: 2
resources:
  infra: aws/us-east-1
  cpus: 4+
  memory: 16GB+
  accelerators: {A100: 8}
  ports: [8080, "80,443"]
  labels: &l {team: a}
  autostop: {idle_minutes: 10, down: true}
envs: {<<: *l, A: 1.10}
secrets:
  TOKEN: hunter2
file_mounts:
  /data: ./data
setup: |
  pip install x
run: |
  python train.py
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


@seed(20240601)
@given(st.lists(EDIT, min_size=1, max_size=6))
@settings(max_examples=500, deadline=None, database=None)
def test_nothing_but_a_task_error_escapes_when_text_is_mutated(edits: list[tuple[int, int, str]]):
    text = SEED
    for start, length, snippet in edits:
        text = text[:start] + snippet + text[start + length :]
    with contextlib.suppress(TaskError):
        task = Task.from_yaml_text(text, source="t.yaml")
        assert Task.from_yaml_text(task.to_yaml_text(reveal_secrets=True)) == task


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
FIELDS = st.sampled_from(
    ["name", "workdir", "num_nodes", "resources", "envs", "secrets", "file_mounts", "setup", "run", "service"]
)
RESOURCE_FIELDS = st.sampled_from(
    [
        "cpus",
        "memory",
        "gpus",
        "infra",
        "cloud",
        "zone",
        "instance_type",
        "use_spot",
        "autostop",
        "ports",
        "labels",
    ]
)


@seed(20240602)
@given(st.dictionaries(FIELDS, JSON, max_size=4), st.dictionaries(RESOURCE_FIELDS, JSON, max_size=4))
@settings(max_examples=500, deadline=None, database=None)
def test_nothing_but_a_task_error_escapes_when_values_are_anything(fields: dict, resources: dict):
    with contextlib.suppress(TaskError):
        Task.from_yaml_config({**fields, "resources": resources}).digest()
    with contextlib.suppress(TaskError):
        Task.from_yaml_config(fields).digest()
