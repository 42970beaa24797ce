"""The embedded server's CPU for one request, through its socket and the real handlers, and for held ones."""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from urllib.parse import urlsplit

from .control_plane import ControlPlane, control_plane
from .figures import Record, percentile
from .processes import cpu_seconds, rss_mib

_REQUESTS = 500
_HELD = 1000


def measure(record: Record) -> None:
    with control_plane() as plane:
        plane.launch("requests", num_nodes=2, run="true")
        user = plane.endpoint.token
        node = plane.node_token(next(iter(plane.agents())))
        # The agent's own regular report: nothing has changed.
        beat = {"idle_since": time.time(), "jobs": []}
        for name, method, path, token, body in (
            ("health", "GET", "/v1/health", "", None),
            ("status", "GET", "/v1/clusters", user, None),
            ("job", "GET", "/v1/clusters/requests/jobs/1", user, None),
            ("heartbeat", "POST", "/agent/v1/report", node, beat),
        ):
            cpu, p99 = _requests(plane, method, path, token, body)
            record.add(f"{name}_cpu", cpu)
            record.note(f"{method} {path}: {cpu:.2f} ms CPU each, p99 {p99:.2f} ms")
        asyncio.run(_held(plane, node, record))


def _requests(
    plane: ControlPlane, method: str, path: str, token: str, body: object
) -> tuple[float, float]:
    """Milliseconds of the server's CPU for each, and the 99th percentile of the wait."""
    host, port = _address(plane)
    connection = http.client.HTTPConnection(host, port, timeout=30)
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    content = None if body is None else json.dumps(body)
    waits = []
    before = cpu_seconds(plane.process)
    for _ in range(_REQUESTS):
        began = time.perf_counter()
        connection.request(method, path, body=content, headers=headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{method} {path} answered {answer.status}")
        waits.append(time.perf_counter() - began)
    spent = cpu_seconds(plane.process) - before
    connection.close()
    return spent / _REQUESTS * 1000, percentile(waits, 99) * 1000


async def _held(plane: ControlPlane, token: str, record: Record) -> None:
    """What an idle node costs the server: its question for commands, held open."""
    host, port = _address(plane)
    body = json.dumps({"after": 1_000_000, "wait": True})
    request = (
        f"POST /agent/v1/commands HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}"
    ).encode()
    process = plane.process
    memory, cpu = rss_mib(process), cpu_seconds(process)
    writers = []
    for _ in range(_HELD):
        _, writer = await asyncio.open_connection(host, port)
        writer.write(request)
        writers.append(writer)
    spent = -1.0
    while spent != (spent := cpu_seconds(process) - cpu):
        await asyncio.sleep(0.5)
    record.add("held_cpu", spent / _HELD * 1000)
    record.add("held_memory", (rss_mib(process) - memory) / _HELD * 1024)
    for writer in writers:
        writer.close()


def _address(plane: ControlPlane) -> tuple[str, int]:
    parts = urlsplit(plane.endpoint.url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port
