"""Both ends of a tunnel over the embedded control plane's real WebSockets and functions; no SSH yet."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from dataclasses import replace

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect as open_websocket

from functions.agent.handler import handler as agent
from functions.authorize.handler import handler as authorize
from stix.agent import stream
from stix.agent.access import SocketEnd
from stix.agent.stream import FRAME_BYTES, WINDOW
from stix.agent.tunnel import Tunnel, socket_url
from stix.application.tokens import create_user_token
from stix.application.tunnel_relay import tunnel_key
from stix.application.tunnels import open_tunnel
from stix.local.functions import Functions
from stix.local.gateway import Gateway
from stix.local.http_server import HttpServer
from stix.local.parking import Parking
from stix.local.sockets import MESSAGE_BYTES, LocalSockets
from stix.runtime.bootstrap import install
from tests.unit.world import ANN, WORKSPACE, ControlPlane
from tests.waiting import eventually

MEGABYTE = 1_000_000


class Relay:
    """The embedded control plane's gateway and WebSockets, on a loop of their own."""

    def __init__(self, folder):
        self.plane = ControlPlane(folder)
        self.functions = Functions({"agent": agent, "authorize": authorize})
        self.sockets = LocalSockets(self.functions)
        self.plane.world = replace(self.plane.world, sockets=self.sockets)
        install(self.plane.world)
        create_user_token(self.plane.world, token="ann-token", workspace=WORKSPACE, user="ann")
        create_user_token(self.plane.world, token="bob-token", workspace=WORKSPACE, user="bob")
        cluster = self.plane.boot()
        self.node_token = self.plane.join(cluster)["node_token"]
        self.plane.hand_over(cluster)
        listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self.loop = asyncio.new_event_loop()
        self.sockets.attach(self.loop)
        hosts = frozenset({"127.0.0.1"})
        gateway = Gateway(self.functions, Parking(), None, lambda: hosts, sockets=self.sockets)
        self.server = HttpServer(gateway, listener)
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.wait(self.server.start())

    def wait(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def cut(self):
        """Every connection breaks, as when somebody pulls a cable."""

        async def abort():
            for connection in list(self.server._state.connections):
                connection.transport.abort()

        self.wait(abort())

    def open(self):
        opened = open_tunnel(self.plane.world, ANN, "train", 0)
        self.record = tunnel_key(WORKSPACE, opened["id"])
        return opened["url"]

    def tunnel(self, url, token):
        return Tunnel(lambda: socket_url(self.url, url), lambda: token)

    def close(self):
        self.wait(self.server.stop(1.0))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()
        self.functions.close(5.0)
        install(None)
        self.plane.close()


@pytest.fixture
def relay(tmp_path):
    made = Relay(tmp_path)
    yield made
    made.close()


class End:
    """An end of a tunnel in its thread, and the socket of whoever uses it."""

    def __init__(self, tunnel):
        self.tunnel = tunnel
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(60)
        self.outcome = None
        self.thread = threading.Thread(target=self._run, args=(theirs,))
        self.thread.start()

    def _run(self, theirs):
        self.outcome = self.tunnel.run(SocketEnd(theirs))

    def read(self):
        data = bytearray()
        while piece := self.socket.recv(65536):
            data += piece
        return bytes(data)

    def join(self):
        self.thread.join(60)
        assert not self.thread.is_alive()
        self.socket.close()
        return self.outcome


@pytest.fixture
def ends(relay):
    """The person's and the node's."""
    url = relay.open()
    made = End(relay.tunnel(url, "ann-token")), End(relay.tunnel(url, relay.node_token))
    yield made
    for end in made:
        end.tunnel.abandon("the test ends")
        end.socket.close()
        end.thread.join(60)


@pytest.mark.parametrize("cuts", [0, 3])
def test_bytes_arrive_both_ways_however_often_the_connections_break(relay, ends, cuts):
    person, node = ends
    said = [os.urandom(2 * MEGABYTE) for _ in range(cuts + 1)]
    heard = {}
    reading = [threading.Thread(target=lambda end=end: heard.update({end: end.read()})) for end in ends]
    for thread in reading:
        thread.start()
    for piece in said:
        eventually(lambda: len(relay.sockets) == 2, "both ends are there")
        sending = [threading.Thread(target=end.socket.sendall, args=(piece,)) for end in ends]
        for thread in sending:
            thread.start()
        if piece is not said[-1]:
            relay.cut()
        for thread in sending:
            thread.join()
    for end in ends:
        end.socket.shutdown(socket.SHUT_WR)
    for thread in reading:
        thread.join(60)
    assert heard == {person: b"".join(said), node: b"".join(said)}
    assert (person.join(), node.join()) == ("", "")
    record = relay.plane.store.get
    eventually(lambda: not any(record(relay.record).body["connections"].values()), "both have left")
    relay.plane.pass_time(61)
    assert relay.plane.store.get(relay.record) is None


def test_sender_is_held_back_when_nobody_reads(ends):
    person, node = ends
    person.socket.setblocking(False)
    taken = [0]

    def is_held_back():
        before = taken[0]
        for _ in range(20):
            try:
                taken[0] += person.socket.send(bytes(FRAME_BYTES))
            except BlockingIOError:
                threading.Event().wait(0.05)
        return taken[0] == before > 0

    eventually(is_held_back, "the sender is held back")
    # A window under way, and what four buffers of local sockets hold.
    assert taken[0] < FRAME_BYTES * WINDOW + 2 * MEGABYTE
    person.socket.setblocking(True)
    person.socket.shutdown(socket.SHUT_WR)
    assert len(node.read()) == taken[0]


@pytest.mark.parametrize("token", ["bob-token", "nobody's", "the other node's"])
def test_tunnel_is_refused_to_everybody_else(relay, token):
    end = End(relay.tunnel(relay.open(), token))
    assert end.join() == "the control plane refuses the tunnel (403)"


def test_reason_is_heard_when_there_is_nothing_at_the_other_end(relay):
    url = relay.open()
    person = End(relay.tunnel(url, "ann-token"))
    declining = relay.tunnel(url, relay.node_token)
    thread = threading.Thread(target=declining.decline, args=("the node has no SSH server",))
    thread.start()
    assert person.join() == "the node has no SSH server"
    assert not person.tunnel.began
    thread.join()


def test_end_gives_up_when_the_other_one_vanishes(relay, monkeypatch):
    monkeypatch.setattr(stream, "_RETURN", 0.5)
    url = relay.open()
    person = End(relay.tunnel(url, "ann-token"))
    words = '{"type":"tunnel","n":"x","a":0}'
    headers = {"Authorization": f"Bearer {relay.node_token}"}
    with open_websocket(socket_url(relay.url, url), additional_headers=headers) as node:
        while '"a"' not in node.recv(timeout=30):
            continue
        # The person's end is there now, and hears this before the end of the connection.
        node.send(words)
    assert person.join() == "the other side is silent"


def test_message_beyond_the_gateways_limit_ends_the_connection(relay):
    headers = {"Authorization": "Bearer ann-token"}
    with open_websocket(socket_url(relay.url, relay.open()), additional_headers=headers) as person:
        person.send("x" * (MESSAGE_BYTES + 1))
        with pytest.raises(ConnectionClosed):
            person.recv(timeout=30)


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/elsewhere?tunnel=t", {"Authorization": "Bearer ann-token"}),
        ("/socket", {"Authorization": "Bearer ann-token"}),
        ("/socket?tunnel=none", {"Authorization": "Bearer ann-token"}),
        ("/socket", {}),
    ],
)
def test_websocket_is_refused_where_there_is_no_tunnel(relay, path, headers):
    with pytest.raises(InvalidStatus) as caught:
        open_websocket(socket_url(relay.url, path), additional_headers=headers)
    assert caught.value.response.status_code == 403
