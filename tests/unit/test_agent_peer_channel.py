"""Agents of one cluster know each other; nobody else gets a word in."""

from __future__ import annotations

import socket
import threading
from contextlib import closing

import pytest

from stix.agent.peer_channel import PeerChannel, PeerError, accept_peer, connect_peer

KEY = b"k" * 32
DEADLINE = 60


def serve(server: socket.socket, key: bytes) -> list[object]:
    """Accepts one caller in a thread; what came of it is appended."""
    outcome: list[object] = []

    def accept() -> None:
        connection, _ = server.accept()
        try:
            outcome.append(accept_peer(connection, key, DEADLINE))
        except PeerError as exc:
            outcome.append(exc)

    thread = threading.Thread(target=accept)
    thread.start()
    outcome.append(thread)
    return outcome


def test_messages_pass_both_ways_when_the_keys_are_equal():
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        outcome = serve(server, KEY)
        client = connect_peer("127.0.0.1", server.getsockname()[1], KEY, "head", DEADLINE)
        outcome[0].join()
        role, channel = outcome[1]
        assert role == "head"
        for n in range(3):
            client.send({"n": n})
            assert channel.receive() == {"n": n}
            channel.send({"back": n})
            assert client.receive() == {"back": n}
        client.close()
        assert channel.receive() is None
        channel.close()


def test_both_sides_refuse_when_the_keys_differ():
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        outcome = serve(server, b"x" * 32)
        with pytest.raises(PeerError, match="key"):
            connect_peer("127.0.0.1", server.getsockname()[1], KEY, "head", DEADLINE)
        outcome[0].join()
        assert isinstance(outcome[1], PeerError)


@pytest.mark.parametrize(
    "greeting", [b"GET / HTTP/1.1\r\n", b'{"role":"root","nonce":"0123456789abcdef"}\n', b"[]\n"]
)
def test_caller_is_turned_away_when_it_does_not_greet_as_an_agent(greeting):
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        outcome = serve(server, KEY)
        with socket.create_connection(server.getsockname()) as client:
            client.sendall(greeting)
            client.shutdown(socket.SHUT_WR)
            outcome[0].join()
        assert isinstance(outcome[1], PeerError)


@pytest.mark.parametrize("fault", ["replayed", "forged", "reflected"])
def test_message_is_refused_when_it_is_not_the_other_sides_next(fault):
    ours, theirs = socket.socketpair()
    sender = PeerChannel(ours, b"s" * 32, b"c", b"s")
    receiver = PeerChannel(theirs, b"s" * 32, b"s", b"c")
    if fault == "replayed":
        sender.send({"n": 1})
        sender._sent = 0
        sender.send({"n": 1})
        assert receiver.receive() == {"n": 1}
    elif fault == "forged":
        ours.sendall(b"0" * 64 + b' {"n":1}\n')
    else:
        PeerChannel(ours, b"s" * 32, b"s", b"c").send({"n": 1})
    with pytest.raises(PeerError):
        receiver.receive()
    sender.close()
    receiver.close()


def test_error_says_why_when_nobody_listens():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # Held, so that nobody else comes to listen there.
        with pytest.raises(PeerError, match="refused"):
            connect_peer("127.0.0.1", silent.getsockname()[1], KEY, "probe", DEADLINE)
