"""The gateway's cost: against a direct connection, and against a plain Python reverse proxy.

wrk asks with keep-alive for 1 KB from a native backend, HAProxy again, which answers by itself. The
gateway's HAProxy has one thread. The Python proxy is what many write, and what SkyServe has: FastAPI, httpx,
uvicorn.
Beside it is the fastest of that kind, an ASGI application without a framework.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from stix.gateway.runtime_api import RuntimeApi
from tests.integration.gateway_world import GatewayProcess, ReplicaProcess
from tests.ports import free_port
from tests.waiting import eventually

from .figures import Record, median
from .processes import MIB, cpu_seconds, run

_SECONDS = 8
_CONNECTIONS = 64
_TURNS = 7
_BACKEND = """
global
    nbthread 1
    maxconn 2000
defaults
    mode http
    timeout client 60s
    timeout server 60s
    timeout connect 5s
frontend kilobyte
    bind 127.0.0.1:{port}
    http-request return status 200 content-type text/plain string {body}
"""
_FASTAPI_PROXY = """
import fastapi, httpx, sys, uvicorn
from fastapi.responses import StreamingResponse
from starlette.background import BackgroundTask
client = httpx.AsyncClient(base_url=sys.argv[1], limits=httpx.Limits(max_connections=None))
app = fastapi.FastAPI()

@app.api_route("/{path:path}", methods=["GET", "POST", "PUT", "DELETE"])
async def forward(request: fastapi.Request):
    body = await request.body()
    asked = client.build_request(request.method, request.url.path, headers=request.headers.raw, content=body)
    answer = await client.send(asked, stream=True)
    closing = BackgroundTask(answer.aclose)
    return StreamingResponse(answer.aiter_raw(), answer.status_code, answer.headers, background=closing)
"""
_BARE_PROXY = """
import httpx, sys, uvicorn
client = httpx.AsyncClient(base_url=sys.argv[1], limits=httpx.Limits(max_connections=None))

async def app(scope, receive, send):
    body, more = b"", True
    while more:
        event = await receive()
        body, more = body + event.get("body", b""), event.get("more_body", False)
    answer = await client.request(scope["method"], scope["path"], headers=scope["headers"], content=body)
    await send({"type": "http.response.start", "status": answer.status_code, "headers": answer.headers.raw})
    await send({"type": "http.response.body", "body": answer.content})
"""
_SERVE = """
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), lifespan="off", log_level="error", access_log=False)
"""


def measure(record: Record) -> None:
    with tempfile.TemporaryDirectory(prefix="stix-gateway-") as folder, _backend(Path(folder)) as port:
        direct = f"http://127.0.0.1:{port}/"
        gateway = GatewayProcess(Path(folder))
        try:
            gateway.start("--threads", "1")
            gateway.show({"id": "native", "address": "127.0.0.1", "port": port})
            worker = psutil.Process(RuntimeApi(str(gateway.state)).pid())
            _latency(record, direct, gateway.url)
            rate, per_cpu = _load(gateway.url, worker)
            record.add("rate", rate)
            record.add("rss", worker.memory_info().rss / MIB)
            record.note(f"{per_cpu:.0f} requests per CPU-second of HAProxy")
            for name, program in (("cpu_ratio", _FASTAPI_PROXY), ("bare_cpu_ratio", _BARE_PROXY)):
                with _python_proxy(program, direct) as (url, process):
                    python_rate, python_per_cpu = _load(url, process)
                record.note(
                    f"{name}: the Python proxy {python_rate:.0f}/s, {python_per_cpu:.0f} per CPU-second"
                )
                record.add(name, per_cpu / python_per_cpu)
            record.add("supervisor_cpu", _idle(gateway))
            _routing(record, gateway)
        finally:
            gateway.finish()


def _latency(record: Record, direct: str, through: str) -> None:
    """One connection, so that nothing queues; both in turns, so that the machine's moods hit both."""
    times: dict[str, list[tuple[float, float]]] = {direct: [], through: []}
    for _ in range(5):
        for url, found in times.items():
            shown = _wrk(url, connections=1, seconds=2)
            found.append((_milliseconds(shown, "50%"), _milliseconds(shown, "99%")))
    for index, name in enumerate(("added_p50", "added_p99")):
        record.add(
            name,
            median([each[index] for each in times[through]])
            - median([each[index] for each in times[direct]]),
        )


def _load(url: str, process: psutil.Process) -> tuple[float, float]:
    """Requests per second, and per CPU-second of the process."""
    _wrk(url, _CONNECTIONS, 1)
    before = cpu_seconds(process)
    shown = _wrk(url, _CONNECTIONS, _SECONDS)
    used = cpu_seconds(process) - before
    found = re.search(r"(\d+) requests in ([\d.]+)s", shown)
    assert found, shown
    assert "Non-2xx" not in shown, shown
    # wrk's own patience of 2 s is too short for the Python proxy; that is no error of it.
    assert not re.search(r"(connect|read|write) [1-9]", shown), shown
    return int(found[1]) / float(found[2]), int(found[1]) / used


def _wrk(url: str, connections: int, seconds: int) -> str:
    """Debian's package wrk."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", url]
    return run(command, {"PATH": "/usr/local/bin:/usr/bin:/bin"}).output


def _milliseconds(shown: str, percent: str) -> float:
    found = re.search(rf"{percent}\s+([\d.]+)(us|ms|s)\b", shown)
    assert found, shown
    return float(found[1]) * {"us": 0.001, "ms": 1, "s": 1000}[found[2]]


def _idle(gateway: GatewayProcess) -> float:
    """CPU of the supervisor, per cent of a core, with one service and nothing to do."""
    assert gateway.supervisor is not None
    process = psutil.Process(gateway.supervisor.pid)
    before = cpu_seconds(process)
    time.sleep(_SECONDS)
    return (cpu_seconds(process) - before) / _SECONDS * 100


def _routing(record: Record, gateway: GatewayProcess) -> None:
    """With the default probe, every 10 s. Without requests, so that none of them finds a dead replica out."""
    ready, dead = [], []
    api = RuntimeApi(str(gateway.state))
    for _ in range(_TURNS):
        port = free_port()
        gateway.show({"id": "a", "address": "127.0.0.1", "port": port}, wait=False, probe={"path": "/health"})
        time.sleep(0.3)
        replica = ReplicaProcess("a", port)
        began = time.perf_counter()
        assert httpx.get(f"{gateway.url}/who", timeout=10).text == "a"
        ready.append(time.perf_counter() - began)
        replica.kill()
        began = time.perf_counter()

        def is_out() -> bool:
            return all(
                load.status.startswith(("DOWN", "MAINT"))
                for (proxy, server), load in api.loads().items()
                if proxy == "chat" and server.startswith("s")
            )

        eventually(is_out)
        dead.append(time.perf_counter() - began)
    record.add("ready_to_routed", median(ready))
    record.add("dead_to_none_routed", median(dead))


@contextmanager
def _backend(folder: Path) -> Iterator[int]:
    port = free_port()
    config = folder / "backend.cfg"
    config.write_text(_BACKEND.format(port=port, body="x" * 1024))
    with _process(["/usr/sbin/haproxy", "-db", "-f", str(config)], f"http://127.0.0.1:{port}/"):
        yield port


@contextmanager
def _python_proxy(program: str, target: str) -> Iterator[tuple[str, psutil.Process]]:
    port = free_port()
    command = [sys.executable, "-c", program + _SERVE, target, str(port)]
    with _process(command, f"http://127.0.0.1:{port}/") as process:
        yield f"http://127.0.0.1:{port}/", psutil.Process(process.pid)


@contextmanager
def _process(command: list[str], url: str) -> Iterator[subprocess.Popen[bytes]]:
    def answers() -> bool:
        try:
            return httpx.get(url).status_code == 200
        except httpx.ConnectError:
            return False

    process = subprocess.Popen(command)
    try:
        eventually(answers)
        yield process
    finally:
        process.kill()
        process.wait()
