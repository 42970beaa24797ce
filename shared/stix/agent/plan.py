"""Which queued jobs start now, and where: a pure function of the queue and the free room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Set, Tuple

_MILLI = 1000


@dataclass(frozen=True)
class Demand:
    """One queued job; ``cpus`` and ``gpus`` are per node, ``waited`` in seconds."""

    job: int
    num_nodes: int
    cpus: float
    gpus: float
    gpu_name: str = ""
    waited: float = 0.0


@dataclass(frozen=True)
class Gpu:
    """``free`` is the share of it that no job holds, 0 to 1."""

    index: int
    name: str
    free: float = 1.0


@dataclass(frozen=True)
class Room:
    """What a node has left; a node that does not answer is used only where the answering ones are too few."""

    rank: int
    cpus: float
    gpus: Tuple[Gpu, ...] = ()
    answers: bool = True


@dataclass(frozen=True)
class Assignment:
    """``ranks[i]`` is the node of the job's rank i, ``gpus[i]`` the indices granted there."""

    job: int
    ranks: Tuple[int, ...]
    gpus: Tuple[Tuple[int, ...], ...]


def plan(queue: Sequence[Demand], rooms: Sequence[Room], patience: float) -> List[Assignment]:
    """First come, first served over ``queue`` (in submit order), never giving more than there is.

    A job may pass a blocked one that needs more, but none may once that one has waited ``patience`` seconds.
    """
    free = [_Free(room) for room in sorted(rooms, key=lambda room: room.rank)]
    blocked: Set[Tuple[int, float, float, str]] = set()
    found: List[Assignment] = []
    for demand in queue:
        shape = (demand.num_nodes, demand.cpus, demand.gpus, demand.gpu_name)
        assignment = None if shape in blocked else _place(demand, free)
        if assignment is not None:
            found.append(assignment)
            continue
        if demand.waited >= patience:
            break
        blocked.add(shape)
        if not any(node.cpus > 0 for node in free):
            # Only jobs that need no CPU at all could still start; those of a later moment will.
            break
    return found


def impossible(demand: Demand, whole: Sequence[Room], num_nodes: int) -> str:
    """Why no moment will ever come at which the job fits, given every node's whole room; else empty."""
    if demand.num_nodes > num_nodes:
        return f"it asks for {demand.num_nodes} nodes and the cluster has {num_nodes}"
    if demand.gpus > 1 and demand.gpus != int(demand.gpus):
        return f"it asks for {demand.gpus:g} GPUs per node: above one GPU only whole ones can be given"
    fitting = sum(1 for room in whole if _grant(demand, _Free(room)) is not None)
    if fitting + (num_nodes - len(whole)) >= demand.num_nodes:
        return ""
    most_cpus = max((room.cpus for room in whole), default=0.0)
    gpus = max((sum(1 for gpu in room.gpus if _matches(gpu, demand)) for room in whole), default=0)
    wanted = f"{demand.cpus:g} CPUs" + (
        f" and {demand.gpus:g} {demand.gpu_name or 'GPU'}" if demand.gpus else ""
    )
    room_words = f"a node has {most_cpus:g} CPUs and {gpus} such GPUs"
    return f"it asks for {wanted} on each of {demand.num_nodes} nodes; {room_words}"


class _Free:
    """A node's room while a plan is being made, in whole thousandths, so that sums stay exact."""

    def __init__(self, room: Room) -> None:
        self.rank = room.rank
        self.answers = room.answers
        self.cpus = round(room.cpus * _MILLI)
        self.gpus = list(room.gpus)
        self.shares: Dict[int, int] = {gpu.index: round(gpu.free * _MILLI) for gpu in room.gpus}


def _place(demand: Demand, free: List[_Free]) -> Optional[Assignment]:
    grants: List[Tuple[_Free, Tuple[int, ...]]] = []
    for node in sorted(free, key=lambda node: not node.answers):
        if not node.answers and sum(1 for other in free if other.answers) >= demand.num_nodes:
            break
        granted = _grant(demand, node)
        if granted is not None:
            grants.append((node, granted))
            if len(grants) == demand.num_nodes:
                break
    if len(grants) < demand.num_nodes:
        return None
    grants.sort(key=lambda grant: grant[0].rank)
    for node, indices in grants:
        node.cpus -= round(demand.cpus * _MILLI)
        share = round(min(demand.gpus, 1.0) * _MILLI)
        for index in indices:
            node.shares[index] -= share
    return Assignment(
        demand.job, tuple(node.rank for node, _ in grants), tuple(indices for _, indices in grants)
    )


def _grant(demand: Demand, node: _Free) -> Optional[Tuple[int, ...]]:
    """The GPUs to give on this node (empty for none asked); None when the node has no room."""
    if round(demand.cpus * _MILLI) > node.cpus:
        return None
    if demand.gpus <= 0:
        return ()
    share = round(min(demand.gpus, 1.0) * _MILLI)
    count = max(1, int(demand.gpus))
    fitting = [gpu.index for gpu in node.gpus if _matches(gpu, demand) and node.shares[gpu.index] >= share]
    if len(fitting) < count:
        return None
    # The fullest first, so that shares pack together and whole GPUs stay whole.
    fitting.sort(key=lambda index: (node.shares[index], index))
    return tuple(sorted(fitting[:count]))


def _matches(gpu: Gpu, demand: Demand) -> bool:
    wanted, name = demand.gpu_name.lower(), gpu.name.lower()
    return not wanted or not name or wanted in name or name in wanted
