"""The agents' API and its wake channel, the authorizer and the workers, through real events."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from functions.agent.handler import handler
from functions.authorize.handler import handler as authorize
from functions.monitor.handler import handler as monitor
from functions.optimize.handler import handler as optimize
from functions.provision.handler import handler as provision
from stix.application import want
from stix.application.records import cluster_key
from stix.local.functions import Context
from stix.model.status import ClusterStatus
from stix.ports.surroundings import connection_key
from stix.runtime.bootstrap import install
from tests.contract.functions_client import Answer, send
from tests.unit.world import ANN, WORKSPACE

CONTEXT = Context("function", "request", deadline=float("inf"))
Ask = Callable[..., Answer]


@pytest.fixture
def cluster(plane):
    return plane.boot()


def join(plane, **fields: Any) -> Answer:
    gang = plane.compute.requests[-1]
    body = {"machine_id": plane.compute.gangs[gang.token][0], "address": "10.0.0.1", "peer_port": 7000}
    token = fields.pop("token", gang.join_token)
    return send(handler, "POST", "/agent/v1/join", body | fields, token=token, authorized=False)


@pytest.fixture
def ask(plane, cluster) -> Ask:
    """A request of the cluster's only node, which has joined; the cluster is UP."""
    token = join(plane).body["node_token"]
    plane.hand_over(cluster)

    def request(path: str, body: Any, **options: Any) -> Answer:
        return send(handler, "POST", f"/agent/v1/{path}", body, **({"token": token} | options))

    return request


def test_node_works_when_it_has_joined(plane, cluster, ask):
    assert ask("report", {"idle_since": None}).body == {"report_seconds": 180, "wanted": "UP"}
    commands = ask("commands", {"after": 0, "peers_version": 0, "settings_version": 0}).body
    assert [command["type"] for command in commands["commands"]] == ["run"]
    assert commands["peers"] == [{"rank": 0, "address": "10.0.0.1", "port": 7000}]
    urls = ask("logs", {"wanted": [{"job": 1, "rank": 0, "n": 0, "size": 5}]}).body["urls"]
    assert urls[0]["method"] == "PUT"
    key = f"uploads/{WORKSPACE}/ab"
    assert ask("downloads", {"keys": [key]}).body["urls"][0]["key"] == key
    assert ask("secrets", {"job": 1}).status == 404
    assert ask("report", {"jobs": [{"id": 1, "status": "SUCCEEDED", "exit_codes": [0]}]}).status == 200
    assert plane.job(cluster).exit_code == 0


def test_request_for_commands_may_be_held_when_there_is_nothing_to_say(plane, cluster, ask):
    body = {
        "after": 1,
        "wait": True,
        "peers_version": plane.cluster().peers_version,
        "settings_version": plane.cluster().settings_version,
    }
    held = ask("commands", body)
    assert held.headers["stix-park"] == f"node/{cluster.id}/0"
    assert "stix-park" not in ask("commands", body | {"wait": False}).headers
    plane.execute()
    assert "stix-park" not in ask("commands", body).headers


def test_old_token_is_refused_when_the_node_has_joined_again(plane, ask):
    assert join(plane).status == 200
    assert ask("report", {}).status == 403


def test_join_says_what_to_do_next_when_it_is_refused(plane, cluster):
    assert (join(plane, machine_id="m-9").status, join(plane, machine_id="m-9").code) == (409, "not_ready")
    assert join(plane, token="stixj.team.c.0.x").status == 401
    want.take_down(plane.world, ANN, "train", purge=True, key=None)
    assert (join(plane).status, join(plane).code) == (410, "cluster_gone")


def test_agent_hears_that_its_cluster_is_gone(plane, cluster, ask):
    want.take_down(plane.world, ANN, "train", purge=False, key=None)
    assert ask("report", {}).body["wanted"] == "ABSENT"
    item = plane.store.get(plane_key := _cluster_key(cluster))
    ended = {**item.body, "status": "TERMINATED"}
    plane.store.put(item.changed(key=plane_key, body=ended, status="TERMINATED", live=False, due_at=None))
    assert (ask("report", {}).status, ask("commands", {}).status) == (410, 410)


def _cluster_key(cluster):
    from stix.application.records import cluster_key

    return cluster_key(WORKSPACE, cluster.id)


@pytest.mark.parametrize("token", ["ann-token", "", "wrong"])
def test_person_opens_no_route_for_nodes(ask, token):
    for path in ("report", "commands", "logs", "downloads", "secrets"):
        assert ask(path, {}, token=token).status == 403


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("report", b"{"),
        ("report", {"jobs": [{"id": "x"}]}),
        ("report", {"jobs": "all"}),
        ("report", {"idle_since": "long ago"}),
        ("commands", {"after": "x"}),
        ("logs", {"wanted": [{"job": 1}]}),
        ("logs", {"uploaded": [{"job": 1, "rank": 0, "n": "x", "size": 1}]}),
        ("logs", {"finished": [{"job": 1, "rank": 0, "chunks": 1}]}),
        ("logs", {"wanted": [{"job": 1, "rank": 0, "n": 0, "size": 10**9}]}),
        ("secrets", {"job": "x"}),
        ("downloads", {"keys": [1]}),
    ],
)
def test_message_is_refused_when_it_is_malformed(plane, cluster, ask, path, body):
    answer = ask(path, body)
    assert (answer.status, answer.code) == (400, "invalid_input")


@pytest.mark.parametrize("fields", [{"machine_id": None}, {"peer_port": "x"}, {"facts": [1]}])
def test_join_is_refused_when_it_is_malformed(plane, cluster, fields):
    assert join(plane, **fields).status in (400, 409)


def test_archive_of_the_agent_is_found_by_its_hash(plane):
    from stix.runtime.agent_archive import archive_hash

    sha256 = archive_hash(plane.world.objects)
    found = send(handler, "GET", f"/agent/v1/archive/{sha256}", authorized=False)
    assert found.status == 302
    assert sha256 in found.headers["location"]
    for unknown in ("0" * 64, "..", "x"):
        absent = send(handler, "GET", f"/agent/v1/archive/{unknown}", authorized=False)
        assert absent.status == 404


# The wake channel


def socket_event(event_type: str, connection: str, cluster: Any, **who: Any) -> dict[str, Any]:
    principal = {"kind": "node", "workspace": WORKSPACE, "cluster_id": cluster.id, "rank": "0"} | who
    return {"requestContext": {"eventType": event_type, "connectionId": connection, "authorizer": principal}}


def test_connection_is_remembered_until_it_ends_or_a_newer_one_comes(plane, cluster):
    def known():
        item = plane.store.get(connection_key(cluster.id, 0))
        return None if item is None else item.body["connection_id"]

    assert handler(socket_event("CONNECT", "one", cluster), CONTEXT) == {"statusCode": 200}
    assert known() == "one"
    handler(socket_event("CONNECT", "two", cluster), CONTEXT)
    handler(socket_event("DISCONNECT", "one", cluster), CONTEXT)
    assert known() == "two"
    handler(socket_event("MESSAGE", "two", cluster), CONTEXT)
    handler(socket_event("DISCONNECT", "two", cluster), CONTEXT)
    assert known() is None


def test_connection_is_refused_when_it_is_no_nodes(plane, cluster):
    answer = handler(socket_event("CONNECT", "one", cluster, kind="user"), CONTEXT)
    assert answer == {"statusCode": 403}
    assert plane.store.get(connection_key(cluster.id, 0)) is None


def test_socket_policy_allows_nodes_only(plane, cluster):
    def effect(token):
        event = {"methodArn": "arn:x", "headers": {"Authorization": f"Bearer {token}"}}
        return authorize(event, CONTEXT)["policyDocument"]["Statement"][0]["Effect"]

    node = join(plane).body["node_token"]
    assert [effect(token) for token in (node, "ann-token", "wrong", "")] == ["Allow", "Deny", "Deny", "Deny"]


@pytest.mark.parametrize(
    "header",
    [{}, {"authorization": ""}, {"authorization": "ann-token"}, {"authorization": "Basic ann-token"}],
)
def test_authorizer_denies_by_default(plane, header):
    assert authorize({"headers": header}, CONTEXT) == {"isAuthorized": False}


def test_authorizer_says_who_a_person_is(plane):
    answer = authorize({"headers": {"AUTHORIZATION": "bearer  ann-token"}}, CONTEXT)
    assert answer == {
        "isAuthorized": True,
        "context": {"kind": "user", "workspace": WORKSPACE, "user": "ann"},
    }


# The workers


def test_launch_advances_when_the_workers_are_invoked_in_order(plane):
    plane.launch()
    event = {"cluster": {"workspace": WORKSPACE, "id": plane.cluster().id}, "operation_id": "op"}
    assert optimize(event | {"action": "rank"}, CONTEXT) == {"outcome": "RANKED", "max_attempts": 10}
    assert provision(event | {"action": "create"}, CONTEXT)["outcome"] == "CREATED"
    token = plane.workflows.wait_for("t")
    assert provision(event | {"action": "await_join", "token": token}, CONTEXT) == {}
    join(plane)
    assert plane.workflows.answers == {"t": ("succeeded", "")}
    assert provision(event | {"action": "hand_over"}, CONTEXT) == {"outcome": "UP"}
    failure = {"Error": "States.Timeout", "Cause": ""}
    assert provision(event | {"action": "undo", "attempt": 0, "failure": failure}, CONTEXT) == {
        "outcome": "MOVED"
    }
    assert provision(event | {"action": "give_up"}, CONTEXT) == {"outcome": "MOVED"}
    want.take_down(plane.world, ANN, "train", purge=False, key=None)
    provision(event | {"action": "settle"}, CONTEXT)
    assert provision(event | {"action": "confirm"}, CONTEXT) == {"wanted": "ABSENT"}
    place = {"action": "sweep_place", "place": {"cloud": "fake", "region": "north"}, "mode": "sweep"}
    assert provision(place, CONTEXT) == {"marked": 0, "ended": 0, "machines": 0}


def _metrics(capsys) -> dict[str, float]:
    """What CloudWatch reads from a function's log."""
    found = {}
    for line in capsys.readouterr().out.splitlines():
        if '"_aws"' in line:
            record = json.loads(line)
            [metric] = record["_aws"]["CloudWatchMetrics"]
            assert metric["Namespace"] == "Stix/test"
            found |= {one["Name"]: record[one["Name"]] for one in metric["Metrics"]}
    return found


def test_monitor_tells_lateness_as_a_metric_when_deployed(plane, capsys):
    plane.launch()
    plane.pass_time(1000)
    monitor({"action": "sweep"}, CONTEXT)
    assert _metrics(capsys) == {}  # embedded: nobody reads it
    plane.pass_time(10_000)
    install(replace(plane.world, runtime="aws"))
    assert monitor({"action": "sweep"}, CONTEXT)["oldest_due_seconds"] > 900
    assert _metrics(capsys)["OverdueSeconds"] > 900
    monitor({"action": "sweep"}, CONTEXT)
    assert _metrics(capsys) == {}  # nothing to say, nothing to pay


def test_provision_tells_the_age_of_orphans_as_a_metric_when_deployed(plane, capsys):
    install(replace(plane.world, runtime="aws"))
    cluster = plane.bring_up()
    plane.store.delete(cluster_key(WORKSPACE, cluster.id))
    place = {"action": "sweep_place", "place": {"cloud": "fake", "region": "north"}, "mode": "sweep"}
    assert provision(place, CONTEXT)["marked"] == 1
    assert _metrics(capsys) == {}
    plane.pass_time(400)
    assert provision(place, CONTEXT)["ended"] == 1
    assert _metrics(capsys) == {"OrphanSeconds": 400}


def test_monitor_sweeps_lists_places_and_records_failures(plane):
    plane.launch()
    cluster = plane.cluster()
    plane.pass_time(1000)
    assert monitor({"action": "sweep"}, CONTEXT)["looked_at"]["cluster"] == 1
    plane.rank(cluster)
    plane.create(cluster)
    assert monitor({"action": "list_places", "mode": "sweep"}, CONTEXT)["places"] == [
        {"cloud": "fake", "region": "north"}
    ]
    event = {"cluster": {"workspace": WORKSPACE, "id": cluster.id}, "failure": {"Error": "Boom"}}
    assert monitor(event | {"action": "record_failure"}, CONTEXT) == {"outcome": "RECORDED"}
    assert plane.cluster().status is ClusterStatus.INIT


@pytest.mark.parametrize("worker", [optimize, provision, monitor])
def test_worker_fails_by_name_when_it_does_not_know_the_action(plane, worker):
    with pytest.raises(ValueError, match="'dance' is not one of"):
        worker({"action": "dance"}, CONTEXT)
