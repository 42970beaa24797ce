"""Looking at processes and ending them, by pid, group, descent or environment marker."""

from __future__ import annotations

import os
import signal
import time

TYPE_CHECKING = False  # Known to type checkers; importing typing would double the init's own memory.
if TYPE_CHECKING:
    from typing import Callable, Iterable


def start_ticks(pid: int) -> int:
    """The process's start time in clock ticks since boot; 0 when gone, a zombie, or without /proc."""
    stat = _stat_fields(pid)
    if stat is None or stat[0] in ("Z", "X"):
        return 0
    return int(stat[19])


def is_alive(pid: int, started: int) -> bool:
    """True while the same process (not a later one with its pid) runs; without /proc the pid decides."""
    if pid <= 0:
        return False
    if not os.path.isdir("/proc/self"):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True
    ticks = start_ticks(pid)
    return ticks != 0 and (started == 0 or ticks == started)


def children_of() -> dict[int, list[int]]:
    """Parent pid to child pids, zombies included."""
    tree: dict[int, list[int]] = {}
    for pid, stat in _all_stats():
        tree.setdefault(int(stat[1]), []).append(pid)
    return tree


def descendants(root: int) -> list[int]:
    """Every living process below ``root``, parents first; zombies are left out."""
    tree = children_of()
    found: list[int] = []
    queue = list(tree.get(root, []))
    while queue:
        pid = queue.pop(0)
        found.append(pid)
        queue.extend(tree.get(pid, []))
    return [pid for pid in found if start_ticks(pid) != 0]


def marked(marker: str) -> list[int]:
    """Pids (not this process) whose environment holds the exact entry ``NAME=value``."""
    wanted = marker.encode()
    found = []
    for pid in _pids():
        if pid == os.getpid():
            continue
        try:
            with open(f"/proc/{pid}/environ", "rb") as stream:
                entries = stream.read().split(b"\0")
        except OSError:
            continue
        if wanted in entries and start_ticks(pid) != 0:
            found.append(pid)
    return found


def signal_group(group: int, number: int) -> bool:
    """False when the group has no process left."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def signal_all(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue


def group_members(groups: set[int]) -> list[int]:
    return [pid for pid, stat in _all_stats() if int(stat[2]) in groups and stat[0] not in ("Z", "X")]


def end_processes(
    list_alive: Callable[[], list[int]], grace: float, pause: Callable[[float], None] = time.sleep
) -> None:
    """TERM to all, wait up to ``grace`` seconds, KILL until none is left (at most 5 more seconds)."""
    signal_all(list_alive(), signal.SIGTERM)
    deadline = time.monotonic() + grace
    interval = 0.01
    while time.monotonic() < deadline:
        if not list_alive():
            return
        pause(interval)
        interval = min(interval * 1.5, 0.1)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        alive = list_alive()
        if not alive:
            return
        signal_all(alive, signal.SIGKILL)
        pause(0.02)


def _pids() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def _all_stats() -> Iterable[tuple[int, list[str]]]:
    for pid in _pids():
        stat = _stat_fields(pid)
        if stat is not None:
            yield pid, stat


def _stat_fields(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat from the state on; the name before it may hold blanks and parentheses."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stream:
            text = stream.read()
    except OSError:
        return None
    return text[text.rfind(")") + 2 :].split()
