"""The reference of the task YAML: its examples are right and no field is missing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stix.model.dag import Dag
from stix.model.fields import AUTOSTOP, RESOURCES, TASK
from stix.model.runnable import unsupported
from stix.model.task import Task

TEXT = (Path(__file__).parents[2] / "docs" / "reference" / "task-yaml.md").read_text()
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_is_right_when_read(text: str):
    dag = Dag.from_yaml_text(text, source="docs/reference/task-yaml.md")
    assert len(dag) >= 1
    assert Dag.from_yaml_text(dag.to_yaml_text()) == dag


def test_the_python_example_joins_its_tasks_when_run():
    (code,) = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    names: dict = {}
    exec(code, names)
    assert [task.name for task in names["dag"].tasks] == ["prepare", "train"]
    assert len(names["train"].resources.alternatives()) == 2


@pytest.mark.parametrize("name", [*TASK.known, *RESOURCES.known, *RESOURCES.aliases, *AUTOSTOP.known])
def test_every_field_is_explained_when_it_is_accepted(name: str):
    assert re.search(rf"\b{re.escape(name)}\b", TEXT), name


def test_what_is_marked_later_is_refused_when_launched():
    rows = re.findall(r"^\| (`[^|]*`) \| ([^\n]*)$", TEXT, re.MULTILINE)
    later = {name for fields, rest in rows if "(*later*)" in rest for name in re.findall(r"`(\w+)`", fields)}
    values = {
        "service": {"readiness_probe": "/"},
        "pool": {"workers": 1},
        "volumes": {"/d": "v"},
        "managed_secrets": ["A"],
        "depends_on": ["a"],
        "deadline": "6h",
        "max_duration": "6h",
        "optimize": "time",
        "config": {"hooks": [{"run": "x"}]},
        "workdir": {"url": "https://host/x.git"},
    }
    assert later >= set(values)
    for name, value in values.items():
        assert [one.path[0] for one in unsupported(Task(**{name: value}))] == [name]
