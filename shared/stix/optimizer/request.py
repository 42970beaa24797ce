"""What is to be placed: tasks with alternatives, the data between them, and what counts as best.

The optimizer's own terms, all plain values. ``stix.optimizer.from_model`` makes them of a ``Task``; nothing
else of this knows the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = [
    "ANY",
    "Alternative",
    "Block",
    "DataSource",
    "Limits",
    "Link",
    "Machine",
    "Objective",
    "Request",
    "TaskRequest",
]

Objective = Literal["cost", "time", "balanced"]
ANY = ""


@dataclass(frozen=True, slots=True)
class Machine:
    """One node. Empty text and None ask for nothing.

    ``accelerator_by_memory``: the accelerator is any with that many GiB (or more, with ``..._at_least``), of
    ``manufacturer`` where one is named; ``accelerator`` is then empty.
    """

    vcpus: float | None = None
    vcpus_at_least: bool = False
    memory_gib: float | None = None
    memory_at_least: bool = False
    memory_per_vcpu: bool = False
    accelerator: str = ANY
    accelerator_count: float = 0.0
    accelerator_by_memory: float | None = None
    accelerator_memory_at_least: bool = False
    manufacturer: str = ANY
    instance_type: str = ANY
    cloud: str = ANY
    region: str = ANY
    zone: str = ANY
    arch: str = ANY
    local_disk_gib: float = 0.0


@dataclass(frozen=True, slots=True)
class Alternative:
    """A machine on one market, with a disk on each node. ``max_hourly_cost``: USD for one node."""

    machine: Machine
    spot: bool = False
    disk_gb: float = 0.0
    disk_tier: str = ANY
    max_hourly_cost: float | None = None


@dataclass(frozen=True, slots=True)
class DataSource:
    """Data that the task reads from, or leaves at, a place outside the plan. An unknown region is taken for
    the task's own."""

    cloud: str
    gb: float
    region: str = ANY


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """``ordered``: earlier alternatives come first, whatever they cost.

    ``seconds`` is the task's own estimate; ``seconds_by_accelerator`` has those for ``A100:8``, for ``A100``
    and for ``default``, every other one.
    """

    name: str
    alternatives: tuple[Alternative, ...]
    ordered: bool = False
    num_nodes: int = 1
    inputs: tuple[DataSource, ...] = ()
    outputs: tuple[DataSource, ...] = ()
    seconds: float | None = None
    seconds_by_accelerator: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Link:
    """``child`` (an index of a task) starts once ``parent`` is done and its ``gb`` have arrived."""

    parent: int
    child: int
    gb: float = 0.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Of the whole plan: USD, and seconds from now to the end of the last task."""

    max_cost: float | None = None
    deadline_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """Where nothing is to be placed; empty fields match everything."""

    cloud: str = ANY
    region: str = ANY
    zone: str = ANY
    instance_type: str = ANY
    spot: bool | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """All tasks in any order; ``links`` must not form a cycle. ``together``: all tasks run in one region.
    ``clouds``: the only ones to be used; None is all of the catalog."""

    tasks: tuple[TaskRequest, ...]
    links: tuple[Link, ...] = ()
    objective: Objective = "cost"
    limits: Limits = field(default_factory=Limits)
    blocked: tuple[Block, ...] = ()
    together: bool = False
    clouds: frozenset[str] | None = None
