"""Readiness probes of a real gateway against real replicas."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from stix.gateway.probes import ask
from stix.gateway.view import Probe, Replica
from tests.integration.gateway_world import GatewayProcess, gateway, get, has_haproxy
from tests.waiting import PATIENCE, eventually

__all__ = ["gateway"]


@contextmanager
def server(answer: bytes | None) -> Iterator[tuple[Replica, list[bytes]]]:
    """Takes one connection, keeps what comes, and answers; with None never."""
    got: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            stream, _ = listening.accept()
            with stream:
                got.append(stream.recv(65536))
                if answer is not None:
                    stream.sendall(answer)
                else:
                    stream.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        yield Replica("a", "1", "127.0.0.1", listening.getsockname()[1]), got
        thread.join()


def asked(replica: Replica, probe: Probe | None, timeout: float = PATIENCE) -> str | None:
    return asyncio.run(ask(replica, probe, timeout))


def test_a_get_with_headers_that_is_answered_with_2xx_is_ready():
    with server(b"HTTP/1.1 204 No Content\r\n\r\n") as (replica, got):
        assert asked(replica, Probe("/health?deep=1", headers={"X-Key": "7", "host": "model"})) is None
    lines = got[0].decode().split("\r\n")
    assert lines[0] == "GET /health?deep=1 HTTP/1.1"
    assert {"X-Key: 7", "host: model", "Connection: close"} <= set(lines)
    assert sum(line.lower().startswith("host:") for line in lines) == 1


def test_post_data_is_posted():
    with server(b"HTTP/1.0 200 OK\r\n\r\n") as (replica, got):
        assert asked(replica, Probe("/generate", body='{"prompt": "\u00e9"}')) is None
    head, body = got[0].split(b"\r\n\r\n")
    assert head.startswith(b"POST /generate HTTP/1.1")
    assert b"Content-Length: 16" in head
    assert body.decode() == '{"prompt": "\u00e9"}'


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 503 Not Yet\r\n\r\n", "/health answers 503 Not Yet"),
        (b"HTTP/1.1 301 Moved\r\nLocation: /health/\r\n\r\n", "/health answers 301 Moved"),
        (b"SSH-2.0-OpenSSH\r\n", "the answer is not HTTP"),
        (b"", "the connection failed (0 bytes read on a total of undefined expected bytes)"),
        (None, "no answer within 0.3 s"),
    ],
)
def test_any_other_answer_is_not_ready_and_says_why(answer, reason):
    with server(answer) as (replica, _):
        assert asked(replica, Probe("/health"), 0.3 if answer is None else PATIENCE) == reason


def test_without_a_probe_a_port_that_takes_connections_is_ready():
    with server(b"") as (replica, _):
        assert asked(replica, None) is None
    assert asked(replica, None) == f"nothing listens on 127.0.0.1:{replica.port}"


@has_haproxy
def test_a_replica_that_is_never_ready_within_its_initial_delay_has_failed(gateway):
    a = gateway.replica("a")
    get(f"{a.url}/sick")
    gateway.show(a.entry(), wait=False, probe={"path": "/health", "initial_delay_seconds": 2})
    assert gateway.await_state("a", "starting", "failed")
    failed = gateway.await_state("a", "failed")
    assert failed["reason"] == "/health answers 500 X; never ready within 2 s"


@has_haproxy
def test_a_replica_that_is_sick_leaves_the_rotation_at_once_and_has_failed_after_its_threshold(gateway):
    a, b = gateway.replica("a"), gateway.replica("b")
    probe = {
        "path": "/health",
        "endpoint_probe_interval_seconds": 0.2,
        "consecutive_failure_threshold_timeout": 2,
        "post_data": {"prompt": "x"},
    }
    gateway.show(a.entry(), b.entry(), probe=probe)
    get(f"{a.url}/sick")
    # Where this test is held up it has failed before anybody looks.
    gateway.await_state("a", "not_ready", "failed")
    with httpx.Client(base_url=gateway.url, timeout=PATIENCE) as client:
        # The status may tell of it a moment before HAProxy is told.
        eventually(lambda: {client.get("/who").text for _ in range(10)} == {"b"})
    assert gateway.await_state("a", "failed")["reason"] == "/health answers 500 X; so for 2 s"
    get(f"{a.url}/well")
    gateway.await_state("a", "ready")


def test_metric_is_summed_over_ready_replicas_when_the_view_asks_for_it(gateway: GatewayProcess) -> None:
    first, second = gateway.replica("one"), gateway.replica("four")
    gateway.show(first.entry(), second.entry(), metric={"name": "queued"})
    eventually(lambda: gateway.chat()["metric"] == (2 + 3) + (2 + 4))
    gateway.show(first.entry(), metric={"name": "unheard"})
    eventually(lambda: gateway.chat()["metric"] is None)
    gateway.show(first.entry())
    assert "metric" not in gateway.chat()
