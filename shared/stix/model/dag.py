"""Several tasks and what each waits for: pipelines, general graphs and job groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextvars import Token
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from stix.model.current_dag import OPEN
from stix.model.dag_file import Header, parse_header, read_dag_documents
from stix.model.durations import Deadline, Seconds
from stix.model.errors import TaskError
from stix.model.names import did_you_mean
from stix.model.problems import FieldPath, Problem, placed_error, task_error
from stix.model.quantities import parse_transfer
from stix.model.shapes import at_path
from stix.model.task import Objective, Task
from stix.model.yaml_source import Document, dump_yaml, read_task_file

__all__ = ["Dag", "Edge"]


@dataclass(frozen=True, slots=True)
class Edge:
    """``child`` runs after ``parent`` (places in ``Dag.tasks``) and reads ``gb`` GB that it wrote; None where
    that is not said: then it is what the parent's ``outputs`` say."""

    parent: int
    child: int
    gb: float | None = None


class Dag:
    """Tasks in the order in which they were added, and edges between them, never in a circle.

    ``with Dag() as dag:`` takes in every task that is made in the block; ``a >> b`` joins two. With
    ``execution`` parallel it is a job group: all tasks run at once on one infra, and end with the
    ``primary_tasks``. ``deadline``, ``max_cost`` (USD) and ``optimize`` are for all tasks together.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        execution: str | None = None,
        primary_tasks: Iterable[str] = (),
        termination_delay: Any = None,
        inter_connection: bool | None = None,
        deadline: Any = None,
        max_cost: float | None = None,
        optimize: str | None = None,
    ) -> None:
        given = {
            "name": name,
            "execution": execution,
            "primary_tasks": list(primary_tasks) or None,
            "termination_delay": termination_delay,
            "inter_connection": inter_connection,
            "deadline": deadline,
            "max_cost": max_cost,
            "optimize": optimize,
        }
        header, problems = at_path(parse_header, given, ())
        if problems:
            raise task_error(problems)
        self.header: Header = header
        self.tasks: list[Task] = []
        self.edges: list[Edge] = []
        self._tokens: list[Token[tuple[Dag, ...]]] = []

    @property
    def name(self) -> str | None:
        return self.header.name

    @property
    def execution(self) -> str:
        """``serial`` or ``parallel``."""
        return self.header.execution

    @property
    def primary_tasks(self) -> tuple[str, ...]:
        return self.header.primary_tasks

    @property
    def inter_connection(self) -> bool:
        return self.header.inter_connection

    @property
    def deadline(self) -> Deadline | None:
        return self.header.deadline

    @property
    def max_cost(self) -> float | None:
        return self.header.max_cost

    @property
    def optimize(self) -> Objective:
        return self.header.optimize

    def termination_delay(self, task: str) -> Seconds:
        """How long ``task`` of a job group may go on once the primary tasks have ended."""
        delays = dict(self.header.termination_delay)
        return delays.get(task, delays.get("default", Seconds(0)))

    def __enter__(self) -> Dag:
        self._tokens.append(OPEN.set((*OPEN.get(), self)))
        return self

    def __exit__(self, *error: object) -> None:
        """Raises ``TaskError`` for a task's ``depends_on`` that cannot be followed."""
        OPEN.reset(self._tokens.pop())
        if error[0] is None and (problems := self._join()):
            raise task_error(one for _, one in problems)

    def __len__(self) -> int:
        return len(self.tasks)

    def __repr__(self) -> str:
        return f"Dag(name={self.name!r}, tasks={len(self.tasks)}, edges={len(self.edges)})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Dag):
            return NotImplemented
        return self._meaning() == other._meaning()

    def _meaning(self) -> tuple[Any, ...]:
        configs = [task.to_yaml_config(reveal_secrets=True) for task in self.tasks]
        tasks = [{name: value for name, value in one.items() if name != "depends_on"} for one in configs]
        return self.header, tasks, {(edge.parent, edge.child): edge.gb for edge in self.edges}

    __hash__ = None  # type: ignore[assignment]

    def add(self, task: Task) -> None:
        """Add a task; one that is in it already stays once."""
        if all(task is not one for one in self.tasks):
            self.tasks.append(task)

    def remove(self, task: Task) -> None:
        """Take a task out, with its edges."""
        at = self._place(task)
        del self.tasks[at]
        self.edges = [
            Edge(edge.parent - (edge.parent > at), edge.child - (edge.child > at), edge.gb)
            for edge in self.edges
            if at not in (edge.parent, edge.child)
        ]

    def add_edge(self, parent: Task, child: Task, gb: float | str | None = None) -> None:
        """``child`` runs after ``parent`` and reads ``gb`` (GB, or text with a unit) from it. Adds tasks that
        are not in it yet. Raises ``TaskError`` when that makes a circle."""
        size, problems = at_path(lambda given: None if given is None else parse_transfer(given), gb, ("gb",))
        if problems:
            raise task_error(problems)
        self.add(parent)
        self.add(child)
        edge = Edge(self._place(parent), self._place(child), size)
        circle = self._way(edge.child, edge.parent)
        if circle is not None:
            raise TaskError(
                f"{self.label(edge.child)} cannot run after {self.label(edge.parent)}: {self._told(circle)}.",
                hint="Tasks cannot wait for each other in a circle.",
            )
        kept = [one for one in self.edges if (one.parent, one.child) != (edge.parent, edge.child)]
        self.edges = [*kept, edge]

    def _place(self, task: Task) -> int:
        for index, one in enumerate(self.tasks):
            if one is task:
                return index
        raise TaskError(f"The task {task.name!r} is not in the Dag.", hint="Add it first.")

    def _way(self, start: int, end: int) -> list[int] | None:
        """A way along the edges, both ends included; None where there is none."""
        ways = {start: [start]}
        found = [start]
        while found:
            at = found.pop()
            if at == end:
                return ways[at]
            for edge in self.edges:
                if edge.parent == at and edge.child not in ways:
                    ways[edge.child] = [*ways[at], edge.child]
                    found.append(edge.child)
        return None

    def _told(self, circle: list[int]) -> str:
        if len(circle) == 1:
            return "it is the same task"
        return "there is already " + " -> ".join(map(self.label, circle))

    def label(self, index: int) -> str:
        """A task's name, or ``task N``, from 1, where it has none."""
        return self.tasks[index].name or f"task {index + 1}"

    def gb(self, edge: Edge) -> float:
        """What goes along an edge: its own size, or all that the parent's ``outputs`` say, or 0."""
        return sum(self.tasks[edge.parent].outputs.values()) if edge.gb is None else edge.gb

    def parents(self, index: int) -> list[Edge]:
        return [edge for edge in self.edges if edge.child == index]

    def is_chain(self) -> bool:
        """Whether each task but the first runs after the one before it, and after nothing else."""
        order = self.topological_order()
        pairs = {(edge.parent, edge.child) for edge in self.edges}
        return pairs == set(pairwise(order))

    def topological_order(self) -> list[int]:
        """Places in ``tasks``, parents first, else as they were added."""
        waiting = {index: {edge.parent for edge in self.parents(index)} for index in range(len(self.tasks))}
        order: list[int] = []
        while waiting:
            ready = next(index for index, parents in waiting.items() if not parents)
            del waiting[ready]
            order.append(ready)
            for parents in waiting.values():
                parents.discard(ready)
        return order

    def validate(self) -> None:
        """Raise ``TaskError`` when it is empty, or names are missing, given twice or not those of a task."""
        if problems := [problem for _, problem in self._problems()]:
            raise task_error(problems)

    def _problems(self) -> list[tuple[int | None, Problem]]:
        """With the place of the task; None for the header."""
        found: list[tuple[int | None, Problem]] = []
        if not self.tasks:
            found.append((None, Problem((), "there is no task in it.", "Write one document a task.")))
        names: dict[str, int] = {}
        for index, task in enumerate(self.tasks):
            if task.name is not None and task.name in names:
                text = f"task {names[task.name] + 1} has that name already."
                found.append((index, Problem(("name",), text, "Names are unique.", task.name)))
            elif task.name is not None:
                names[task.name] = index
            elif self.execution == "parallel":
                found.append((index, Problem(("name",), "a job group's task needs a name.", "Add name:.")))
        listed: list[tuple[FieldPath, str]] = [
            (("primary_tasks", index), name) for index, name in enumerate(self.primary_tasks)
        ]
        listed += [
            (("termination_delay", name), name)
            for name, _ in self.header.termination_delay
            if name != "default"
        ]
        for path, name in listed:
            if name not in names:
                hint = did_you_mean(name, names) if names else "Give the tasks names."
                found.append((None, Problem(path, f'there is no task "{name}".', hint)))
        return found

    @classmethod
    def from_yaml(cls, path: str | Path) -> Dag:
        """Read a file of one or several documents. Raises ``TaskError``."""
        return cls.from_yaml_text(read_task_file(path), source=str(path))

    @classmethod
    def from_yaml_text(cls, text: str, *, source: str = "") -> Dag:
        """A header, where the first document is one, and a task in each other document. Where none of them
        has ``depends_on`` (it may be empty), each runs after the one before it. Raises ``TaskError``."""
        header, documents = read_dag_documents(text, source=source)
        return cls._from_documents(header, documents)

    @classmethod
    def from_yaml_configs(cls, configs: Iterable[Mapping[str, Any]]) -> Dag:
        """From plain values, one mapping a document. Raises ``TaskError``."""
        return cls.from_yaml_text("---\n".join(dump_yaml(config) for config in configs))

    @classmethod
    def _from_documents(cls, header: Document | None, documents: list[Document]) -> Dag:
        parsed, wrong = at_path(parse_header, header.config if header else {}, ())
        dag = cls()
        dag.header = parsed or dag.header
        problems: list[tuple[Document | None, Problem]] = [
            (header, one) for one in [*(header.problems if header else ()), *wrong]
        ]
        for document in documents:
            task, wrong = Task.from_document(document)
            problems += ((document, one) for one in wrong)
            dag.tasks.append(task or Task.model_construct(name=_name_in(document)))
        is_graph = any(document.config.get("depends_on") is not None for document in documents)
        if not is_graph and dag.execution == "serial":
            dag.edges = [Edge(index, index + 1) for index in range(len(documents) - 1)]
        else:
            problems += ((documents[index], one) for index, one in dag._join())
        problems += ((header if index is None else documents[index], one) for index, one in dag._problems())
        if problems:
            first = header or documents[0]
            located = [(document or first, one) for document, one in problems]
            placed = [(where.line_of(one.path) or where.start, one) for where, one in located]
            raise placed_error(placed, source=first.source)
        return dag

    def _join(self) -> list[tuple[int, Problem]]:
        """Edges by ``depends_on``; what is wrong with it, by task."""
        names = {task.name: index for index, task in reversed(list(enumerate(self.tasks))) if task.name}
        problems = []
        for child, task in enumerate(self.tasks):
            for name, gb in task.depends_on.items():
                path = ("depends_on", name)
                if self.execution == "parallel":
                    text = "the tasks of a job group run at once."
                    problems.append((child, Problem(path, text, "Remove it, or execution: parallel.")))
                elif name not in names:
                    hint = did_you_mean(name, names) if names else "Give the tasks names."
                    problems.append((child, Problem(path, f'there is no task "{name}".', hint, name)))
                elif any((one.parent, one.child) == (names[name], child) for one in self.edges):
                    continue
                elif (circle := self._way(child, names[name])) is not None:
                    text = f"tasks wait for each other in a circle: {self._told(circle)}."
                    problems.append((child, Problem(path, text, "Remove one of them.")))
                else:
                    self.edges.append(Edge(names[name], child, gb))
        return problems

    def to_yaml_configs(self, *, reveal_secrets: bool = False) -> list[dict[str, Any]]:
        """Plain values, one mapping a document, the header first where it says anything. Raises ``TaskError``
        when the edges need names that tasks do not have."""
        serial = [Edge(index, index + 1) for index in range(len(self.tasks) - 1)]
        plain_chain = self.edges == serial or self.execution == "parallel"
        configs = [task.to_yaml_config(reveal_secrets=reveal_secrets) for task in self.tasks]
        for index, config in enumerate(configs):
            config.pop("depends_on", None)
            parents = [] if plain_chain else self.parents(index)
            if nameless := [edge.parent for edge in parents if self.tasks[edge.parent].name is None]:
                raise TaskError(
                    f"{self.label(nameless[0])} has no name.", hint="Others depend on it: name it."
                )
            if parents:
                config["depends_on"] = {str(self.tasks[edge.parent].name): edge.gb for edge in parents}
            elif not plain_chain and not self.edges:
                config["depends_on"] = []
        header = self.header.to_config()
        return [header, *configs] if header else configs

    def to_yaml_text(self, *, reveal_secrets: bool = False) -> str:
        """``to_yaml_configs`` as YAML text of several documents."""
        return "---\n".join(dump_yaml(one) for one in self.to_yaml_configs(reveal_secrets=reveal_secrets))


def _name_in(document: Document) -> str | None:
    name = document.config.get("name")
    return name if isinstance(name, str) else None
