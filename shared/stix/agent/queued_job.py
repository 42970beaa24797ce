"""One job as the head knows it: its place, what each rank last said, and what follows from that."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Set, Tuple

from . import statuses
from .files import Json
from .plan import Assignment, Demand

_BEGUN = (statuses.ARRIVED, statuses.SETTING_UP, statuses.READY, statuses.RUNNING, statuses.ENDED)


class QueuedJob:
    """Owned by the head's thread. ``version`` grows with every change that a report must tell."""

    def __init__(self, seq: int, spec: Json, state: Json) -> None:
        self.id = int(spec["id"])
        self.seq = seq
        self.spec = spec
        self.status: str = state.get("status", "PENDING")
        self.reason: str = state.get("reason", "")
        self.started_at: Optional[float] = state.get("started_at")
        self.ended_at: Optional[float] = state.get("ended_at")
        self.accepted_at: float = state["accepted_at"]
        self.nodes: List[int] = state.get("nodes", [])
        self.gpus: List[List[int]] = state.get("gpus", [])
        self.exit_codes: List[Optional[int]] = state.get("exit_codes", [])
        self.begun: Set[int] = set(state.get("begun", []))
        self.go: bool = state.get("go", False)
        self.cancelled: bool = state.get("cancelled", False)
        self.grace: Optional[float] = (
            None  # of its cancel; an agent that restarts meanwhile takes the usual one
        )
        self.failure: Optional[Tuple[str, str]] = tuple(state["failure"]) if state.get("failure") else None
        self.failed_rank: Optional[int] = state.get("failed_rank")
        self.ranks: Dict[int, str] = dict.fromkeys(self.nodes, statuses.PREPARING)
        self.heard: Set[int] = set()
        self.outcomes: Dict[int, str] = {}
        self.barrier_at = 0.0
        self.ending_at = 0.0
        self.version = 1
        self.told = 0

    def state(self) -> Json:
        """What is kept on disk."""
        return {
            "status": self.status,
            "reason": self.reason,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "accepted_at": self.accepted_at,
            "nodes": self.nodes,
            "gpus": self.gpus,
            "exit_codes": self.exit_codes,
            "begun": sorted(self.begun),
            "go": self.go,
            "cancelled": self.cancelled,
            "failure": self.failure,
            "failed_rank": self.failed_rank,
        }

    def report(self) -> Json:
        """The wire protocol's entry."""
        names = ("id", "status", "reason", "started_at", "ended_at", "failed_rank")
        return {**{name: getattr(self, name) for name in names}, "exit_codes": list(self.exit_codes)}

    @property
    def placed(self) -> bool:
        return bool(self.nodes)

    @property
    def ended(self) -> bool:
        return self.status in statuses.TERMINAL

    @property
    def ending(self) -> bool:
        """Its ranks are being cancelled."""
        return self.cancelled or self.failure is not None

    def demand(self, now: float) -> Demand:
        wanted: Dict[str, Any] = self.spec.get("demand") or {}
        return Demand(
            job=self.id,
            num_nodes=int(self.spec.get("num_nodes") or 1),
            cpus=float(wanted.get("cpus") or 0.0),
            gpus=float(wanted.get("gpus") or 0.0),
            gpu_name=str(wanted.get("gpu_name") or ""),
            waited=now - self.accepted_at,
        )

    def place(self, assignment: Assignment) -> None:
        self.nodes = list(assignment.ranks)
        self.gpus = [list(indices) for indices in assignment.gpus]
        self.exit_codes = [None] * len(self.nodes)
        self.ranks = dict.fromkeys(self.nodes, statuses.PREPARING)
        self.go = len(self.nodes) == 1

    def hear(self, node: int, message: Json) -> bool:
        """Takes in a rank's state; False when it is nothing new."""
        state = str(message["state"])
        if node not in self.ranks or self.ranks[node] == statuses.ENDED:
            return False
        self.heard.add(node)
        changed = self.ranks[node] != state
        self.ranks[node] = state
        if state in _BEGUN:
            self.begun.add(node)
        started = message.get("started_at")
        if started is not None:
            self.started_at = min(started, self.started_at or started)
        if state == statuses.ENDED:
            self._hear_end(node, message)
        elif state in ("SETTING_UP", "RUNNING"):
            self._move_to(state)
        return changed

    def _hear_end(self, node: int, message: Json) -> None:
        outcome = str(message["outcome"])
        self.outcomes[node] = outcome
        self.exit_codes[self.nodes.index(node)] = message.get("code")
        if outcome != "SUCCEEDED" and not self.ending:
            reason = str(message.get("reason") or "")
            self.failed_rank = self.nodes.index(node)
            if len(self.nodes) > 1 and reason and not reason.startswith("rank "):
                reason = f"rank {self.failed_rank}: {reason}"
            self.failure = (outcome, reason)

    def _move_to(self, status: str) -> None:
        if statuses.ORDER.index(status) > statuses.ORDER.index(self.status):
            self.status = status
            self.version += 1

    def waiting_ranks(self) -> List[int]:
        """Nodes that have not ended their part."""
        return [node for node in self.nodes if self.ranks[node] != statuses.ENDED]

    def all_ready(self) -> bool:
        return all(
            self.ranks[node] in (statuses.READY, statuses.RUNNING, statuses.ENDED) for node in self.nodes
        )

    def give_up_on(self, node: int) -> None:
        """The node does not answer: its part counts as ended, without an exit code."""
        self.ranks[node] = statuses.ENDED
        self.outcomes[node] = "CANCELLED"

    def settle(self, now: float) -> None:
        """All ranks have ended: the job's final status."""
        if self.failure is not None:
            self.end(self.failure[0], self.failure[1], now)
        elif self.cancelled and any(outcome != "SUCCEEDED" for outcome in self.outcomes.values()):
            self.end("CANCELLED", "cancelled", now)
        else:
            self.end("SUCCEEDED", "", now)

    def end(self, status: str, reason: str, now: float) -> None:
        self.status, self.reason, self.ended_at = status, reason, now
        self.version += 1
