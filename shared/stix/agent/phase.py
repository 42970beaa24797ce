"""One script of a job as processes of its own: started so that they outlive the agent, found again after it.

The wrapper shell writes its pid before the script starts and the exit code after it ended; the output goes
straight into files. ``<phase>.exit`` counts only with its final newline, which makes it whole or absent.
In a container the wrapper stays outside, and what it runs is the engine's ``exec``.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Dict, List, Optional, Sequence, Tuple

from .files import remove_quietly, write_atomically
from .processes import end_processes, group_members, is_alive, marked, signal_group, start_ticks
from .tunables import Tunables

if TYPE_CHECKING:
    from .inside import Inside

# $1 folder, $2 phase, cgroup files, --, the command.
# The trap keeps the wrapper alive through a TERM to its group; a trap that is a command is reset in children.
_WRAPPER = """\
d=$1 p=$2; shift 2
trap : TERM INT HUP
read -r stat 2>/dev/null </proc/$$/stat
printf '%s\\n%s\\n' "$$" "$stat" >"$d/$p.pid"
while [ "$1" != -- ]; do echo $$ >"$1"; shift; done
shift
"$@" >>"$d/$p.out" 2>>"$d/$p.err"
printf '%s\\n' "$?" >"$d/$p.exit"
"""
_WRAPPER_NAME = "stix-job"
_LOST = 128 + signal.SIGKILL
_WRAPPER_SECONDS = 2.0


def shell() -> str:
    return "/bin/bash" if os.path.exists("/bin/bash") else "/bin/sh"


class Phase:
    """The ``setup`` or the ``run`` of one rank of a job, or its ``preemption`` hook.

    First ``start`` or ``adopt``, then ``wait``; ``end`` from any thread. ``inside`` is the container that it
    runs in, None for none; ``prefix`` what its command begins with outside of one.
    """

    inside: Optional[Inside] = None
    prefix: Sequence[str] = ()

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
        for suffix in ("pid", "exit", "inside"):
            remove_quietly(self.path(suffix))
        environment = {**environment, "STIX_JOB_PHASE": self._name}
        wrapper = ["/bin/sh", "-c", _WRAPPER, _WRAPPER_NAME, self._folder, self._name, *confine, "--"]
        stdin = subprocess.DEVNULL
        if self.inside is None:
            command = [*self.prefix, *_with_profile(shell(), environment["HOME"], self.path("sh"))]
        else:
            self.inside.open_folder(self._folder, self._name)
            stdin = self.inside.open_script(environment, self._folder, self._name)
            command = self.inside.command(self._marker)
            name, _, value = self._marker.partition("=")
            environment = {**self.inside.engine.environment, name: value}
        try:
            with self._lock:
                self._process = subprocess.Popen(
                    [*wrapper, *command],
                    cwd=workdir,
                    env=environment,
                    stdin=stdin,
                    start_new_session=True,
                    close_fds=True,
                )
                self._pid = self._process.pid
        finally:
            if stdin >= 0:
                os.close(stdin)

    def adopt(self) -> bool:
        """Takes up a phase that an earlier agent started; False when it never began."""
        if self.exit_code() is not None:
            return True  # and its pid may be another's by now
        # The wrapper lives some moments before it writes its pid, and without where the disk is full.
        found = self._recorded_pid() or self._living_wrapper() or self._recorded_pid()
        if found is not None:
            self._pid, self._started = found
        return found is not None or self.exit_code() is not None

    def wait(self) -> int:
        """The exit code when the script has ended; 128+n for signal n, 137 when it vanished silently."""
        if self._process is not None:
            self._process.wait()
        else:
            while self.exit_code() is None and is_alive(self._pid, self._started):
                time.sleep(self._tunables.adopted_poll)
        code = self.exit_code()
        if code != 0 and self.inside is not None:
            # The engine's command may have ended before the script did.
            self.end_leftovers()
        if code is not None:
            return code
        status = self._process.returncode if self._process is not None else None
        return 128 - status if status is not None and status < 0 else _LOST

    def wait_for(self, seconds: float) -> Optional[int]:
        """The exit code, None where the script has not ended within ``seconds``."""
        deadline = time.monotonic() + seconds
        while self.exit_code() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        return self.exit_code()

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

    def end(self, grace: Optional[float] = None) -> None:
        """TERM, the grace (seconds), KILL: the process group, and whatever left it but carries the job's
        marker."""
        group = self._pid
        grace = self._tunables.cancel_grace if grace is None else grace
        if self.inside is not None:
            self.inside.end(self._marker, self._leader(), grace)
            self._await_wrapper()

        def alive() -> list[int]:
            found = set(marked(self._marker))
            if group > 0:
                found.update(group_members({group}))
            return sorted(found)

        end_processes(alive, grace)

    def end_leftovers(self) -> None:
        """Ends what the ended script left in its process group (not what made a session of its own)."""
        if self.inside is not None:
            self.inside.end_group(self._marker, self._leader(), self._tunables.cancel_grace)
            return
        group = self._pid
        if group > 0 and signal_group(group, signal.SIGTERM):
            end_processes(lambda: group_members({group}), self._tunables.cancel_grace)

    def _leader(self) -> str:
        """The script's first process by the container's own numbers; empty when it never began."""
        try:
            with open(self.path("inside"), encoding="ascii", errors="replace") as stream:
                text = stream.read().strip()
        except OSError:
            return ""
        return text if text.isdigit() else ""

    def _await_wrapper(self) -> None:
        """What runs outside ends by itself after the script has, and then knows its exit code."""
        deadline = time.monotonic() + _WRAPPER_SECONDS
        while self._pid > 0 and group_members({self._pid}) and time.monotonic() < deadline:
            time.sleep(0.05)

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

    def _living_wrapper(self) -> Optional[Tuple[int, int]]:
        arguments = "\0".join([_WRAPPER, _WRAPPER_NAME, self._folder, self._name, ""]).encode()
        for pid in marked(self._marker):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as stream:
                    # It began a session, which tells it from its children before they are anything else.
                    if arguments in stream.read() and os.getsid(pid) == pid:
                        return pid, start_ticks(pid)
            except OSError:
                continue
        return None


def _with_profile(shell_path: str, home: str, script: str) -> List[str]:
    """After the person's own profile; the system's would replace the PATH that the node was set up with."""
    for name in (".bash_profile", ".bash_login", ".profile"):
        profile = os.path.join(home, name)
        if os.path.isfile(profile):
            return [shell_path, "-c", '. "$1"; exec "$0" "$2"', shell_path, profile, script]
    return [shell_path, script]


def remove_folder(folder: str) -> None:
    """A job's folder that nobody needs; what cannot be removed is left to the next sweep."""
    shutil.rmtree(folder, ignore_errors=True)
