"""Something happened that a service should look at: it is due now, and a run of its machine begins."""

from __future__ import annotations

from collections.abc import Callable

from stix.application.records import service_key, update
from stix.application.runs import RUN_BEGINS_SECONDS
from stix.application.world import World
from stix.model.service_state import Service
from stix.ports.state_store import Write

__all__ = ["nudge_service", "service_name", "start_service_run"]

_PREFIX = "service/"


def service_name(owner: str) -> str | None:
    """The name of the service that an ``owner`` names; None for no such owner."""
    return owner.removeprefix(_PREFIX) if owner.startswith(_PREFIX) else None


def nudge_service(
    world: World,
    workspace: str,
    name: str,
    *,
    change: Callable[[Service], Service | None] = lambda service: service,
    also: Callable[[], list[Write]] = list,
) -> Service | None:
    """Let the service look at what it has; one that has ended stays as it is. The service as it stands.

    ``change`` may change it besides (None: leave it alone); ``also`` is written in the same transaction. The
    write comes first: a process that dies before the run begins leaves a service that is due within a minute.
    """
    due_at = world.clock.now() + RUN_BEGINS_SECONDS
    nudged: list[bool] = []

    def nudge(current: Service) -> Service | None:
        wanted = None if current.ended_at is not None else change(current)
        nudged[:] = [wanted is not None]
        return None if wanted is None else wanted.changed(due_at=due_at, nudges=current.nudges + 1)

    service = update(world, Service, service_key(workspace, name), nudge, also=also)
    if service is not None and nudged == [True]:
        start_service_run(world, service)
    return service


def start_service_run(world: World, service: Service) -> bool:
    """Start ``service`` for the version of the item that was just written; one version runs once."""
    where = {"workspace": service.workspace, "name": service.name}
    return world.workflows.start("service", f"{service.uid}-{service.version}", {"service": where})
