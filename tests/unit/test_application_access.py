"""People on the machines: keys, who may open a tunnel and use it, what the relay carries, addresses."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from stix.application import tunnel_relay
from stix.application.endpoints import endpoints
from stix.application.ssh_access import access_key, give_access
from stix.application.tokens import NodePrincipal, UserPrincipal
from stix.application.tunnels import CONNECT_SECONDS, open_tunnel
from stix.model.errors import ConflictError, InvalidInputError, NotFoundError
from stix.ports.compute import Machine
from tests.unit.world import ANN, FAKE_FACTS, WORKSPACE, ControlPlane

KEY = "ssh-ed25519 AAAA"
BOB = UserPrincipal(WORKSPACE, "bob")
STRANGER = UserPrincipal("other", "ann")


class MemorySockets:
    """Connections are open until they are closed here."""

    def __init__(self):
        self.closed: set[str] = set()
        self.posted: list[tuple[str, str]] = []

    def post(self, connection_id, text):
        if connection_id in self.closed:
            return False
        self.posted.append((connection_id, text))
        return True

    def said_to(self, connection_id):
        return [json.loads(text) for to, text in self.posted if to == connection_id]


@pytest.fixture
def plane(tmp_path):
    made = ControlPlane(tmp_path)
    made.sockets = MemorySockets()
    made.world = replace(
        made.world, sockets=made.sockets, clouds={"fake": replace(FAKE_FACTS, opens_ports=True)}
    )
    yield made
    made.close()


@pytest.fixture
def cluster(plane):
    return plane.bring_up(task={"num_nodes": 2, "resources": {"ports": ["8080", "9000-9001"]}})


def asked(plane, cluster, rank, version=0):
    return plane.commands(cluster, rank, access_version=version)


def test_agents_are_told_a_key_once_and_are_ready_when_they_say_so(plane, cluster):
    assert asked(plane, cluster, 0)["access_version"] == 0
    plane.wake.topics.clear()
    access = give_access(plane.world, ANN, "train", KEY)
    assert [node["ready"] for node in access["nodes"]] == [False, False]
    assert plane.wake.topics == [f"node/{cluster.id}/0", f"node/{cluster.id}/1"]
    told = asked(plane, cluster, 1)
    assert told["access"] == {"keys": [{"user": "ann", "key": KEY}], "keys_version": 1, "tunnels": []}
    assert "access" not in asked(plane, cluster, 1, told["access_version"])

    ssh = {"version": 1, "user": "root", "port": 22, "host_keys": ["ssh-ed25519 H"], "problem": ""}
    plane.report(cluster, 1, facts={"ssh": ssh})
    plane.wake.topics.clear()
    first, second = give_access(plane.world, ANN, "train", KEY)["nodes"]
    assert (first["ready"], second["ready"]) == (False, True)
    assert (second["user"], second["port"], second["host_keys"]) == ("root", 22, ["ssh-ed25519 H"])
    assert plane.wake.topics == []

    give_access(plane.world, BOB, "train", "ssh-ed25519 BBBB")
    assert not give_access(plane.world, ANN, "train", KEY)["nodes"][1]["ready"]


def test_agent_of_an_older_release_hears_nothing_of_keys(plane, cluster):
    give_access(plane.world, ANN, "train", KEY)
    assert "access" not in plane.commands(cluster)


def test_keys_are_bounded(plane, cluster):
    for number in range(100):
        give_access(plane.world, ANN, "train", f"ssh-ed25519 {number}")
    with pytest.raises(InvalidInputError, match="100 keys"):
        give_access(plane.world, ANN, "train", KEY)


def test_nobody_gets_in_where_the_cluster_is_not_theirs_or_not_up(plane, cluster):
    with pytest.raises(NotFoundError):
        give_access(plane.world, STRANGER, "train", KEY)
    with pytest.raises(NotFoundError):
        open_tunnel(plane.world, STRANGER, "train", 0)
    plane.boot("cold")
    for use in (
        lambda: give_access(plane.world, ANN, "cold", KEY),
        lambda: open_tunnel(plane.world, ANN, "cold", 0),
    ):
        with pytest.raises(ConflictError) as caught:
            use()
        assert caught.value.code == "cluster_not_up"
    with pytest.raises(InvalidInputError, match="no node 2"):
        open_tunnel(plane.world, ANN, "train", 2)


def test_tunnel_admits_its_two_ends_alone(plane, cluster):
    tunnel = open_tunnel(plane.world, ANN, "train", 1)
    assert tunnel["url"] == f"/socket?tunnel={tunnel['id']}"

    def admitted(who):
        return tunnel_relay.admits(plane.world, who, tunnel["id"])

    node = NodePrincipal(WORKSPACE, cluster.id, 1)
    assert admitted(ANN)
    assert admitted(node)
    others = [
        BOB,
        STRANGER,
        replace(node, rank=0),
        replace(node, cluster_id="c-other"),
        replace(node, workspace="x"),
    ]
    assert not any(admitted(who) for who in others)
    assert not tunnel_relay.admits(plane.world, ANN, "tunnel-none")
    plane.pass_time(CONNECT_SECONDS + 1)
    assert not admitted(ANN)


def test_only_the_nodes_own_agent_is_told_of_a_tunnel_and_only_while_it_can_come(plane, cluster):
    tunnel = open_tunnel(plane.world, ANN, "train", 1)
    assert plane.wake.topics[-1] == f"node/{cluster.id}/1"
    assert asked(plane, cluster, 0)["access"]["tunnels"] == []
    assert asked(plane, cluster, 1)["access"]["tunnels"] == [tunnel]
    plane.pass_time(CONNECT_SECONDS + 1)
    assert asked(plane, cluster, 1)["access"]["tunnels"] == []
    later = open_tunnel(plane.world, ANN, "train", 1)
    item = plane.store.get(access_key(WORKSPACE, cluster.id))
    assert [one["id"] for one in item.body["tunnels"]] == [later["id"]]


@pytest.fixture
def ends(plane, cluster):
    """A tunnel whose two ends are connected: (id, node)."""
    tunnel, node = open_tunnel(plane.world, ANN, "train", 1)["id"], NodePrincipal(WORKSPACE, cluster.id, 1)
    assert tunnel_relay.connect(plane.world, ANN, tunnel, "person")
    assert tunnel_relay.connect(plane.world, node, tunnel, "machine")
    return tunnel, node


def test_messages_go_to_the_other_end_and_each_hears_that_the_other_came(plane, ends):
    tunnel, node = ends
    assert plane.sockets.said_to("person") == [{"x": "here"}]
    tunnel_relay.relay(plane.world, ANN, tunnel, "person", '{"s":0}')
    tunnel_relay.relay(plane.world, node, tunnel, "machine", '{"a":1}')
    assert plane.sockets.said_to("machine") == [{"s": 0}]
    assert plane.sockets.said_to("person")[-1] == {"a": 1}


def test_sender_hears_when_the_other_end_is_away_or_the_tunnel_closed(plane, ends):
    tunnel, _ = ends
    plane.sockets.closed.add("machine")
    tunnel_relay.relay(plane.world, ANN, tunnel, "person", "{}")
    assert plane.sockets.said_to("person")[-1] == {"x": "away"}
    # A connection that was replaced, and one that never was an end.
    assert tunnel_relay.connect(plane.world, ANN, tunnel, "newer")
    for connection in ("person", "nobody"):
        tunnel_relay.relay(plane.world, ANN, tunnel, connection, "{}")
        assert plane.sockets.said_to(connection)[-1] == {"x": "closed"}
    tunnel_relay.disconnect(plane.world, ANN, tunnel, "person")
    tunnel_relay.relay(plane.world, ANN, tunnel, "newer", "{}")
    assert plane.sockets.said_to("newer")[-1] == {"x": "away"}


def test_nothing_is_left_when_both_ends_are_gone(plane, ends):
    tunnel, node = ends
    tunnel_relay.disconnect(plane.world, node, tunnel, "machine")
    assert plane.sockets.said_to("person")[-1] == {"x": "left"}
    assert tunnel_relay.admits(plane.world, node, tunnel)
    tunnel_relay.disconnect(plane.world, ANN, tunnel, "person")
    # A control plane that starts anew loses both, and both come back.
    assert tunnel_relay.connect(plane.world, ANN, tunnel, "again")
    tunnel_relay.disconnect(plane.world, ANN, tunnel, "person")
    assert tunnel_relay.connect(plane.world, node, tunnel, "machine")
    assert plane.sockets.said_to("again")[-1] == {"x": "here"}
    tunnel_relay.disconnect(plane.world, node, tunnel, "machine")
    tunnel_relay.disconnect(plane.world, ANN, tunnel, "again")
    plane.pass_time(61)
    assert plane.store.get(tunnel_relay.tunnel_key(WORKSPACE, tunnel)) is None
    assert not tunnel_relay.connect(plane.world, ANN, tunnel, "late")


def test_record_expires_when_nobody_says_goodbye(plane, ends):
    tunnel, _ = ends
    plane.pass_time(3 * 3600)
    assert plane.store.get(tunnel_relay.tunnel_key(WORKSPACE, tunnel)) is None


def test_access_of_a_cluster_expires_with_it(plane, cluster):
    give_access(plane.world, ANN, "train", KEY)
    from stix.application.settle_cluster import close

    close(plane.world, plane.cluster(), reason="taken down")
    assert plane.store.get(access_key(WORKSPACE, cluster.id)).expires_at is not None


def give_addresses(plane, monkeypatch, *public):
    described = plane.compute.describe

    def describe(place, ids) -> list[Machine]:
        machines = described(place, ids)
        return [replace(m, public_address=address) for m, address in zip(machines, public, strict=True)]

    monkeypatch.setattr(plane.compute, "describe", describe)


def test_endpoints_are_at_the_heads_present_public_address(plane, monkeypatch):
    fields = {"task": {"resources": {"ports": ["8080", "9000-9001"]}}}
    give_addresses(plane, monkeypatch, "192.0.2.7")
    cluster = plane.bring_up(**fields)
    found = endpoints(plane.world, ANN, "train")["endpoints"]
    assert [one["url"] for one in found] == [f"http://192.0.2.7:{port}" for port in (8080, 9000, 9001)]
    give_addresses(plane, monkeypatch, "2001:db8::1")
    assert plane.hand_over(cluster) == "UP"
    assert endpoints(plane.world, ANN, "train")["endpoints"][0]["url"] == "http://[2001:db8::1]:8080"


def test_endpoints_are_at_the_private_address_when_there_is_no_public_one(plane, cluster):
    assert endpoints(plane.world, ANN, "train")["endpoints"][0]["host"] == "10.0.0.0"


def test_ports_that_are_not_the_machines_own_are_found_by_their_clouds_command(plane, cluster):
    facts = replace(FAKE_FACTS, opens_ports=True, find_ports=lambda token: f"find {token}")
    world = replace(plane.world, clouds={"fake": facts})
    found = endpoints(world, ANN, "train")
    assert found["endpoints"] == []
    assert f"`find {plane.intents(cluster)[-1].token}`" in found["reason"]


def test_cluster_without_ports_says_why_there_are_no_endpoints(plane):
    plane.bring_up("plain")
    assert endpoints(plane.world, ANN, "plain") == {
        "endpoints": [],
        "reason": "its task opened none: name them under resources.ports",
    }


def test_cluster_comes_up_when_its_provider_cannot_be_asked_for_addresses(plane, monkeypatch):
    from stix.model.errors import UnavailableError

    def refuse(place, ids):
        raise UnavailableError("the provider is away")

    monkeypatch.setattr(plane.compute, "describe", refuse)
    assert plane.bring_up().status == "UP"
