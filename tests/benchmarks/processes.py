"""Commands and processes as the operating system accounts for them."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import psutil

STIX = str(Path(sys.executable).with_name("stix"))
MIB = 1024 * 1024


class CommandFailedError(Exception):
    """A command that a figure depends on did not end well."""


@dataclass(frozen=True)
class Ran:
    """Seconds. ``first_line`` is None when nothing came on standard output."""

    wall: float
    cpu: float
    first_line: float | None
    output: str


def run(command: Sequence[str], environ: Mapping[str, str], cwd: Path | None = None) -> Ran:
    """Run to the end. Raises ``CommandFailedError`` with what it said."""
    began = time.perf_counter()
    with subprocess.Popen(
        command,
        env=dict(environ),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        errors: list[str] = []
        drain = threading.Thread(target=lambda stream: errors.append(stream.read()), args=(process.stderr,))
        drain.start()
        first = process.stdout.readline()
        first_line = time.perf_counter() - began if first else None
        output = first + process.stdout.read()
        drain.join()
        # wait4 and not getrusage(RUSAGE_CHILDREN), which counts every other child of this process too.
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        text = "".join(errors).strip()
        raise CommandFailedError(f"{' '.join(command)} ended with {process.returncode}: {text}")
    return Ran(wall, usage.ru_utime + usage.ru_stime, first_line, output)


def stix(arguments: Sequence[str], environ: Mapping[str, str]) -> Ran:
    return run([STIX, *arguments], environ)


def cpu_seconds(process: psutil.Process) -> float:
    """All its threads', to the nanosecond: /proc counts ticks of 10 ms, more than an idle minute costs."""
    clock = ctypes.c_int()
    error = ctypes.CDLL(None).clock_getcpuclockid(process.pid, ctypes.byref(clock))
    if error:
        raise ProcessLookupError(error, os.strerror(error))
    return time.clock_gettime(clock.value)


def rss_mib(process: psutil.Process) -> float:
    return float(process.memory_info().rss / MIB)


def cpu_share(process: psutil.Process, seconds: float) -> float:
    """Per cent of one core over that time."""
    before, began = cpu_seconds(process), time.perf_counter()
    time.sleep(seconds)
    return (cpu_seconds(process) - before) / (time.perf_counter() - began) * 100


class PeakMemory:
    """The largest RSS (MiB) of each process while the context is open, looked at 10 times a second."""

    def __init__(self, processes: Callable[[], Mapping[str, psutil.Process]]):
        self._processes = processes
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peaks: dict[str, float] = {}

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        processes = self._processes()
        while True:
            for name, process in processes.items():
                self.peaks[name] = max(self.peaks.get(name, 0.0), rss_mib(process))
            if self._done.wait(0.1):
                return
