"""What is known of a pool when it is decided on, and what can be decided. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stix.autoscaling.situation import Memory
from stix.model.pool import Needs

__all__ = ["Assign", "Decision", "Memory", "Remove", "Room", "Seat", "Terms", "Worker"]


@dataclass(frozen=True, slots=True)
class Room:
    """What each of a worker's nodes has; GiB."""

    vcpus: float
    memory_gib: float
    gpus: float = 0.0
    gpu_name: str = ""
    num_nodes: int = 1


@dataclass(frozen=True, slots=True)
class Worker:
    """One that lives, or is on its way. ``ready``: it can take jobs."""

    number: int
    version: int
    room: Room
    ready: bool


@dataclass(frozen=True, slots=True)
class Seat:
    """A job that waits (``worker`` 0) or has a worker since ``began_at``. ``ending``: it holds nothing of the
    worker any more, but must not lose it. ``seconds``: its estimated length, None where nobody said."""

    id: str
    needs: Needs
    asked_at: float
    priority: int = 0
    worker: int = 0
    began_at: float = 0.0
    seconds: float | None = None
    ending: bool = False
    avoid: int = 0

    @property
    def ends_at(self) -> float | None:
        """When it is over by its estimate."""
        return None if self.seconds is None else self.began_at + self.seconds


@dataclass(frozen=True, slots=True)
class Terms:
    """The pool as it is wanted. Between ``least`` and ``most`` workers of ``version``, one for each
    ``threshold`` jobs that wait; delays in seconds. Older versions give way: with ``blue_green`` all at once.
    ``may_launch``: False where nothing can be launched now."""

    least: int
    most: int
    threshold: int
    upscale_delay: float
    downscale_delay: float
    version: int
    blue_green: bool = False
    may_launch: bool = True


@dataclass(frozen=True, slots=True)
class Assign:
    seat: str
    worker: int
    reason: str


@dataclass(frozen=True, slots=True)
class Remove:
    worker: int
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """``waits``: why each job that waits does so. ``launch``: how many workers of the newest version.
    ``look_again_at``: when there may be another decision though nothing happens."""

    target: int
    reason: str
    memory: Memory
    assign: tuple[Assign, ...] = ()
    waits: Mapping[str, str] = field(default_factory=dict)
    launch: int = 0
    remove: tuple[Remove, ...] = ()
    look_again_at: float | None = None
