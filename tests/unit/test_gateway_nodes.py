"""Gateways on machines: there while a service is, two of them, replaced when lost, gone with the last one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stix.agent.gateway_door import DOOR_PORT as AGENT_DOOR_PORT
from stix.api.v1_services import ServiceUpRequest
from stix.application import submit_service, sweep
from stix.application.gateway_feed import report_gateway, wake_gateways
from stix.application.gateway_nodes import gateway_addresses, gateway_clusters, keep_gateways
from stix.application.gateway_routes import DOOR_PORT
from stix.application.operations import finish
from stix.application.records import put, service_key, update
from stix.application.service_ports import take_port
from stix.application.world import Gateways
from stix.model.cluster import Cluster
from stix.model.errors import ForbiddenError, InvalidInputError, NoOfferError
from stix.model.service_state import Replica, Service, ServiceVersion
from stix.model.status import ClusterStatus, NodeStatus, OperationStatus, ReplicaStatus, Wanted
from stix.runtime.gateway_settings import gateways_from
from tests.unit.world import ANN, FAKE_FACTS, WORKSPACE, ControlPlane

SPEC = {"readiness_probe": "/health"}


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[ControlPlane]:
    made = ControlPlane(tmp_path)
    made.world = replace(made.world, gateways=Gateways(nodes=2))
    yield made
    made.close()


def serve(plane: ControlPlane, name: str = "chat") -> None:
    now = plane.clock.now()
    version = ServiceVersion(number=1, created_at=now, spec=SPEC, request_key="", port=8000)
    service = Service(
        workspace=WORKSPACE,
        name=name,
        uid=f"{name}-1",
        since=now,
        created_at=now,
        port=30001,
        versions=(version,),
        serving=(1,),
        due_at=now + 60,
    )
    plane.store.transact([put(service)])
    keep_gateways(plane.world, WORKSPACE, asked=True)


def end(plane: ControlPlane, name: str = "chat") -> None:
    now = plane.clock.now()
    key = service_key(WORKSPACE, name)
    update(plane.world, Service, key, lambda one: one.changed(ended_at=now, due_at=None))
    keep_gateways(plane.world, WORKSPACE)


def up(plane: ControlPlane, cluster: Cluster) -> Cluster:
    """What the launch machine does, and the node's agent."""
    assert plane.rank(cluster) == "RANKED"
    assert plane.create(cluster) == "CREATED"
    plane.await_join(cluster, f"token-{cluster.id}")
    plane.join(cluster, public_address="198.51.100.7")
    assert plane.hand_over(cluster) == "UP"
    return plane.by_id(cluster)


def test_gateways_are_launched_when_the_first_service_begins(plane: ControlPlane) -> None:
    keep_gateways(plane.world, WORKSPACE)
    assert gateway_clusters(plane.world, WORKSPACE) == []
    serve(plane)
    serve(plane, "draw")
    clusters = gateway_clusters(plane.world, WORKSPACE)
    assert [(one.owner, one.num_nodes, one.ports) for one in clusters] == [
        ("gateways", 1, ("30000-32000",))
    ] * 2
    assert plane.workflows.machines().count("launch") == 2
    assert gateway_addresses(plane.world, WORKSPACE) == []
    for cluster in clusters:
        up(plane, cluster)
    assert len(gateway_addresses(plane.world, WORKSPACE)) == 2


def test_gateways_are_not_launched_when_one_runs_beside_the_control_plane(plane: ControlPlane) -> None:
    plane.world = replace(plane.world, gateways=Gateways(nodes=0))
    serve(plane)
    assert plane.workflows.runs == []
    assert gateway_addresses(plane.world, WORKSPACE) == ["127.0.0.1"]


def test_gateways_end_when_the_last_service_has(plane: ControlPlane) -> None:
    serve(plane)
    serve(plane, "draw")
    clusters = [up(plane, one) for one in gateway_clusters(plane.world, WORKSPACE)]
    end(plane)
    assert len(gateway_clusters(plane.world, WORKSPACE)) == 2
    end(plane, "draw")
    assert gateway_clusters(plane.world, WORKSPACE) == []
    assert {plane.by_id(one).wanted for one in clusters} == {Wanted.ABSENT}
    plane.pass_time(7200)
    assert not _fleet_is_due(plane)
    serve(plane, "write")
    assert len(gateway_clusters(plane.world, WORKSPACE)) == 2


def _fleet_is_due(plane: ControlPlane) -> bool:
    return any(plane.store.due("gateway_fleet", shard, plane.clock.now()) for shard in range(16))


@pytest.mark.parametrize("how", ["silent", "lost", "stopped"])
def test_gateway_is_replaced_when_its_machine_is_lost(plane: ControlPlane, how: str) -> None:
    serve(plane)
    first, second = (up(plane, one) for one in gateway_clusters(plane.world, WORKSPACE))
    if how == "silent":
        node = plane.nodes(first)[0]
        plane.store.transact([put(node.changed(status=NodeStatus.UNREACHABLE))])
    elif how == "stopped":
        stopped = {"status": ClusterStatus.STOPPED, "wanted": Wanted.STOPPED, "reason": "its machine ended"}
        plane.store.transact([put(plane.by_id(first).changed(**stopped))])
    else:
        changed = plane.by_id(first).changed(status=ClusterStatus.INIT, reason="a node was lost: m-1 is gone")
        plane.store.transact([put(changed)])
    plane.pass_time(61)
    sweep.sweep(plane.world)
    now = [one.id for one in gateway_clusters(plane.world, WORKSPACE)]
    assert len(now) == 2
    assert second.id in now
    assert first.id not in now
    assert plane.by_id(first).wanted is Wanted.ABSENT


def test_gateway_is_launched_again_later_when_no_place_took_it(plane: ControlPlane) -> None:
    serve(plane)
    for cluster in gateway_clusters(plane.world, WORKSPACE):
        finish(
            plane.world,
            WORKSPACE,
            cluster.operation_id,
            OperationStatus.FAILED,
            NoOfferError("no place had one", hint="Wait."),
        )
    keep_gateways(plane.world, WORKSPACE)
    assert gateway_clusters(plane.world, WORKSPACE) == []
    launched = plane.workflows.machines().count("launch")
    plane.pass_time(5)
    keep_gateways(plane.world, WORKSPACE)
    assert plane.workflows.machines().count("launch") == launched
    plane.pass_time(61)
    keep_gateways(plane.world, WORKSPACE)
    assert len(gateway_clusters(plane.world, WORKSPACE)) == 2


def test_gateway_node_is_told_the_view_once_when_it_asks(plane: ControlPlane) -> None:
    serve(plane)
    cluster = up(plane, gateway_clusters(plane.world, WORKSPACE)[0])
    told = plane.commands(cluster, gateway="")
    assert [one["name"] for one in told["gateway_view"]["services"]] == ["chat"]
    again = plane.commands(cluster, gateway=told["gateway"])
    assert "gateway_view" not in again
    serve(plane, "draw")
    wake_gateways(plane.world, WORKSPACE)
    assert f"node/{cluster.id}/0" in plane.wake.topics
    changed = plane.commands(cluster, gateway=told["gateway"])
    assert [one["name"] for one in changed["gateway_view"]["services"]] == ["chat", "draw"]


def test_node_is_no_gateway_when_its_cluster_is_a_persons(plane: ControlPlane) -> None:
    cluster = plane.bring_up()
    assert "gateway_view" not in plane.commands(cluster, gateway="")
    with pytest.raises(ForbiddenError):
        report_gateway(plane.world, plane.node_principal(cluster), {"services": {}})


def replica_of(plane: ControlPlane, **place: str) -> Cluster:
    """A cluster of the service ``chat`` that is up, somewhere else."""
    cluster = plane.bring_up("replica")
    assert cluster.offer is not None
    elsewhere = cluster.offer.model_copy(update=place)
    plane.store.transact([put(cluster.changed(owner="service/chat", offer=elsewhere))])
    replica = Replica(
        workspace=WORKSPACE,
        service="chat",
        service_uid="chat-1",
        id=1,
        service_version=1,
        status=ReplicaStatus.STARTING,
        since=0,
        offer=elsewhere,
        launched_at=0,
        cluster_id=cluster.id,
        cluster_name=cluster.name,
        address="10.0.0.0",
        port=8000,
    )
    plane.store.transact([put(replica)])
    return plane.by_id(cluster)


def gateway_up(plane: ControlPlane) -> Cluster:
    serve(plane)
    return up(plane, gateway_clusters(plane.world, WORKSPACE)[0])


def shown(plane: ControlPlane, gateway: Cluster) -> dict[str, Any]:
    view: dict[str, Any] = plane.commands(gateway, gateway="")["gateway_view"]
    return view


def test_replica_is_shown_by_its_private_address_when_it_is_in_the_gateways_network(
    plane: ControlPlane,
) -> None:
    gateway = gateway_up(plane)
    replica = replica_of(plane)
    view = shown(plane, gateway)
    assert view["services"][0]["replicas"][0]["address"] == "10.0.0.0"
    assert "tunnels" not in view
    assert "tunnels" not in plane.commands(replica, tunnels="")


def test_replica_is_shown_by_its_public_address_when_it_is_elsewhere_and_opens_ports(
    plane: ControlPlane,
) -> None:
    facts = {"fake": replace(FAKE_FACTS, opens_ports=True)}
    plane.world = replace(plane.world, clouds=facts)
    gateway = gateway_up(plane)
    replica = replica_of(plane, region="south")
    node = plane.nodes(replica)[0]
    plane.store.transact([put(node.changed(public_address="203.0.113.5"))])
    entry = shown(plane, gateway)["services"][0]["replicas"][0]
    assert (entry["address"], entry["port"]) == ("203.0.113.5", 8000)


def test_replica_opens_a_tunnel_when_nothing_reaches_it(plane: ControlPlane) -> None:
    gateway = gateway_up(plane)
    replica = replica_of(plane, region="south")
    told = plane.commands(replica, tunnels="")
    (tunnel,) = told["tunnels"]
    assert (tunnel["id"], tunnel["target"]) == (gateway.id, "10.0.0.0:8000")
    assert "host_keys" not in tunnel
    assert "tunnels" not in plane.commands(replica, tunnels=told["tunnels_digest"])

    plane.wake.topics.clear()
    plane.report(replica, facts={"tunnel": {"key": "ssh-ed25519 AAAA"}})
    assert f"node/{gateway.id}/0" in plane.wake.topics
    view = shown(plane, gateway)
    assert view["tunnels"] == [{"listen": tunnel["listen"], "key": "ssh-ed25519 AAAA"}]
    entry = view["services"][0]["replicas"][0]
    assert f"{entry['address']}:{entry['port']}" == tunnel["listen"]

    plane.wake.topics.clear()
    door = {"port": 30000, "user": "root", "host_keys": ["ssh-ed25519 BBBB"]}
    plane.report(gateway, facts={"door": door})
    assert f"node/{replica.id}/0" in plane.wake.topics
    (tunnel,) = plane.commands(replica, tunnels=told["tunnels_digest"])["tunnels"]
    assert tunnel | door == tunnel
    assert tunnel["host"] == plane.nodes(gateway)[0].public_address or plane.nodes(gateway)[0].address


def test_door_is_the_port_that_the_agent_opens() -> None:
    assert DOOR_PORT == AGENT_DOOR_PORT


def test_service_is_refused_when_its_gateway_cannot_run_here(plane: ControlPlane) -> None:
    lacking = Gateways(
        nodes=0, missing=lambda: "The gateway needs HAProxy. Install it: `apt-get install haproxy`."
    )
    world = replace(plane.world, gateways=lacking)
    task = {"service": SPEC, "resources": {"ports": "8000"}, "run": "serve"}
    with pytest.raises(InvalidInputError) as refused:
        submit_service.up(world, ANN, ServiceUpRequest(name="chat", task=task), None)
    assert refused.value.message == "The gateway needs HAProxy."
    assert "apt-get install haproxy" in refused.value.hint
    assert plane.workflows.runs == []


def test_service_takes_the_next_port_when_something_else_has_the_first(plane: ControlPlane) -> None:
    world = replace(plane.world, gateways=Gateways(nodes=0, usable_port=lambda port: port > 30002))
    assert take_port(world, WORKSPACE, "chat-1")[0] == 30003


@pytest.mark.parametrize("given", ["3", "-1", "two"])
def test_number_of_gateways_is_refused_when_it_is_none(given: str) -> None:
    with pytest.raises(InvalidInputError, match="STIX_GATEWAY_NODES"):
        gateways_from({"STIX_GATEWAY_NODES": given}, nodes=0)


def test_number_of_gateways_is_taken_from_the_environment_when_it_is_set() -> None:
    assert gateways_from({}, nodes=2).nodes == 2
    found = gateways_from({"STIX_GATEWAY_NODES": "1", "STIX_GATEWAY_INFRA": "aws/us-east-1"}, nodes=0)
    assert (found.nodes, found.infra) == (1, "aws/us-east-1")
    assert gateways_from({}, nodes=2, infra="aws/eu-west-1").infra == "aws/eu-west-1"
    with pytest.raises(InvalidInputError, match="from 1 to 2"):
        gateways_from({"STIX_GATEWAY_NODES": "0"}, nodes=2, least=1)
