"""Gateways on machines of their own: launched while a workspace has a service, replaced when lost.

Each gateway is a cluster of one node, so that the loss of one leaves the other as it is.
"""

from __future__ import annotations

from contextlib import suppress

from stix.api.v1 import LaunchRequest
from stix.application.operations import find_operation
from stix.application.owned_clusters import OwnedRun, launch_owned
from stix.application.records import GATEWAYS, child_records, cluster_key, load, put
from stix.application.service_ports import FIRST_PORT, LAST_PORT
from stix.application.service_view import live_services
from stix.application.want import begin
from stix.application.world import World
from stix.model.cluster import Cluster, Node
from stix.model.errors import ConflictError
from stix.model.gateway_fleet import GATEWAYS_OWNER, GatewayFleet
from stix.model.status import ClusterStatus, NodeStatus, OperationStatus, Wanted
from stix.ports.state_store import Key, VersionConflictError

__all__ = ["fleet_key", "gateway_addresses", "gateway_clusters", "keep_gateways"]

_CHECK_SECONDS = 60.0
_FRESH_SECONDS = 120.0
"""The index of services may lag behind: what was asked for so lately stays."""
_FIRST_RETRY, _LONGEST_RETRY = 15.0, 600.0
_TRIES = 12

_SETUP = """\
as_root=$([ "$(id -u)" = 0 ] || echo sudo)
if ! PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v haproxy >/dev/null; then
  if command -v apt-get >/dev/null; then
    $as_root apt-get -qq update
    DEBIAN_FRONTEND=noninteractive $as_root apt-get -qq -y --no-install-recommends install haproxy
  else
    $as_root "$(command -v dnf || command -v yum)" -q -y install haproxy
  fi
  # The package starts one of its own, which nobody needs.
  command -v systemctl >/dev/null && $as_root systemctl disable --now haproxy || true
fi
"""


def fleet_key(workspace: str) -> Key:
    return Key.top(workspace, GatewayFleet.kind, GATEWAYS)


def keep_gateways(world: World, workspace: str, *, asked: bool = False) -> None:
    """One bounded step towards as many gateways as are set, or none where there is no service. ``asked``: a
    service begins and needs them. Does nothing where the gateway is a process beside the control plane."""
    if not world.gateways.nodes:
        return
    for _ in range(_TRIES):
        try:
            if not _step(world, workspace, asked):
                return
        except VersionConflictError:
            continue
    raise ConflictError("The gateways are being changed by others too often.", hint="Try again.", code="busy")


def gateway_clusters(world: World, workspace: str) -> list[Cluster]:
    """Those of the gateways that are not to end, up or not."""
    fleet = _find(world, workspace)
    return [] if fleet is None else _clusters(world, fleet)


def gateway_addresses(world: World, workspace: str) -> list[str]:
    """Where people reach the gateways that are up; a service is at its port of each."""
    if not world.gateways.nodes:
        return [world.gateways.address]
    found = []
    for cluster in gateway_clusters(world, workspace):
        if cluster.status is ClusterStatus.UP:
            for node in child_records(world, Node, workspace, cluster.id):
                address = node.public_address or node.address
                if address and node.status is NodeStatus.UP:
                    found.append(address)
    return found


def _step(world: World, workspace: str, asked: bool) -> bool:
    """True where another step follows at once."""
    now = world.clock.now()
    fleet = _find(world, workspace)
    if fleet is None:
        if not asked:
            return False
        fleet = GatewayFleet(workspace=workspace, asked_at=now, due_at=now)
        fleet = fleet.changed(version=world.store.transact([put(fleet)])[0].version)
    elif asked and (not fleet.on or fleet.asked_at < now - _FRESH_SECONDS / 2):
        fleet = fleet.changed(asked_at=now, on=True, failures=0, not_before=0.0)
    wanted = world.gateways.nodes if _serves(world, fleet, now) else 0
    clusters = _clusters(world, fleet)
    refused = {one.id: why for one in clusters if (why := _refused(world, one)) is not None}
    others = [one for one in clusters if one.id not in refused]
    lost = {one.id: why for one in others if (why := _lost(world, one)) is not None}
    leaving = [one for one in clusters if one.id in refused or one.id in lost]
    good = [one for one in clusters if one not in leaving]
    if refused:
        failures = fleet.failures + 1
        wait = min(_LONGEST_RETRY, _FIRST_RETRY * 2 ** min(failures, 10))
        fleet = fleet.changed(failures=failures, not_before=now + wait)
    elif any(cluster.status is ClusterStatus.UP for cluster in good):
        fleet = fleet.changed(failures=0)
    if len(good) < wanted and now >= fleet.not_before:
        _launch(world, fleet, [*good, *leaving])
        return True
    whys = refused | lost
    for cluster in [*good[wanted:], *leaving]:
        with suppress(ConflictError):  # It is gone already.
            begin(world, cluster, "down", Wanted.ABSENT, whys.get(cluster.id, "no service needs it"))
    kept = tuple(cluster.id for cluster in good[:wanted])
    reason = next(iter(whys.values()), "" if kept else "no service needs one")
    on = bool(wanted)
    settled = fleet.changed(clusters=kept, reason=reason, on=on, due_at=now + _CHECK_SECONDS if on else None)
    world.store.transact([put(settled)])
    return False


def _serves(world: World, fleet: GatewayFleet, now: float) -> bool:
    services = live_services(world, fleet.workspace)
    if services:
        return True
    return fleet.on and not fleet.clusters and now < fleet.asked_at + _FRESH_SECONDS


def _refused(world: World, cluster: Cluster) -> str | None:
    """Why no place took it; None for one that was made, or still may be."""
    operation = find_operation(world, cluster.workspace, cluster.operation_id)
    if (
        cluster.status is ClusterStatus.UP
        or operation is None
        or operation.status is not OperationStatus.FAILED
    ):
        return None
    return str((operation.error or {}).get("message") or cluster.reason)


def _lost(world: World, cluster: Cluster) -> str | None:
    """Why a gateway that was up is to be replaced; None for one that need not be."""
    if cluster.status is ClusterStatus.UP:
        nodes = child_records(world, Node, cluster.workspace, cluster.id)
        silent = [node for node in nodes if node.status is NodeStatus.UNREACHABLE]
        return f"{silent[0].machine_id} does not report" if silent else None
    operation = find_operation(world, cluster.workspace, cluster.operation_id)
    launched = operation is None or operation.status.terminal
    return cluster.reason or "its machine was lost" if launched else None


def _launch(world: World, fleet: GatewayFleet, others: list[Cluster]) -> None:
    """One more gateway, in one transaction with the fleet that names it."""
    local = world.gateways.infra.partition("/")[0] == "local"
    task = {
        "name": "gateway",
        "resources": {
            **({"infra": world.gateways.infra} if world.gateways.infra else {}),
            # Forwarding is cheap: thousands of requests a second take one CPU.
            "cpus": "0.5+" if local else "2+",
            "memory": "0.1+" if local else "2+",
            # The first one is that of the door for tunnels.
            "ports": f"{FIRST_PORT - 1}-{LAST_PORT}",
        },
        "setup": _SETUP,
        "run": "echo The gateway runs beside this job, kept by the agent.",
    }
    launch_owned(
        world,
        fleet.workspace,
        LaunchRequest(task=task),
        OwnedRun(
            owner=GATEWAYS_OWNER,
            user="",
            name="gateway",
            task_id="",
            managed={},
            reason="services are reached through it",
            writes=lambda cluster, _job: [
                put(
                    fleet.changed(
                        on=True,
                        clusters=(*(one.id for one in others), cluster.id),
                        due_at=world.clock.now() + _CHECK_SECONDS,
                    )
                )
            ],
        ),
    )


def _find(world: World, workspace: str) -> GatewayFleet | None:
    item = world.store.get(fleet_key(workspace))
    return None if item is None else load(GatewayFleet, item)


def _clusters(world: World, fleet: GatewayFleet) -> list[Cluster]:
    if not fleet.clusters:
        return []
    items = world.store.get_many([cluster_key(fleet.workspace, one) for one in fleet.clusters])
    found = [load(Cluster, item) for item in items if item is not None]
    # One that its cloud stopped is there still, and to be ended.
    return [cluster for cluster in found if not cluster.ended and cluster.wanted is not Wanted.ABSENT]
