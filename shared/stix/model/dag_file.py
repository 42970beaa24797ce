"""The documents of a Dag's file: perhaps a header, and one task each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stix.model.durations import Deadline, Seconds, duration_text, parse_deadline, seconds_or_duration
from stix.model.errors import TaskError
from stix.model.plain import given_fields
from stix.model.problems import Problem, refuse_all
from stix.model.shapes import choice, each, flag, mapping, named, number, text
from stix.model.task import VERBATIM, Objective
from stix.model.task_fields import parse_name
from stix.model.yaml_source import Document, read_documents

__all__ = ["Header", "parse_header", "read_dag_documents"]


@dataclass(frozen=True, slots=True)
class Header:
    """What is said of all tasks together. ``termination_delay`` is by task name, or ``default``."""

    name: str | None = None
    execution: str = "serial"
    primary_tasks: tuple[str, ...] = ()
    termination_delay: tuple[tuple[str, Seconds], ...] = ()
    inter_connection: bool = True
    deadline: Deadline | None = None
    max_cost: float | None = None
    optimize: Objective = "cost"

    def to_config(self) -> dict[str, Any]:
        config = given_fields(self)
        if self.termination_delay:
            delays = {name: duration_text(seconds) for name, seconds in self.termination_delay}
            config["termination_delay"] = delays["default"] if set(delays) == {"default"} else delays
        return config


def _delays(value: Any) -> tuple[tuple[str, Seconds], ...]:
    if isinstance(value, Mapping):
        by_name: dict[str, Seconds] = named(seconds_or_duration, "task: length of time", least=1)(value)
        return tuple(by_name.items())
    return (("default", seconds_or_duration(value)),)


_GROUP_ONLY = ("primary_tasks", "termination_delay", "inter_connection")
_HEADER = mapping(
    "the header",
    {
        "name": parse_name,
        "execution": choice("a way to run tasks", ("serial", "parallel")),
        "primary_tasks": each(text("the name of a task"), "names of tasks"),
        "termination_delay": _delays,
        "inter_connection": flag,
        "deadline": parse_deadline,
        "max_cost": number(above=True, unit="USD"),
        "optimize": choice("an objective", ("cost", "time", "balanced")),
    },
)
_MARKS = frozenset({"execution", *_GROUP_ONLY})
_FIELDS = frozenset({"name", "deadline", "max_cost", "optimize", *_MARKS})


def parse_header(value: Any) -> Header:
    header = Header(**_HEADER(value))
    problems = []
    if header.execution == "serial":
        text = "only a job group has it."
        given = [name for name in _GROUP_ONLY if isinstance(value, Mapping) and value.get(name) is not None]
        problems = [Problem((name,), text, "Write execution: parallel, or remove it.") for name in given]
    elif header.name is None:
        problems = [Problem(("execution",), "a job group needs a name.", "Add name:.")]
    if problems:
        raise refuse_all(problems)
    return header


def read_dag_documents(text: str, *, source: str) -> tuple[Document | None, list[Document]]:
    """The header, None where the first document is a task already, and the tasks. Raises ``TaskError``."""
    documents = read_documents(text, source=source, verbatim=VERBATIM)
    first = documents[0]
    fields = set(first.config)
    if not (fields & _MARKS or (len(documents) > 1 and fields <= _FIELDS)):
        return None, documents
    if len(documents) == 1:
        raise TaskError(
            f"{source or 'The file'}: a header and no task.",
            hint="Write each task below it, after a line ---.",
        )
    return first, documents[1:]
