"""Starts a machine's process: detached, inside its control groups, provably at most once."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stix.clouds.local.locking import hold_if_free
from stix.model.errors import ProviderError

__all__ = ["LOG", "Launch", "await_started", "last_words", "launch", "written_pid"]

LOG = "machine.log"
_PID_FILE = "pid"
_LOCK_FD, _REPORT_FD = 3, 4
# The shell writes its pid before it becomes the machine, so that the pid is on disk before anything can fork.
# "started" tells a shell that failed from one that is about to become the machine. A shell of its own says
# so, which alone dies of a pipe that nobody reads: whoever started the machine may have been killed.
_SCRIPT = """
cd "$1" || exit 70
echo $$ > "$2" || exit 70
shift 2
while [ "$1" != -- ]; do
  echo $$ > "$1/cgroup.procs" || { echo "cannot enter the control group $1" >&2; exit 71; }
  shift
done
shift
(echo started >&4) 2> /dev/null
exec "$@" 4>&-
"""


@dataclass(frozen=True, slots=True)
class Launch:
    """A process that was started; ``report`` ends, or says ``started``, within milliseconds."""

    pid: int
    report: int


def launch(
    folder: Path, command: Sequence[str], environment: Mapping[str, str], cgroups: Sequence[str]
) -> Launch | None:
    """None when a process of this machine holds its lock already. Raises OSError.

    The lock's descriptor goes on into the machine's process and ends with it, so that two control planes, or
    one that was killed between starting and writing it down, never run a machine twice.
    """
    held = hold_if_free(folder / "running.lock")
    if held is None:
        return None
    reading, writing = os.pipe()
    descriptors = [held, writing]
    try:
        lock, report = (fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, 10) for each in (held, writing))
        descriptors += [lock, report]
        log = str(folder / LOG)
        pid = os.posix_spawn(
            "/bin/sh",
            ["/bin/sh", "-c", _SCRIPT, "stix-machine", str(folder), _PID_FILE, *cgroups, "--", *command],
            dict(environment),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
                (os.POSIX_SPAWN_DUP2, lock, _LOCK_FD),
                (os.POSIX_SPAWN_DUP2, report, _REPORT_FD),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=[
                signal.SIGINT,
                signal.SIGQUIT,
                signal.SIGPIPE,
                signal.SIGHUP,
                signal.SIGTERM,
                signal.SIGCHLD,
            ],
        )
        return Launch(pid, reading)
    except BaseException:
        os.close(reading)
        raise
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def await_started(launches: Mapping[str, Launch], folders: Mapping[str, Path], seconds: float = 0.2) -> None:
    """Waits at most ``seconds`` in all; raises ``ProviderError`` with the words of a process that failed.

    One that has said nothing by then is taken as started: the machine's description tells the rest.
    """
    deadline = time.monotonic() + seconds
    try:
        for machine_id, started in launches.items():
            poll = select.poll()
            poll.register(started.report, select.POLLIN)
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                continue
            if not os.read(started.report, 64):
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(started.pid, 0)
                words = last_words(folders[machine_id]) or "it ended without a word"
                raise ProviderError(
                    f"The process of local machine {machine_id} could not be started: {words}.",
                    hint=f"Its whole output is in {folders[machine_id] / LOG}.",
                )
    finally:
        for started in launches.values():
            os.close(started.report)


def written_pid(folder: Path) -> int:
    """The pid that the machine's process wrote itself; 0 when it never did."""
    try:
        return int((folder / _PID_FILE).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


def last_words(folder: Path, limit: int = 300) -> str:
    """The last line of the machine's own output, shortened; empty when there is none."""
    try:
        with open(folder / LOG, "rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - 4096))
            lines = stream.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    said = [line.strip() for line in lines if line.strip()]
    return said[-1][:limit].rstrip(".") if said else ""
