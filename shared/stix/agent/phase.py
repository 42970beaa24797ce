"""One script of a job as processes of its own: started so that they outlive the agent, found again after it.

The wrapper shell writes its pid before the script starts and the exit code after it ended; the output goes
straight into files. ``<phase>.exit`` counts only with its final newline, which makes it whole or absent.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from typing import Dict, Optional, Sequence, Tuple

from .files import remove_quietly, write_atomically
from .processes import end_processes, group_members, is_alive, marked, signal_group
from .tunables import Tunables

# $1 folder, $2 phase, $3 shell, $4 profile or empty, rest: cgroup files.
# The trap keeps the wrapper alive through a TERM to its group; a trap that is a command is reset in children.
_WRAPPER = """\
d=$1 p=$2 sh=$3 profile=$4; shift 4
trap : TERM INT HUP
read -r stat 2>/dev/null </proc/$$/stat
printf '%s\\n%s\\n' "$$" "$stat" >"$d/$p.pid"
for f in "$@"; do echo $$ >"$f"; done
if [ -n "$profile" ]; then
  "$sh" -c '. "$1"; exec "$0" "$2"' "$sh" "$profile" "$d/$p.sh" </dev/null >>"$d/$p.out" 2>>"$d/$p.err"
else
  "$sh" "$d/$p.sh" </dev/null >>"$d/$p.out" 2>>"$d/$p.err"
fi
printf '%s\\n' "$?" >"$d/$p.exit"
"""
_LOST = 128 + signal.SIGKILL


def shell() -> str:
    return "/bin/bash" if os.path.exists("/bin/bash") else "/bin/sh"


class Phase:
    """The ``setup`` or the ``run`` of one rank of a job.

    First ``start`` or ``adopt``, then ``wait``; ``end`` from any thread.
    """

    def __init__(self, folder: str, name: str, marker: str, tunables: Tunables) -> None:
        self._folder, self._name = folder, name
        self._marker = marker
        self._tunables = tunables
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._pid, self._started = 0, 0
        self._lock = threading.Lock()

    def path(self, suffix: str) -> str:
        return os.path.join(self._folder, f"{self._name}.{suffix}")

    def start(self, script: str, workdir: str, environment: Dict[str, str], confine: Sequence[str]) -> None:
        """Raises OSError when no process can be made."""
        write_atomically(self.path("sh"), script.encode() + b"\n")
        for suffix in ("pid", "exit"):
            remove_quietly(self.path(suffix))
        command = ["/bin/sh", "-c", _WRAPPER, "stix-job", self._folder, self._name, shell()]
        command += [_profile(environment["HOME"]), *confine]
        environment = {**environment, "STIX_JOB_PHASE": self._name}
        with self._lock:
            self._process = subprocess.Popen(
                command,
                cwd=workdir,
                env=environment,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                close_fds=True,
            )
            self._pid = self._process.pid

    def adopt(self) -> bool:
        """Takes up a phase that an earlier agent started; False when it never began."""
        if self.exit_code() is not None:
            return True
        recorded = self._recorded_pid()
        if recorded is None:
            # Between the fork and the pid file there is a moment; the marker finds the wrapper in it.
            deadline = time.monotonic() + 1.0
            while recorded is None and marked(self._marker) and time.monotonic() < deadline:
                time.sleep(0.02)
                recorded = self._recorded_pid()
            if recorded is None and self.exit_code() is None:
                return False
        if recorded is not None:
            self._pid, self._started = recorded
        return True

    def wait(self) -> int:
        """The exit code when the script has ended; 128+n for signal n, 137 when it vanished silently."""
        if self._process is not None:
            self._process.wait()
        else:
            while self.exit_code() is None and is_alive(self._pid, self._started):
                time.sleep(self._tunables.adopted_poll)
        code = self.exit_code()
        if code is not None:
            return code
        status = self._process.returncode if self._process is not None else None
        return 128 - status if status is not None and status < 0 else _LOST

    def exit_code(self) -> Optional[int]:
        """None until the wrapper has written it."""
        try:
            with open(self.path("exit"), encoding="ascii") as stream:
                text = stream.read()
        except OSError:
            return None
        if not text.endswith("\n") or not text.strip().isdigit():
            return None
        return int(text)

    def end(self) -> None:
        """TERM, the grace, KILL: the process group, and whatever left it but carries the job's marker."""
        group = self._pid

        def alive() -> list[int]:
            found = set(marked(self._marker))
            if group > 0:
                found.update(group_members({group}))
            return sorted(found)

        end_processes(alive, self._tunables.cancel_grace)

    def end_leftovers(self) -> None:
        """Ends what the ended script left in its process group (not what made a session of its own)."""
        group = self._pid
        if group > 0 and signal_group(group, signal.SIGTERM):
            end_processes(lambda: group_members({group}), self._tunables.cancel_grace)

    def _recorded_pid(self) -> Optional[Tuple[int, int]]:
        try:
            with open(self.path("pid"), encoding="ascii", errors="replace") as stream:
                pid, stat, *_ = [*stream.read().split("\n"), ""]
        except OSError:
            return None
        fields = stat[stat.rfind(")") + 2 :].split()
        if not pid.isdigit():
            return None
        return int(pid), int(fields[19]) if len(fields) > 19 else 0


def _profile(home: str) -> str:
    """The person's own profile; the system's would replace the PATH that the node was set up with."""
    for name in (".bash_profile", ".bash_login", ".profile"):
        path = os.path.join(home, name)
        if os.path.isfile(path):
            return path
    return ""


def remove_folder(folder: str) -> None:
    """A job's folder that nobody needs; what cannot be removed is left to the next sweep."""
    shutil.rmtree(folder, ignore_errors=True)
