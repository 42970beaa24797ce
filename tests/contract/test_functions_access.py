"""People on the machines through real events: tunnels over the WebSocket API, keys, the deployed sockets."""

from __future__ import annotations

from dataclasses import replace

import pytest
from botocore.exceptions import ClientError

from functions.agent.handler import handler
from functions.api.handler import handler as api
from functions.authorize.handler import handler as authorize
from stix.adapters.websocket_wake import GatewaySockets, WebSocketWake
from stix.application.tokens import create_user_token
from stix.local.functions import Context
from stix.ports.state_store import Item
from stix.ports.surroundings import connection_key
from stix.runtime.bootstrap import install
from tests.contract.functions_client import send
from tests.unit.world import WORKSPACE

CONTEXT = Context("function", "request", deadline=float("inf"))


def test_tunnel_carries_messages_between_its_two_ends_and_lets_nobody_else_in(plane):
    cluster = plane.boot()
    posted: list[tuple[str, str]] = []

    class Recording:
        def post(self, connection_id, text):
            posted.append((connection_id, text))
            return True

    plane.world = replace(plane.world, sockets=Recording())
    install(plane.world)
    create_user_token(plane.world, token="bob-token", workspace=WORKSPACE, user="bob")
    node = plane.join(cluster)["node_token"]
    plane.hand_over(cluster)
    answer = send(api, "POST", "/v1/clusters/train/tunnels", {"rank": 0}, token="ann-token")
    assert answer.status == 201

    def policy(token):
        event = {
            "methodArn": "arn:x",
            "headers": {"Authorization": f"Bearer {token}"},
            "queryStringParameters": {"tunnel": answer.body["id"]},
        }
        return authorize(event, CONTEXT)

    tokens = (node, "ann-token", "bob-token", "wrong", "")
    effects = [policy(token)["policyDocument"]["Statement"][0]["Effect"] for token in tokens]
    assert effects == ["Allow", "Allow", "Deny", "Deny", "Deny"]

    def tell(kind, connection, token, body=""):
        context = {"eventType": kind, "connectionId": connection, "authorizer": policy(token)["context"]}
        return handler({"requestContext": context, "body": body}, CONTEXT)

    assert tell("CONNECT", "person", "ann-token") == {"statusCode": 200}
    assert tell("CONNECT", "machine", node) == {"statusCode": 200}
    tell("MESSAGE", "person", "ann-token", '{"s":0}')
    tell("MESSAGE", "machine", node, '{"a":1}')
    assert posted == [("person", '{"x": "here"}'), ("machine", '{"s":0}'), ("person", '{"a":1}')]
    # The wake channel of the node is another connection, and stays.
    assert plane.store.get(connection_key(cluster.id, 0)) is None
    gone = policy("ann-token")["context"], policy(node)["context"]
    for connection, context in zip(("person", "machine"), gone, strict=True):
        event = {"eventType": "DISCONNECT", "connectionId": connection, "authorizer": context}
        handler({"requestContext": event}, CONTEXT)
    plane.pass_time(61)
    assert policy("ann-token")["policyDocument"]["Statement"][0]["Effect"] == "Deny"


@pytest.mark.parametrize(
    "body",
    [
        {"public_key": "ssh-ed25519 AAAA comment"},
        {"public_key": 'command="x" ssh-ed25519 AAAA'},
        {"public_key": "ssh-ed25519 AAAA\nssh-ed25519 BBBB"},
        {"public_key": "ssh-dss AAAA"},
        {},
    ],
)
def test_key_is_refused_when_it_is_more_or_less_than_a_key(plane, body):
    answer = send(api, "POST", "/v1/clusters/train/ssh", body, token="ann-token")
    assert (answer.status, answer.code) == (400, "invalid_input")
    assert "public_key" in answer.body["error"]["message"]


class ManagementApi:
    """API Gateway's client; ``refusals`` are codes by connection."""

    def __init__(self, **refusals):
        self.refusals = refusals
        self.posted = []

    def post_to_connection(self, ConnectionId, Data):  # noqa: N803 - the SDK's names
        if code := self.refusals.get(ConnectionId):
            raise ClientError({"Error": {"Code": code, "Message": "no"}}, "PostToConnection")
        self.posted.append((ConnectionId, Data))


def test_deployed_sockets_tell_a_connection_that_is_gone_from_a_message_that_is_lost():
    client = ManagementApi(gone="GoneException", busy="LimitExceededException")
    sockets = GatewaySockets("https://wake.example", client)
    assert sockets.post("open", "hello")
    assert not sockets.post("gone", "hello")
    assert sockets.post("busy", "hello")
    assert client.posted == [("open", b"hello")]


def test_wake_forgets_a_connection_when_it_is_gone(plane):
    wake = WebSocketWake(
        plane.store, GatewaySockets("https://wake.example", ManagementApi(gone="GoneException"))
    )
    for rank, connection in enumerate(("open", "gone")):
        plane.store.put(Item(connection_key("c", rank), {"connection_id": connection}))
        wake.wake(f"node/c/{rank}")
    wake.wake("job/c/1")
    assert plane.store.get(connection_key("c", 0)) is not None
    assert plane.store.get(connection_key("c", 1)) is None
