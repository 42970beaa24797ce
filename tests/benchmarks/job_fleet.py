"""Thousands of managed jobs that run at once, supervised by one embedded control plane.

The control plane is a process of its own, with its HTTP server, interpreter and store, beside a table of
100,000 jobs that have ended; machines and their agents are another one (``simulated_cloud``). CPU is the
control plane's own. While the fleet runs some of its machines are taken: their jobs must move on, and no
other job may.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psutil

from stix.adapters.sqlite import SqliteStateStore
from stix.local.home import Home

from . import managed_jobs
from .figures import Record, median
from .processes import cpu_seconds, rss_mib
from .simulated_cloud import CloudLine

JOBS = 10_000
SECONDS = 1800.0
TAKEN = 100
_BEAT_SECONDS = 60
_CLIENTS = 8
_WARM = 100
_LISTS = 20
_ROOT = Path(__file__).parents[2]
_READY_SECONDS = 60.0
_PATIENCE = 3600.0
_NOTICE_PAUSE = 0.2


def measure(
    record: Record,
    *,
    jobs: int = JOBS,
    seconds: float = SECONDS,
    taken: int = TAKEN,
    finished: int = managed_jobs.FINISHED,
    warm: int = _WARM,
    beat_seconds: int = _BEAT_SECONDS,
) -> None:
    with fleet(record, finished=finished, beat_seconds=beat_seconds) as plane:
        plane.submit(warm)
        plane.await_running(warm)
        # Every thread and cache is there: what comes now is the jobs'.
        memory, cpu, began = rss_mib(plane.process), cpu_seconds(plane.process), time.perf_counter()
        record.add("submit_rate", plane.submit(jobs))
        spent = cpu_seconds(plane.process) - cpu
        record.note(f"while {jobs} were submitted the control plane used {spent:.0f} CPU-s")
        plane.await_running(warm + jobs)
        spent, wall = cpu_seconds(plane.process) - cpu, time.perf_counter() - began
        record.note(f"all run after {wall:.0f} s, {spent / jobs * 1000:.1f} CPU-ms each")
        shares, moves = _run(plane, record, seconds, taken)
        record.add("cpu_share", sum(shares) / len(shares))
        record.add("queue_page", plane.queue_page())
        grown = rss_mib(plane.process) - memory
        record.add("memory_per_job", grown / jobs * 1024)
        record.note(f"memory: {memory:.0f} MiB before, {memory + grown:.0f} MiB after")
        record.add("wrong_jobs", wrong_jobs(plane.jobs(), warm + jobs, moves))


def measure_notices(record: Record, *, notices: int = 50) -> None:
    """From the moment at which an agent tells of a notice to the decision where its job goes on."""
    with fleet(record, finished=0, beat_seconds=_BEAT_SECONDS) as plane:
        plane.submit(notices)
        plane.await_running(notices)
        numbers = {job["tasks"][0]["cluster"]: job["id"] for job in plane.jobs()}
        told: list[list[Any]] = []
        for _ in range(notices):
            told += plane.cloud.ask("take", count=1)
            time.sleep(_NOTICE_PAUSE)
        plane.await_running(None)
        waits = []
        for cluster, moment in told:
            events = plane.events(numbers[cluster])
            waits.append(next(one["at"] for one in events if one["name"] == "JobRecovering") - moment)
        record.add("decided", median(waits))
        record.note(f"{len(waits)} notices: longest {max(waits):.3f} s")


def _run(plane: Fleet, record: Record, seconds: float, taken: int) -> tuple[list[float], int]:
    """Let the fleet run while a few machines are taken each minute: shares of a core in per cent, minute by
    minute, and how many machines were taken."""
    shares: list[float] = []
    moved = 0
    end = time.perf_counter() + seconds
    minutes = max(1, int(seconds // 60))
    minute = seconds / minutes
    for number in range(minutes):
        cpu, began = cpu_seconds(plane.process), time.perf_counter()
        # None in the last fifth, so that the jobs have moved on by the end.
        if number < max(1, minutes * 4 // 5):
            moved += len(plane.cloud.ask("take", count=-(-taken // max(1, minutes * 4 // 5))))
        time.sleep(max(0.0, end - (minutes - 1 - number) * minute - time.perf_counter()))
        shares.append((cpu_seconds(plane.process) - cpu) / (time.perf_counter() - began) * 100)
        counts = plane.cloud.ask("counts")
        record.note(
            f"minute {number + 1}: {shares[-1]:.1f} % of a core, {rss_mib(plane.process):.0f} MiB, {counts}"
        )
    plane.await_running(None)
    return shares, moved


def wrong_jobs(jobs: list[dict[str, Any]], count: int, moves: int) -> int:
    """Jobs that are not RUNNING or are missing, and moves of jobs beside those whose machines were taken."""
    states = Counter(job["status"] for job in jobs)
    recoveries = sum(job["recoveries"] for job in jobs)
    return count - states["RUNNING"] + abs(recoveries - moves)


@dataclass(frozen=True)
class Fleet:
    """A control plane of its own with a simulated cloud."""

    process: psutil.Process
    cloud: CloudLine
    host: str
    token: str

    def submit(self, count: int) -> float:
        """Jobs a second, by 8 clients of which each sends its next when it has its answer."""

        def some(first: int) -> None:
            with self._caller() as call:
                for number in range(first, count, _CLIENTS):
                    task = {"name": "train", "run": f"python train.py --seed {number}"}
                    call("POST", "/v1/jobs", {"tasks": [{"task": task}]}, 202)

        began = time.perf_counter()
        with ThreadPoolExecutor(_CLIENTS) as clients:
            list(clients.map(some, range(_CLIENTS)))
        return count / (time.perf_counter() - began)

    def await_running(self, count: int | None) -> None:
        """Until so many machines are at work, or as many as there are jobs that have not ended.

        Whoever looks takes at most a tenth of the time, since requests go before the work on jobs.
        """
        deadline = time.monotonic() + _PATIENCE
        while (began := time.monotonic()) < deadline:
            if self.cloud.ask("counts")["at_work"] >= (count or 0):
                states = Counter(job["status"] for job in self.jobs())
                if set(states) == {"RUNNING"} and (count is None or states["RUNNING"] >= count):
                    return
            time.sleep(max(1.0, 9 * (time.monotonic() - began)))
        raise RuntimeError(f"not every job runs: {self.cloud.ask('counts')}")

    def jobs(self) -> list[dict[str, Any]]:
        """All that have not ended."""
        found: list[dict[str, Any]] = []
        after = ""
        with self._caller() as call:
            while True:
                query = {"limit": 100, "skip_finished": "true"} | ({"after": after} if after else {})
                page = call("GET", f"/v1/jobs?{urlencode(query)}", None, 200)
                found += page["jobs"]
                after = page["next"]
                if not after:
                    return found

    def events(self, number: int) -> list[dict[str, Any]]:
        with self._caller() as call:
            return list(call("GET", f"/v1/jobs/{number}/events", None, 200)["events"])

    def queue_page(self) -> float:
        """Milliseconds of the first page of the queue, in the median."""
        waits = []
        with self._caller() as call:
            for _ in range(_LISTS):
                began = time.perf_counter()
                page = call("GET", "/v1/jobs?limit=50", None, 200)
                waits.append(time.perf_counter() - began)
                assert len(page["jobs"]) <= 50
        return median(waits) * 1000

    @contextmanager
    def _caller(self) -> Iterator[Callable[[str, str, Any, int], Any]]:
        """Requests over one connection, each with the status that it must be answered with."""
        connection = http.client.HTTPConnection(self.host, timeout=120)
        headers = {"authorization": f"Bearer {self.token}", "content-type": "application/json"}

        def call(method: str, path: str, body: Mapping[str, Any] | None, expected: int) -> Any:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            content = answer.read()
            if answer.status != expected:
                raise RuntimeError(f"{method} {path} was answered {answer.status}: {content[:200]!r}")
            return json.loads(content)

        try:
            yield call
        finally:
            connection.close()


@contextmanager
def fleet(record: Record, *, finished: int, beat_seconds: int) -> Iterator[Fleet]:
    """Both processes; they are ended at the end, whatever still runs."""
    with tempfile.TemporaryDirectory(prefix="stix-fleet-") as folder:
        home = Home(Path(folder, "home"))
        home.prepare()
        if finished:
            store = SqliteStateStore(home.state_file)
            managed_jobs.fill(store, finished)
            store.close()
        environ = {name: value for name, value in os.environ.items() if not name.startswith("STIX_")}
        environ |= {"STIX_REPORT_SECONDS": str(beat_seconds)}
        python = (sys.executable, "-m")
        cloud = subprocess.Popen(
            [*python, "tests.benchmarks.simulated_cloud"], cwd=_ROOT, env=environ, stdout=subprocess.PIPE
        )
        plane = None
        try:
            assert cloud.stdout is not None
            port = int(cloud.stdout.readline())
            with home.log_file.open("wb") as log:
                plane = subprocess.Popen(
                    [*python, "tests.benchmarks.simulated_plane", str(home.folder), str(port)],
                    cwd=_ROOT,
                    env=environ,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            host = _await_server(home, plane)
            with closing(CloudLine(port)) as line:
                yield Fleet(psutil.Process(plane.pid), line, host, home.token())
        finally:
            for process in filter(None, (plane, cloud)):
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            assert cloud.stdout is not None
            cloud.stdout.close()
            told = home.log_file.read_text(errors="replace")
            if " ERROR " in told:
                first = told.index(" ERROR ")
                words = told[first : first + 2000]
                record.note(f"{told.count(' ERROR ')} errors in the control plane's log, the first: {words}")


def _await_server(home: Home, plane: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        server = home.server()
        if server is not None:
            return server.url.removeprefix("http://")
        if plane.poll() is not None:
            break
        time.sleep(0.05)
    raise RuntimeError(f"the control plane did not start: {home.log_file.read_text()[-2000:]}")
