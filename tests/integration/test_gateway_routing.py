"""What passes through a gateway, and to whom."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import subprocess
import threading
from collections import Counter
from itertools import pairwise

import httpx
import pytest
from websockets.sync.client import connect as open_websocket
from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as serve_websockets

from tests.integration.gateway_world import GatewayProcess, gateway, get, has_haproxy
from tests.ports import free_port
from tests.waiting import PATIENCE, eventually

__all__ = ["gateway"]
pytestmark = has_haproxy


def answers(gateway: GatewayProcess, count: int, path: str = "/who", **options: object) -> list[str]:
    with httpx.Client(base_url=gateway.url, timeout=PATIENCE, **options) as client:
        return [client.get(path).text for _ in range(count)]


def two(gateway: GatewayProcess, **fields: object) -> None:
    gateway.show(gateway.replica("a").entry(weight=3), gateway.replica("b").entry(weight=1), **fields)


def test_round_robin_takes_turns_whatever_the_weights(gateway):
    two(gateway, policy="round_robin")
    assert all(one != other for one, other in pairwise(answers(gateway, 20)))


def test_weighted_spreads_by_weight(gateway):
    two(gateway, policy="weighted")
    assert 28 <= answers(gateway, 40).count("a") <= 32


def held_by(gateway: GatewayProcess, held: int) -> Counter[str]:
    """Who gets each of ``held`` requests that are in progress at the same time."""
    with gateway.holding(held) as requests:
        eventually(lambda: sum(one["in_flight"] for one in gateway.chat()["replicas"].values()) == held)
    return Counter(one.result().text for one in requests)


def test_least_load_avoids_the_replica_that_is_busy(gateway):
    a, b = gateway.replica("a"), gateway.replica("b")
    gateway.show(a.entry(), policy="least_load")
    with gateway.holding(4):
        eventually(lambda: gateway.chat()["replicas"]["a"]["in_flight"] == 4)
        gateway.show(a.entry(), b.entry(), policy="least_load")
        assert answers(gateway, 10) == ["b"] * 10


def test_instance_aware_least_load_gives_the_larger_one_more(gateway):
    two(gateway, policy="instance_aware_least_load")
    assert held_by(gateway, 16) == {"a": 12, "b": 4}


def test_sticky_cookie_keeps_a_client_at_its_replica_also_after_others_come_and_go(gateway):
    a, b = gateway.replica("a"), gateway.replica("b")
    gateway.show(a.entry(), b.entry(), policy="sticky")
    with httpx.Client(base_url=gateway.url, timeout=PATIENCE) as client:
        first = {client.get("/who").text for _ in range(10)}
        assert len(first) == 1
        other = b if first == {"a"} else a
        c = gateway.replica("c")
        gateway.show(*(one.entry() for one in (a, b, c) if one is not other), policy="sticky")
        assert {client.get("/who").text for _ in range(10)} == first
    assert len({get(f"{gateway.url}/who").text for _ in range(10)}) == 2


def test_sticky_header_sends_equal_values_to_one_replica(gateway):
    two(gateway, policy="sticky", sticky_header="X-Session")
    seen = {}
    for session in range(40):
        headers = {"X-Session": f"session {session}"}
        [seen[session]] = set(answers(gateway, 3, headers=headers))
    assert set(seen.values()) == {"a", "b"}


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
def test_every_method_passes_with_its_body(gateway, method):
    gateway.show(gateway.replica("a").entry())
    headers = {"X-Own": "7"}
    answer = httpx.request(
        method, f"{gateway.url}/echo?q=1", content=b"abc", headers=headers, timeout=PATIENCE
    )
    assert answer.status_code == 200
    if method != "HEAD":
        arrived = answer.json()
        assert (arrived["method"], arrived["body"], arrived["headers"]["x-own"]) == (method, "abc", "7")
        assert arrived["headers"]["x-forwarded-for"] == "127.0.0.1"
        assert arrived["headers"]["x-forwarded-proto"] == "http"


def test_bodies_stream_both_ways_while_they_last(gateway):
    gateway.show(gateway.replica("a").entry())
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=PATIENCE) as stream:
        stream.sendall(b"POST /stream HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n" + b"x" * 1000)
        came = b""
        while b"first" not in came:
            came += stream.recv(1000)
        stream.sendall(b"y" * 1000)
        while b"last 2000" not in came:
            came += stream.recv(1000)


def test_a_body_of_many_megabytes_arrives_whole(gateway):
    gateway.show(gateway.replica("a").entry())
    answer = httpx.post(f"{gateway.url}/stream", content=bytes(20_000_000), timeout=PATIENCE)
    assert answer.text.split() == ["first", "last", "20000000"]


def test_server_sent_events_come_one_by_one(gateway):
    a = gateway.replica("a")
    gateway.show(a.entry())
    came = []
    with httpx.stream("GET", f"{gateway.url}/sse", timeout=PATIENCE) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        for line in filter(None, answer.iter_lines()):
            came.append(line)
            # The replica sends the next one only then; buffered, the first would never come.
            a.release()
    assert came == ["data: 0", "data: 1", "data: 2"]


def test_websockets_pass_both_ways(gateway):
    def echo(connection: ServerConnection) -> None:
        for message in connection:
            connection.send(message)

    with serve_websockets(echo, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        port = server.socket.getsockname()[1]
        gateway.show({"id": "w", "address": "127.0.0.1", "port": port}, policy="least_load")
        with open_websocket(gateway.url.replace("http", "ws"), open_timeout=PATIENCE) as connection:
            for message in ("one", b"\0\1" * 50_000):
                connection.send(message)
                assert connection.recv(timeout=PATIENCE) == message
        server.shutdown()
        thread.join()


def certificate(folder) -> dict[str, str]:
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    command = f"openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -addext {names} -days 2"
    files = ["-keyout", str(folder / "key"), "-out", str(folder / "certificate")]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    return {"certificate": (folder / "certificate").read_text(), "key": (folder / "key").read_text()}


def curl(*arguments: str) -> str:
    done = subprocess.run(
        ["curl", "-sS", *arguments], capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


has_curl = pytest.mark.skipif(
    shutil.which("curl") is None or shutil.which("openssl") is None,
    reason="curl with HTTP/2 and openssl are not installed",
)


@has_curl
def test_tls_and_http_2_with_the_given_files(gateway, tmp_path):
    tls = certificate(tmp_path)
    gateway.show(gateway.replica("a").entry(), tls=tls)
    url = f"https://localhost:{gateway.port}/echo"
    shown = ["--cacert", str(tmp_path / "certificate"), "-w", "\n%{http_version}"]
    body, version = curl("--http2", *shown, url).rsplit("\n", 1)
    assert version == "2"
    assert json.loads(body)["headers"]["x-forwarded-proto"] == "https"
    assert curl("--http1.1", *shown, url).endswith("\n1.1")


@has_curl
def test_http_2_without_tls_by_prior_knowledge(gateway):
    gateway.show(gateway.replica("a").entry())
    assert curl("--http2-prior-knowledge", "-w", " %{http_version}", f"{gateway.url}/who") == "a 2"


@has_curl
def test_a_bad_certificate_is_a_problem_of_its_service_alone(gateway, tmp_path):
    tls = certificate(tmp_path)
    (tmp_path / "other").mkdir()
    other = certificate(tmp_path / "other")
    entry = gateway.replica("a").entry()
    gateway.show(entry, tls=tls)
    mixed = {"certificate": tls["certificate"], "key": other["key"]}
    second = free_port()
    chat = {"name": "chat", "port": gateway.port, "tls": mixed, "replicas": [entry]}
    gateway.show_services(chat, {"name": "second", "port": second, "replicas": [entry]})
    eventually(lambda: "belong together" in gateway.chat()["problem"])
    eventually(lambda: gateway.status()["services"]["second"]["replicas"]["a"]["state"] == "ready")
    assert get(f"http://127.0.0.1:{second}/who").text == "a"
    assert curl("--cacert", str(tmp_path / "certificate"), f"https://localhost:{gateway.port}/who") == "a"


def test_a_private_service_wants_one_of_its_tokens_and_keeps_it_from_the_replica(gateway):
    entry = gateway.replica("a").entry()

    def sha(token: str) -> str:
        return hashlib.sha256(token.encode()).hexdigest()

    def status(token: str | None, scheme: str = "Bearer") -> int:
        headers = {} if token is None else {"Authorization": f"{scheme} {token}"}
        answer = get(f"{gateway.url}/echo", headers=headers)
        if answer.status_code == 401:
            assert answer.headers["www-authenticate"] == "Bearer"
        else:
            assert "authorization" not in answer.json()["headers"]
        return answer.status_code

    gateway.show(entry, tokens=[sha("first"), sha("second")])
    assert [status(token) for token in ("first", "second")] == [200, 200]
    assert [status(token) for token in (None, "third", "x", sha("first"))] == [401] * 4
    assert status("first", "Basic") == 401
    pid = gateway.haproxy_pid
    gateway.show(entry, tokens=[sha("second"), sha("third")])
    eventually(lambda: status("third") == 200)
    assert [status(token) for token in ("first", "second")] == [401, 200]
    gateway.show(entry, tokens=[])
    eventually(lambda: status("third") == 401)
    assert (gateway.haproxy_pid, gateway.status()["haproxy"]["reloads"]) == (pid, 0)


def test_the_access_log_and_the_figures_name_service_replica_and_version(gateway):
    gateway.show(gateway.replica("a").entry(version=7))
    for path in ("/who?secret=1", "/status/404", "/slow/0.4"):
        get(gateway.url + path)
    httpx.post(f"{gateway.url}/who", content=b'"quoted"', timeout=PATIENCE)

    def lines() -> list[dict[str, object]]:
        whole = (gateway.state / "access.log").read_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    eventually(lambda: len(lines()) == 4)
    assert [(line["method"], line["path"], line["status"]) for line in lines()] == [
        ("GET", "/who", 200),
        ("GET", "/status/404", 404),
        ("GET", "/slow/0.4", 200),
        ("POST", "/who", 200),
    ]
    assert {(line["service"], line["replica"], line["version"]) for line in lines()} == {("chat", "a", "7")}
    figures = eventually(lambda: gateway.chat()["response_samples"] == 4 and gateway.chat())
    assert (figures["requests"], figures["answers"]["2xx"], figures["answers"]["4xx"]) == (4, 3, 1)
    assert figures["replicas"]["a"]["requests"] == 4
    took = sorted(line["total_ms"] / 1000 for line in lines())
    assert took[-1] >= 0.4
    assert figures["response_seconds"] == {"p50": took[1], "p95": took[3], "p99": took[3]}
    assert figures["rate_10s"] > 0
