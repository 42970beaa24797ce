"""A running container as a place for scripts: what starts one there, finds its processes and ends them.

Processes inside are no children of the agent, so they are found from within: by the mark in their
environment, by the session of a marked one, by the process group of the script.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from dataclasses import dataclass
from typing import Dict, List

from .container_options import FIND_PROCESSES, JOBS, WORKDIR, Gpus, entry_script, exec_arguments
from .engine import ContainerError, Engine

log = logging.getLogger("stix.agent.containers")

# $0 and $2 are the marks, $1 the lines. In place: the file is a mount.
_ADD_HOSTS = """\
kept= inside=
while IFS= read -r line || [ -n "$line" ]; do
  case "$line" in
    "${0%?}") inside=1 ;;
    "${2%?}") inside= ;;
    *) [ -n "$inside" ] || kept="$kept$line
" ;;
  esac
done </etc/hosts
printf '%s%s%s%s' "$kept" "$0" "$1" "$2" >/etc/hosts
"""


@dataclass(frozen=True)
class Inside:
    """``user``, ``uid``, ``gid`` and ``home`` are the image's own."""

    engine: Engine
    id: str
    name: str
    user: str
    uid: int
    gid: int
    home: str
    gpus: Gpus

    @property
    def workdir(self) -> str:
        return os.path.join(self.home, WORKDIR)

    def command(self, marker: str) -> List[str]:
        marks = [marker, f"STIX_CONTAINER_JOB={_mark(marker)}"]
        return [self.engine.path, *exec_arguments(self.name, self.user, self.workdir, marks)]

    def open_script(self, environment: Dict[str, str], folder: str, phase: str) -> int:
        """A descriptor of the commands that start the phase's script: secrets stay in memory."""
        inside = f"{JOBS}/{os.path.basename(folder)}"
        text = entry_script(environment, inside, phase).encode("utf-8", "surrogateescape")
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("stix-job")
        else:
            with tempfile.TemporaryFile() as unlinked:
                descriptor = os.dup(unlinked.fileno())
        view = memoryview(text)
        while view:
            view = view[os.write(descriptor, view) :]
        os.lseek(descriptor, 0, os.SEEK_SET)
        return descriptor

    def open_folder(self, folder: str, phase: str) -> None:
        """Lets the image's user, whoever that is, read the script and write the output."""
        os.chmod(folder, 0o711)
        os.chmod(os.path.join(folder, f"{phase}.sh"), 0o644)
        for suffix in ("out", "err", "inside"):
            path = os.path.join(folder, f"{phase}.{suffix}")
            with open(path, "ab"):
                os.chmod(path, 0o666)

    def own_files(self, folder: str) -> None:
        """Gives the files to the image's user, where the agent may and it is not root."""
        if self.uid != 0 and os.geteuid() == 0:
            for path in _tree(folder):
                os.lchown(path, self.uid, self.gid)

    def give_back(self, folder: str) -> None:
        """Files that the container's root made in the work directory become the agent's again: where that is
        not root, it could not delete them."""
        if os.geteuid() == 0:
            return
        owner = f"{os.geteuid()}:{os.getegid()}"
        try:
            if any(os.lstat(path).st_uid != os.geteuid() for path in _tree(folder)):
                self.engine.run("exec", "--user", "0:0", self.name, "chown", "-R", owner, self.workdir)
        except (OSError, ContainerError) as exc:
            log.info("files stay with the container's root", extra={"detail": str(exc)})

    def add_hosts(self, lines: str, begin: str, end: str) -> None:
        """Lines of the container's ``/etc/hosts`` between two marks, instead of those that were there."""
        try:
            self.engine.run(
                "exec", "--user", "0:0", self.name, "/bin/sh", "-c", _ADD_HOSTS, begin, lines, end
            )
        except ContainerError as exc:
            log.warning("the container does not get the group's names", extra={"detail": str(exc)})

    def end(self, marker: str, leader: str, grace: float) -> None:
        """TERM, the grace, KILL, to all processes of the job."""
        self._end("all", marker, leader, grace)

    def end_group(self, marker: str, leader: str, grace: float) -> None:
        """The same for the process group of the script alone."""
        if leader:
            self._end("group", marker, leader, grace)

    def _end(self, which: str, marker: str, leader: str, grace: float) -> None:
        if not self._signal(which, marker, leader, "TERM"):
            return
        deadline = time.monotonic() + grace
        while time.monotonic() < deadline:
            time.sleep(0.1)
            if not self._signal(which, marker, leader, "0"):
                return
        deadline = time.monotonic() + 10
        while self._signal(which, marker, leader, "KILL") and time.monotonic() < deadline:
            time.sleep(0.1)

    def _signal(self, which: str, marker: str, leader: str, signal: str) -> int:
        """How many processes were there to get it; 0 as well when the container does not run."""
        words = ["/bin/sh", "-c", FIND_PROCESSES, "stix", _mark(marker), leader, which, signal]
        try:
            answer = self.engine.run("exec", "--user", "0:0", self.name, *words, seconds=30.0)
        except ContainerError:
            return 1  # A busy engine: asked again.
        if answer.code == 0 and answer.out.strip().isdigit():
            return int(answer.out)
        gone = ("is not running", "no such container", "can only create exec sessions on running")
        return 0 if any(words in answer.err.lower() for words in gone) else 1


def _mark(marker: str) -> str:
    """The job's key in brackets: between other entries it would be the beginning of another job's."""
    return f"[{marker.partition('=')[2]}]"


def _tree(folder: str) -> List[str]:
    found = [folder]
    for place, folders, files in os.walk(folder):
        found += [os.path.join(place, name) for name in (*folders, *files)]
    return found
