"""One isolated home of the embedded system as a person has it: real commands, server, agents and jobs."""

from __future__ import annotations

import math
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil

from stix.adapters.sqlite import SqliteStateStore
from stix.application.sweep import KINDS, RARE_KINDS
from stix.local.daemon import read_endpoint, status, stop
from stix.ports.state_store import SHARDS, Item, StateStore
from stix.sdk.client import Client
from stix.sdk.endpoint import Endpoint
from stix.sdk.responses import Job

STIX = Path(sys.executable).with_name("stix")
ROOT = Path(__file__).parents[2]
GENEROUS = 120.0
ENDED = frozenset({"SUCCEEDED", "FAILED", "FAILED_SETUP", "FAILED_DRIVER", "CANCELLED"})

_SELDOM_SECONDS = 0.3
_NOT_KEPT = ("STIX_", "PYTEST", "PYTHON", "AWS_", "GOOGLE_", "AZURE_", "KUBE")
"""Also the credentials of clouds that emulations in this process have put there for other tests."""

T = TypeVar("T")
Done = subprocess.CompletedProcess[str]


def command_of(process: psutil.Process) -> list[str]:
    """Its command line, empty once it has ended: those that were just listed may have."""
    try:
        return list(process.cmdline())
    except psutil.NoSuchProcess:
        return []


def _born(process: psutil.Process) -> float:
    try:
        return float(process.create_time())
    except psutil.NoSuchProcess:
        return math.inf


def await_that(what: str, look: Callable[[], T], *, seconds: float = GENEROUS, every: float = 0.05) -> T:
    """The first truthy value of ``look``; the deadline only keeps a failure from hanging. What takes longer
    is looked for less often: a look may be a command."""
    deadline = time.monotonic() + seconds
    while True:
        if found := look():
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds:g} s")
        time.sleep(every)
        every = max(every, min(every * 1.25, _SELDOM_SECONDS))


def read_below(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file below the folder, and what is in it. Files and folders may come and go meanwhile."""
    # A glob fails where a folder goes that it is about to look into.
    for parent, _, names in os.walk(folder):
        for path in (Path(parent, name) for name in names):
            try:
                if path.is_file():
                    yield path, path.read_bytes()
            except FileNotFoundError:
                continue


def live_items(store: StateStore) -> list[Item]:
    """Items that somebody still has to look at."""
    far = time.time() + 10 * 365 * 86400
    keys = [
        entry.key
        for kind in KINDS | RARE_KINDS
        for shard in range(SHARDS)
        for entry in store.due(kind, shard, far, limit=1000)
    ]
    return [item for key in keys if (item := store.get(key)) is not None and item.live]


class EmbeddedHome:
    """A STIX_HOME of its own. Nothing starts before a command does; ``finish`` ends all of it."""

    def __init__(self, folder: Path, **settings: str):
        self.folder = folder
        kept = {k: v for k, v in os.environ.items() if not k.startswith(_NOT_KEPT)}
        self.environ = kept | {"STIX_HOME": str(folder), "COLUMNS": "80"} | settings

    # -- commands --------------------------------------------------------------------------------------------

    def stix(self, *arguments: str, code: int | None = 0, cwd: Path = ROOT, **environ: str) -> Done:
        """Run a command to its end; ``code`` is the exit code it must have, None for any."""
        done = subprocess.run(
            [STIX, *arguments],
            env=self.environ | environ,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=GENEROUS,
        )
        assert "Traceback" not in done.stderr, done.stderr
        if code is not None:
            said = f"stix {' '.join(arguments)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
            assert done.returncode == code, said
        return done

    def spawn(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        """Begin a command in a session of its own, as a terminal would: it hears Ctrl-C, also where these
        tests run in the background and so do not."""
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return subprocess.Popen(
                [STIX, *arguments],
                env=self.environ,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                **{"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} | options,
            )
        finally:
            signal.signal(signal.SIGINT, before)

    def exec(self, cluster: str, command: str, *flags: str) -> int:
        """Queue a command; its job id."""
        said = self.stix("exec", "-d", *flags, cluster, command).stderr
        words = said[said.rindex("Job ") :].split()
        return int(words[1])

    @contextmanager
    def client(self) -> Iterator[Client]:
        found = read_endpoint(self.folder)
        assert found is not None, "no server runs"
        with Client(Endpoint(found.url, found.token)) as client:
            yield client

    def job(self, cluster: str, job_id: int) -> Job:
        with self.client() as client:
            return client.job(cluster, job_id)

    def await_job(self, cluster: str, job_id: int, *, seconds: float = GENEROUS) -> Job:
        """The job once it has ended."""

        def ended() -> Job | None:
            job = self.job(cluster, job_id)
            return job if job["status"] in ENDED else None

        found = await_that(f"job {job_id} of {cluster} ends", ended, seconds=seconds)
        assert found is not None
        return found

    # -- processes -------------------------------------------------------------------------------------------

    def server_pid(self) -> int:
        found = status(self.folder)
        assert found is not None, "no server runs"
        return found.pid

    def kill_server(self) -> bool:
        """End the server as a power cut would; False when none was ready."""
        found = status(self.folder)
        if found is None:
            return False
        with_handle = psutil.Process(found.pid)
        os.kill(found.pid, signal.SIGKILL)
        with_handle.wait(GENEROUS)
        return True

    def agents(self) -> dict[int, psutil.Process]:
        """The agents by node rank."""
        found: dict[int, psutil.Process] = {}
        # What an agent starts looks like it for a moment, and is younger.
        for process in sorted(self.processes(), key=_born):
            command = command_of(process)
            if "agent" in command[2:5] and "--config" in command:
                found.setdefault(int(Path(command[-1]).parent.name.rpartition("-")[2]), process)
        return found

    def processes(self) -> list[psutil.Process]:
        """Everything alive whose command line or environment names this home."""
        mark = str(self.folder).encode()
        found = []
        for process in psutil.process_iter():
            if process.pid == os.getpid():
                continue
            try:
                about = Path(f"/proc/{process.pid}/cmdline").read_bytes() + b"\0"
                about += Path(f"/proc/{process.pid}/environ").read_bytes() + b"\0"
                if (mark + b"\0" in about or mark + b"/" in about) and process.status() != "zombie":
                    found.append(process)
            except (OSError, psutil.Error):
                continue
        return found

    def await_no_process(self) -> None:
        """What was ended may take a moment to go."""
        await_that("no process is left", lambda: not self.processes())

    # -- state -----------------------------------------------------------------------------------------------

    def live_items(self) -> list[Item]:
        """Items that somebody still has to look at, read past the server from its file."""
        store = SqliteStateStore(self.folder / "state.db")
        try:
            return live_items(store)
        finally:
            store.close()

    def live_runs(self) -> list[tuple[str, str]]:
        """State machine runs that have not ended: machine and name."""
        with sqlite3.connect(f"file:{self.folder / 'state.db'}?mode=ro", uri=True) as connection:
            rows = connection.execute(
                "SELECT machine, name FROM wf_executions WHERE status = 'RUNNING'"
            ).fetchall()
        connection.close()
        return rows

    # -- the end ---------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Take everything down. Fails when a cluster will not go or a process was left, which is ended."""
        if not self.folder.is_dir():
            return
        problems = []
        try:
            if (self.folder / "state.db").exists():
                self.stix("down", "-y", "-a")
            stop(self.folder)
        except AssertionError as exc:
            problems.append(str(exc))
        left = self._left(seconds=60.0)
        if left:
            problems.append("left over: " + "; ".join(f"{pid} {command}" for pid, command in left.items()))
        assert not problems, "\n".join(problems)

    def _left(self, *, seconds: float) -> dict[int, str]:
        """Processes that do not end by themselves; they are ended here."""
        deadline = time.monotonic() + seconds
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.05)
        told = {}
        for process in left:
            try:
                told[process.pid] = " ".join(process.cmdline())[:200]
                process.kill()
            except psutil.Error:
                continue
        return told
