"""What a test server's machine really is: processes that its boot script started, a folder as its disk."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

__all__ = ["Host"]

_MARK = "STIX_TEST_HOST"


class Host:
    """One machine. Its boot script runs at every power-on, as cloud-init or a container's command would.

    The script finds its metadata service under ``STIX_METADATA_URL`` and keeps everything below
    ``STIX_ROOT`` and ``HOME``, both in ``folder``, which outlives a power-off as a disk does. ``shell`` is
    what runs it: a command that makes namespaces around it, for machines that are more than processes.
    """

    def __init__(
        self,
        folder: Path,
        script: str,
        *,
        metadata_url: str,
        environ: Mapping[str, str] | None = None,
        shell: Sequence[str] = ("/bin/sh",),
    ):
        self.folder = folder
        self._script = script
        self._shell = shell
        self._mark = str(folder)
        self._init: subprocess.Popen[bytes] | None = None
        self._environ = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "STIX_METADATA_URL": metadata_url,
            "STIX_ROOT": str(folder / "root"),
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"),
            _MARK: self._mark,
            **(environ or {}),
        }

    @property
    def on(self) -> bool:
        return bool(self._processes())

    @property
    def console(self) -> str:
        """What the boot script and the agent printed."""
        log = self.folder / "console.log"
        return log.read_text(errors="replace") if log.exists() else ""

    def power_on(self) -> None:
        for name in ("root", "home", "tmp"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        path = self.folder / "user-data"
        path.write_text(self._script)
        with (self.folder / "console.log").open("ab") as console:
            self._init = subprocess.Popen(
                [*self._shell, str(path)],
                cwd=self.folder / "root",
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def power_off(self, *, grace: float = 0.0) -> None:
        """Every process of it ends; with a grace they are told first."""
        if grace:
            for process in self._processes():
                _signal(process, signal.SIGTERM)
            deadline = time.monotonic() + grace
            while self._processes() and time.monotonic() < deadline:
                time.sleep(0.05)
        while processes := self._processes():
            for process in processes:
                _signal(process, signal.SIGKILL)
            time.sleep(0.02)
        if self._init is not None:
            self._init.wait()

    def kill(self, word: str) -> int:
        """Kill the machine's processes with that word among their arguments; how many."""
        found = [process for process in self._processes() if word in _command(process)]
        for process in found:
            _signal(process, signal.SIGKILL)
        return len(found)

    def _processes(self) -> list[psutil.Process]:
        # For a moment after its start the first one shows no environment.
        init = self._init.pid if self._init is not None and self._init.poll() is None else None
        found = []
        for process in psutil.process_iter():
            try:
                marked = process.pid == init or process.environ().get(_MARK) == self._mark
                if not marked:
                    # Jobs have an environment of their own; their home is still this machine's.
                    marked = process.environ().get("HOME") == self._environ["HOME"]
                if marked and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found


def _command(process: psutil.Process) -> list[str]:
    """Empty for one that has ended since."""
    try:
        return list(process.cmdline())
    except psutil.NoSuchProcess:
        return []


def _signal(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
