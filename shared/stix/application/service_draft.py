"""One step of a service: what it changes is collected, and written in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stix.application.gateway_feed import wake_gateways
from stix.application.records import child_records, load, put, service_key
from stix.application.world import World
from stix.autoscaling.situation import Decision
from stix.lifecycle.service import service_status
from stix.model.errors import NotFoundError
from stix.model.service_state import Replica, Service, ServiceDecision
from stix.model.status import ReplicaStatus
from stix.ports.state_store import Write
from stix.ports.surroundings import Event

__all__ = ["CHECK_SECONDS", "KEPT_SECONDS", "ServiceDraft", "find_service", "get_service", "wait_topic"]

CHECK_SECONDS = 3600.0
"""How often a service to which nothing happens is looked at."""
KEPT_SECONDS = 3600.0
"""How long a replica that is gone counts as a failure, and is shown."""
_MOST_REPLICAS = 60
"""Of one transaction, which takes a hundred writes."""
_DECISIONS = 30


def wait_topic(workspace: str, name: str) -> str:
    """What a reader of a service waits on."""
    return f"service/{workspace}/{name}"


def find_service(world: World, workspace: str, name: str) -> Service | None:
    """Also one that has ended."""
    item = world.store.get(service_key(workspace, name))
    return None if item is None else load(Service, item)


def get_service(world: World, workspace: str, name: str) -> Service:
    """Raises ``NotFoundError``."""
    service = find_service(world, workspace, name)
    if service is None or service.ended_at is not None:
        raise NotFoundError(
            f"There is no service {name!r}.",
            hint="`stix serve status` lists them; `stix serve up -n NAME task.yaml` makes one.",
            code="service_not_found",
            details={"service": name},
        )
    return service


class ServiceDraft:
    """A service and its replicas as they were read, and as they will be. Times are those of its making.

    ``full``: no further replica may be changed in this step.
    """

    def __init__(self, world: World, service: Service) -> None:
        self.world = world
        self.now = world.clock.now()
        self.service = service
        self.replicas = {one.id: one for one in child_records(world, Replica, service.workspace, service.uid)}
        self._changed: set[int] = set()
        self._events: list[Event] = []
        self._due_at = self.now + CHECK_SECONDS
        self._before = service

    @property
    def full(self) -> bool:
        return len(self._changed) >= _MOST_REPLICAS

    @property
    def kept(self) -> list[Replica]:
        """The replicas that are not forgotten."""
        return [
            one
            for one in self.replicas.values()
            if one.ended_at is None or self.now - one.ended_at < KEPT_SECONDS
        ]

    def change(self, **changes: Any) -> None:
        self.service = self.service.changed(**changes)

    def change_replica(self, number: int, **changes: Any) -> None:
        """A new status begins now."""
        before = self.replicas[number]
        if changes.get("status", before.status) is not before.status:
            changes.setdefault("since", self.now)
        after = before.changed(**changes)
        if after != before:
            self.replicas[number] = after
            self._changed.add(number)

    def add_replica(self, replica: Replica) -> None:
        self.replicas[replica.id] = replica
        self._changed.add(replica.id)

    def look_at(self, moment: float) -> None:
        """Somebody must look by then."""
        self._due_at = min(self._due_at, moment)

    def say(self, name: str, reason: str, *, replica: int | None = None, place: str = "") -> None:
        """Publish an event once the step is written."""
        detail: dict[str, Any] = {"reason": reason}
        if replica is not None:
            detail["replica"] = replica
        if place:
            detail["place"] = place
        self._events.append(Event(name, self.service.workspace, self.service.name, self.now, detail))

    def decided(self, decision: Decision, figures: str, actions: Sequence[str]) -> None:
        """Keep a decision that did something, or settled on another number."""
        known = self.service.decisions
        target = known[-1].target if known else None
        if not actions and decision.target == target:
            return
        entry = ServiceDecision(
            at=self.now,
            version=self.service.active,
            target=decision.target,
            reason=decision.reason,
            figures=figures,
            actions=tuple(actions),
        )
        self.change(decisions=(*known, entry)[-_DECISIONS:])

    def settle(self) -> None:
        """The status of the whole follows from its replicas."""
        status = service_status(self.service, list(self.replicas.values()))
        if status is not self.service.status:
            self.change(status=status, since=self.now)
        if self.service.ready_at is None and any(
            one.status is ReplicaStatus.READY for one in self.replicas.values()
        ):
            self.change(ready_at=self.now)
        self.change(failures=0)

    @property
    def due_at(self) -> float:
        return max(self._due_at, self.now + 1.0)

    def writes(self) -> list[Write]:
        """The service, and the replicas that changed, conditional on the versions that were read."""
        due_at = None if self.service.ended_at is not None else self.due_at
        replicas = [self.replicas[number] for number in sorted(self._changed)]
        return [put(self.service.changed(due_at=due_at)), *(put(one) for one in replicas)]

    def commit(self, also: Sequence[Write] = ()) -> None:
        """Raises ``VersionConflictError``: somebody else moved the service, and the step is to be taken
        again."""
        self.world.store.transact([*self.writes(), *also])
        self.announce()

    def announce(self) -> None:
        """Tell whoever waits, after the step was written."""
        before, after = self._before, self.service
        if self._events:
            self.world.events.publish(*self._events)
        told = ("serving", "versions", "down", "tokens", "ended_at")
        if self._changed or any(getattr(before, name) != getattr(after, name) for name in told):
            wake_gateways(self.world, after.workspace)
        self.world.wake.wake(wait_topic(after.workspace, after.name))
