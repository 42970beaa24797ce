"""Finding, recognising and ending the processes of a machine.

Reads /proc where there is one, else asks ``ps``. A pid alone never identifies a process here: its start mark
goes with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["PROC", "Process", "descendants", "marked", "processes", "signal_processes", "start_mark"]

PROC = Path("/proc")
_PS = ["ps", "-A", "-o", "pid=,ppid=,stat=,lstart="]


@dataclass(frozen=True, slots=True)
class Process:
    """A living process. ``start_mark`` differs for a later process with the same pid, and after a reboot."""

    pid: int
    parent: int
    start_mark: str


def processes() -> dict[int, Process]:
    """Every living process by pid; zombies are left out, and our own are reaped on the way."""
    if not (PROC / "self").exists():
        return _from_ps()
    found = {}
    for entry in os.listdir(PROC):
        if entry.isdigit() and (process := _from_proc(int(entry))) is not None:
            found[process.pid] = process
    return found


def start_mark(pid: int) -> str:
    """The process's start mark, empty when no living process has that pid."""
    if (PROC / "self").exists():
        process = _from_proc(pid)
    else:
        process = _from_ps().get(pid)
    return "" if process is None else process.start_mark


def descendants(root: int, table: Mapping[int, Process]) -> list[int]:
    """Pids below ``root``, parents first."""
    children: dict[int, list[int]] = {}
    for process in table.values():
        children.setdefault(process.parent, []).append(process.pid)
    found: list[int] = []
    queue = [root]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def marked(entries: Collection[str], table: Mapping[int, Process]) -> list[int]:
    """Those of ``table`` whose environment holds one of ``entries`` (``NAME=value``); none without /proc."""
    wanted = {entry.encode() for entry in entries}
    found = []
    for pid in table:
        try:
            environment = (PROC / str(pid) / "environ").read_bytes()
        except OSError:
            continue
        if not wanted.isdisjoint(environment.split(b"\0")):
            found.append(pid)
    return found


def signal_processes(pids: Iterable[int], number: signal.Signals) -> None:
    """Signals all but this very process; one that has ended meanwhile is success."""
    for pid in pids:
        if pid != os.getpid():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)


def _from_proc(pid: int) -> Process | None:
    try:
        text = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name before the last parenthesis may itself hold blanks and parentheses.
    fields = text[text.rfind(")") + 2 :].split()
    state, parent, ticks = fields[0], int(fields[1]), fields[19]
    if state in ("Z", "X"):
        _reap(pid, parent)
        return None
    return Process(pid, parent, f"{_boot_id()}:{ticks}")


def _from_ps() -> dict[int, Process]:
    environment = {**os.environ, "LC_ALL": "C"}
    listing = subprocess.run(
        _PS, capture_output=True, text=True, env=environment, timeout=10, check=True
    ).stdout
    found = {}
    for line in listing.splitlines():
        pid, parent, state, started = line.split(None, 3)
        if state.startswith("Z"):
            _reap(int(pid), int(parent))
        else:
            found[int(pid)] = Process(int(pid), int(parent), started.strip())
    return found


def _reap(pid: int, parent: int) -> None:
    if parent == os.getpid():
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


@cache
def _boot_id() -> str:
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()[:8]
    except OSError:
        return ""
