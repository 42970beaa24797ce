"""A machine's init: starts the agent, starts it again, reaps orphans, and ends everything with itself.

Used by the local provider, where a process tree stands for a machine. It imports little: each node runs one.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time

from .exit_codes import EXIT_CONFIG, EXIT_POWER_OFF, FIRST_FATAL
from .processes import descendants, end_processes, start_ticks

_PR_SET_CHILD_SUBREAPER = 36
_BACKOFF_FIRST, _BACKOFF_LAST, _STEADY_SECONDS = 0.1, 5.0, 30.0
_HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)


def run_machine(config_path: str) -> int:
    """Runs until the agent says power off (0), fails for good (64 and above) or a SIGTERM arrives."""
    try:
        with open(config_path, encoding="utf-8") as stream:
            config = json.load(stream)
        state_dir = config["state_dir"]
        tunables = config.get("tunables") or {}
        grace = float(tunables.get("machine_grace", 5.0))
        folder_check = float(tunables.get("folder_check_seconds", 60.0))
        os.makedirs(state_dir, mode=0o700, exist_ok=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        sys.stderr.write(f"stix-agent: the config {config_path} cannot be used: {exc!r}\n")
        return EXIT_CONFIG
    _become_subreaper()
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_read, False)
    os.set_blocking(wake_write, False)
    machine = _Machine(config_path, wake_read, folder_check)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    for number in _HANDLED:
        signal.signal(number, machine.on_signal)
    _write_pid_file(os.path.join(state_dir, "machine.pid"))
    try:
        return machine.run()
    finally:
        machine.end_everything(grace)


class _Machine:
    def __init__(self, config_path: str, wake: int, folder_check: float) -> None:
        self._config_path, self._folder_check = config_path, folder_check
        self._command = _agent_command(config_path)
        self._wake = wake
        self._stopping = False
        self._agent = 0

    def on_signal(self, number: int, _frame: object) -> None:
        if number != signal.SIGCHLD:
            self._stopping = True

    def run(self) -> int:
        backoff = _BACKOFF_FIRST
        while not self._stopping:
            started = time.monotonic()
            self._agent = os.spawnv(os.P_NOWAIT, self._command[0], self._command)
            status = self._wait_for_agent()
            if status is None:
                break
            code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -1
            if code == EXIT_POWER_OFF or code >= FIRST_FATAL:
                return code
            if time.monotonic() - started > _STEADY_SECONDS:
                backoff = _BACKOFF_FIRST
            self._rest(backoff)
            backoff = min(backoff * 2, _BACKOFF_LAST)
        return EXIT_POWER_OFF

    def _wait_for_agent(self) -> int | None:
        while not self._stopping:
            status = self._reap()
            if status is not None:
                return status
            if not os.path.exists(self._config_path):
                # The folder that stands for this machine was deleted: nobody else could ever end it.
                return None
            self._sleep_until_signal(self._folder_check)
        return None

    def _reap(self) -> int | None:
        """Collects every ended child; the agent's wait status if it was among them."""
        found = None
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return found
            if pid == 0:
                return found
            if pid == self._agent:
                found = status

    def _rest(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._stopping and time.monotonic() < deadline:
            self._sleep_until_signal(deadline - time.monotonic())
            self._reap()

    def _sleep_until_signal(self, seconds: float) -> None:
        # The wakeup descriptor closes the gap between looking and sleeping, which pause() would leave.
        ready, _, _ = select.select([self._wake], [], [], seconds)
        if ready:
            os.read(self._wake, 4096)

    def end_everything(self, grace: float) -> None:
        def alive() -> list[int]:
            self._reap()
            return descendants(os.getpid())

        end_processes(alive, grace)


def _agent_command(config_path: str) -> list[str]:
    flags = []
    if sys.flags.isolated:
        flags.append("-I")
    if sys.flags.no_site:
        flags.append("-S")
    archive = os.path.abspath(sys.argv[0])
    if os.path.isfile(archive) and not archive.endswith(".py"):
        return [sys.executable, *flags, archive, "agent", "--config", config_path]
    package = (__package__ or "stix.agent").split(".__")[0]
    return [sys.executable, *flags, "-m", package, "agent", "--config", config_path]


def _become_subreaper() -> None:
    """Orphans below this process are re-parented to it; Linux only, elsewhere they go to init."""
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _write_pid_file(path: str) -> None:
    temporary = path + ".new"
    with open(temporary, "w", encoding="ascii") as stream:
        stream.write(json.dumps({"pid": os.getpid(), "started": start_ticks(os.getpid())}))
    os.replace(temporary, path)
