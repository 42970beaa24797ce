"""The wake channel against an independent WebSocket server."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import contextmanager

import pytest
from websockets.frames import Frame, Opcode
from websockets.sync.server import ServerConnection, serve

from stix.agent.tunables import Tunables
from stix.agent.wake_socket import WakeSocket
from stix.agent.websocket import WebSocketError, connect
from tests.integration.control_plane_double import cluster
from tests.waiting import PATIENCE, eventually


@contextmanager
def server(handler, **options):
    with serve(handler, "127.0.0.1", 0, **options) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{running.socket.getsockname()[1]}/wake?x=1"
        finally:
            running.shutdown()
            thread.join()


@contextmanager
def listening(url, **tunables):
    """The count of wakes so far, as a list that grows."""
    wakes, stopping = [], threading.Event()
    settings = Tunables(**{"backoff_first": 0.02, "backoff_last": 0.1, **tunables})
    socket = WakeSocket(url, lambda: "node-token", lambda: wakes.append(1), settings)
    thread = threading.Thread(target=socket.run, args=(stopping,))
    thread.start()
    try:
        yield wakes
    finally:
        stopping.set()
        thread.join()


def test_every_message_wakes_when_it_is_short_long_or_binary():
    seen, gate = [], threading.Event()

    def handler(connection):
        seen.append((connection.request.headers["Authorization"], connection.request.path))
        for message in ("x", "y" * 300, b"z" * 70_000, ["frag", "ments"]):
            connection.send(message)
        seen.append("pong" if connection.ping().wait(PATIENCE) else "silence")
        gate.wait(PATIENCE)

    with server(handler) as url, listening(url) as wakes:
        # One for the connection itself, then one per message.
        eventually(lambda: len(wakes) == 5, "five wakes")
        eventually(lambda: "pong" in seen, "the server's ping is answered")
        gate.set()
    assert seen[0] == ("Bearer node-token", "/wake?x=1")


def test_connection_is_made_again_when_the_server_closes_it():
    def handler(connection):
        connection.send("one")

    with server(handler) as url, listening(url) as wakes:
        eventually(lambda: len(wakes) >= 6, "three connections of two wakes")


def test_silent_connection_is_pinged_and_kept_when_pings_are_answered():
    pings, gate = Counter(), threading.Event()

    class Counting(ServerConnection):
        def process_event(self, event):
            pings[self] += isinstance(event, Frame) and event.opcode is Opcode.PING
            super().process_event(event)

    with (
        server(lambda _: gate.wait(PATIENCE), create_connection=Counting) as url,
        listening(url, wake_ping_seconds=0.05),
    ):
        # One that is taken for dead is replaced after a single ping.
        eventually(lambda: max(list(pings.values()), default=0) >= 3, "three pings on one connection")
        gate.set()


def test_connection_is_replaced_when_it_is_old():
    connections = []

    def handler(connection):
        connections.append(connection)
        for _ in connection:
            pass

    with server(handler) as url, listening(url, wake_reconnect_seconds=0.1):
        eventually(lambda: len(connections) >= 3, "three connections")
        eventually(lambda: connections[0].close_code == 1000, "the first one was closed in order")


def test_upgrade_is_refused_when_the_server_says_no():
    with serve(
        lambda _: None, "127.0.0.1", 0, process_request=lambda c, r: c.respond(403, "no\n")
    ) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        with pytest.raises(WebSocketError, match="403"):
            connect(f"ws://127.0.0.1:{running.socket.getsockname()[1]}/", "t", 10)
        running.shutdown()
        thread.join()


def test_command_arrives_when_the_wake_channel_calls_and_requests_are_not_held(tmp_path):
    connected, gate = threading.Event(), threading.Event()

    def handler(connection):
        connected.set()
        gate.wait(PATIENCE)
        connection.send("wake")
        for _ in connection:
            pass

    with server(handler) as url, cluster(tmp_path, started=0) as (plane, nodes):
        plane.hold_seconds, plane.poll_seconds = 0.0, 3600.0
        plane.extra_join = {"wake_url": url}
        nodes[0].start()
        assert connected.wait(PATIENCE)
        eventually(lambda: plane.calls.count("commands") >= 2, "it waits now, for an hour")
        job = plane.submit("true")
        gate.set()
        plane.wait_for(job)
        nodes[0].close()
