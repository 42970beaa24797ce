"""What the embedded control plane costs: start, memory, idling, a request, and many parked requests.

Run ``python tests/benchmarks/bench_embedded.py [--idle 60] [--doubles]``; prints figures, asserts nothing.
With ``--doubles`` the server runs tiny handlers, not the real ones: the figures are the runtime's alone.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from stix.local.daemon import Endpoint, ensure_running, status, stop

DOUBLES = Path(__file__).resolve().parent.parent / "integration" / "embedded_doubles.py"


def cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def address(endpoint: Endpoint) -> tuple[str, int]:
    host, _, port = endpoint.url.removeprefix("http://").partition(":")
    return host, int(port)


def bench_requests(endpoint: Endpoint, process: psutil.Process, path: str, count: int) -> None:
    connection = http.client.HTTPConnection(*address(endpoint))
    headers = {"Authorization": f"Bearer {endpoint.token}"}
    latencies = []
    before = cpu_seconds(process)
    for _ in range(count):
        began = time.perf_counter()
        connection.request("GET", path, headers=headers)
        connection.getresponse().read()
        latencies.append(time.perf_counter() - began)
    spent = cpu_seconds(process) - before
    connection.close()
    latencies.sort()
    print(
        f"GET {path}: {spent / count * 1000:.2f} ms CPU each, "
        f"median {latencies[count // 2] * 1000:.2f} ms, p99 {latencies[count * 99 // 100] * 1000:.2f} ms"
    )


async def bench_parked(endpoint: Endpoint, process: psutil.Process, count: int) -> None:
    host, port = address(endpoint)
    request = (
        f"POST /agent/v1/commands HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {endpoint.token}\r\n"
        "content-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
    ).encode()
    memory = process.memory_info().rss
    before, began = cpu_seconds(process), time.perf_counter()
    writers = []
    for _ in range(count):
        _, writer = await asyncio.open_connection(host, port)
        writer.write(request)
        writers.append(writer)
    while cpu_seconds(process) != before:
        before_wait = cpu_seconds(process)
        await asyncio.sleep(1)
        if cpu_seconds(process) - before_wait < 0.02:
            break
    print(
        f"{count} parked requests: {(cpu_seconds(process) - before) / count * 1000:.2f} ms CPU each, "
        f"{(process.memory_info().rss - memory) / count / 1024:.1f} KiB each, "
        f"accepted within {time.perf_counter() - began:.1f} s"
    )
    idle = cpu_seconds(process)
    await asyncio.sleep(5)
    print(f"while they wait: {(cpu_seconds(process) - idle) / 5 * 100:.2f} % of a core")
    for writer in writers:
        writer.close()


def bench_import() -> None:
    code = "import time; t = time.process_time(); import stix.local.daemon; print(time.process_time() - t)"
    spent = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(5)
    ]
    print(f"import stix.local.daemon: {min(spent) * 1000:.1f} ms CPU")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--idle", type=float, default=60.0, help="seconds to watch the idle server")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--parked", type=int, default=2000)
    parser.add_argument("--doubles", action="store_true")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    bench_import()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        command = [sys.executable, str(DOUBLES)] if options.doubles else None
        for label in ("first start", "second start"):
            stop(home)
            began = time.perf_counter()
            endpoint = ensure_running(home, command=command)
            print(f"{label}: ready after {time.perf_counter() - began:.2f} s")
        found = status(home)
        assert found is not None
        process = psutil.Process(found.pid)
        memory = process.memory_info().rss / 2**20
        print(f"after the start: {cpu_seconds(process):.2f} s CPU, RSS {memory:.1f} MiB")
        try:
            time.sleep(2)
            before = cpu_seconds(process)
            time.sleep(options.idle)
            share = (cpu_seconds(process) - before) / options.idle
            print(
                f"idle for {options.idle:.0f} s: {share * 100:.3f} % of a core, "
                f"RSS {process.memory_info().rss / 2**20:.1f} MiB, {process.num_threads()} threads"
            )
            bench_requests(endpoint, process, "/v1/health", options.requests)
            bench_requests(endpoint, process, "/v1/clusters", options.requests)
            if options.doubles:
                asyncio.run(bench_parked(endpoint, process, options.parked))
            print(f"at the end: RSS {process.memory_info().rss / 2**20:.1f} MiB")
        finally:
            began = time.perf_counter()
            stop(home)
            print(f"stopped after {time.perf_counter() - began:.2f} s")


if __name__ == "__main__":
    os.environ.setdefault("PYTHONPATH", "shared")
    main()
