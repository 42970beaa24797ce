"""The Dag whose ``with`` block is open, which is where new tasks and ``>>`` go."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from stix.model.errors import TaskError

if TYPE_CHECKING:
    from stix.model.dag import Dag
    from stix.model.task import Task

__all__ = ["OPEN", "current_dag", "join_current_dag"]

OPEN: ContextVar[tuple[Dag, ...]] = ContextVar("open_dags", default=())


def current_dag() -> Dag:
    """The innermost open one. Raises ``TaskError`` when there is none."""
    if not OPEN.get():
        raise TaskError(
            "Tasks are joined by >> outside of a Dag.", hint="Write it inside `with Dag() as dag:`."
        )
    return OPEN.get()[-1]


def join_current_dag(task: Task) -> None:
    """Add the task to the innermost open Dag, if there is one."""
    if OPEN.get():
        OPEN.get()[-1].add(task)
