"""Requests that come while a service has no replica."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx

from tests.integration.gateway_world import GatewayProcess, gateway, has_haproxy
from tests.ports import free_port
from tests.waiting import PATIENCE, eventually

__all__ = ["gateway"]
pytestmark = has_haproxy


def get(gateway: GatewayProcess, path: str = "/who") -> httpx.Response:
    return httpx.get(f"{gateway.url}{path}", timeout=PATIENCE)


def test_requests_wait_for_the_first_replica_and_are_counted_meanwhile(gateway):
    gateway.show(wait_seconds=30)
    with ThreadPoolExecutor(20) as pool:
        waiting = [pool.submit(get, gateway) for _ in range(10)]
        post = partial(httpx.post, f"{gateway.url}/who", content=b"x", timeout=PATIENCE)
        waiting += [pool.submit(post) for _ in range(10)]
        eventually(lambda: gateway.chat()["waiting"] == 20)
        assert gateway.chat()["requests"] == 20
        gateway.show(gateway.replica("a").entry(), wait_seconds=30)
        assert [one.result().text for one in waiting] == ["a"] * 20
    eventually(lambda: gateway.chat()["waiting"] == 0)
    assert gateway.status()["haproxy"]["reloads"] == 0


def test_nobody_waits_longer_than_allowed_and_is_told_when_to_come_again(gateway):
    gateway.show(wait_seconds=2)
    began = time.monotonic()
    answer = get(gateway)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.text == "No replica became ready in 2 s.\n"
    assert time.monotonic() - began > 1.9


def test_more_than_may_wait_are_refused_at_once_and_those_that_leave_make_room(gateway):
    gateway.show(wait_seconds=30, max_queue=3)
    with ThreadPoolExecutor(10) as pool:
        leaving = [socket.create_connection(("127.0.0.1", gateway.port), PATIENCE) for _ in range(3)]
        for one in leaving:
            one.sendall(b"GET / HTTP/1.1\r\nHost: chat\r\n\r\n")
        eventually(lambda: gateway.chat()["waiting"] == 3)
        refused = get(gateway)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert refused.text == "No replica is ready, and 3 requests wait for one already.\n"
        for one in leaving:
            one.close()
        eventually(lambda: gateway.chat()["waiting"] == 0)
        waiting = [pool.submit(get, gateway) for _ in range(3)]
        eventually(lambda: gateway.chat()["waiting"] == 3)
        gateway.show(gateway.replica("a").entry(), wait_seconds=30, max_queue=3)
        assert [one.result().text for one in waiting] == ["a"] * 3


def test_with_wait_seconds_0_nobody_waits(gateway):
    gateway.show(wait_seconds=0)
    assert get(gateway).text == "No replica became ready in 0 s.\n"


def test_those_who_wait_while_another_service_comes_wait_on_in_the_new_process(gateway):
    chat = {"name": "chat", "port": gateway.port, "wait_seconds": 30, "replicas": []}
    gateway.show_services(chat)
    with ThreadPoolExecutor(5) as pool:
        waiting = [pool.submit(get, gateway) for _ in range(5)]
        eventually(lambda: gateway.chat()["waiting"] == 5)
        other = {**chat, "name": "other", "port": free_port()}
        gateway.show_services(chat, other)
        eventually(lambda: gateway.status()["haproxy"]["reloads"] == 1 and gateway.chat()["waiting"] == 5)
        gateway.show_services({**chat, "replicas": [gateway.replica("a").entry()]}, other)
        assert [one.result().text for one in waiting] == ["a"] * 5


def test_a_private_service_refuses_before_anyone_waits(gateway):
    gateway.show(wait_seconds=30, tokens=[])
    assert get(gateway).status_code == 401


def test_requests_wait_while_the_only_replica_is_sick(gateway):
    a = gateway.replica("a")
    probe = {"path": "/health", "endpoint_probe_interval_seconds": 0.2}
    gateway.show(a.entry(), wait_seconds=30, probe=probe)
    httpx.get(f"{a.url}/sick")
    assert gateway.await_state("a", "not_ready")["reason"] == "/health answers 500 X"
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(get, gateway)
        eventually(lambda: gateway.chat()["waiting"] == 1)
        httpx.get(f"{a.url}/well")
        assert waiting.result().text == "a"
