"""Brings a job's workdir and file mounts to the node; equal content is fetched and unpacked once."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from typing import Callable, Dict, List, Optional, Tuple

from .config import AgentConfig
from .files import Json, read_json, remove_quietly, write_json
from .http_channel import HttpChannel, RefusedError, UnreachableError
from .membership import Membership

WORKDIR = "sky_workdir"


class MountError(Exception):
    """The files cannot be brought: bad content, a path that is not allowed. Trying again does not help."""


class MountRetryError(Exception):
    """The files could not be brought now."""


class Mounts:
    """One at a time per node: jobs share the home folder.

    ``staging`` is a folder that stands for the file system of a container: ``~`` is its ``home``, ``/`` its
    ``root``. The work directory is the node's own in both cases.
    """

    def __init__(self, config: AgentConfig, membership: Membership, staging: str = "") -> None:
        self._config = config
        self._membership = membership
        self._lock = threading.Lock()
        self._cache = os.path.join(config.state_dir, "cache")
        self._record = os.path.join(staging or config.state_dir, "unpacked.json")
        self._home = os.path.join(staging, "home") if staging else config.home_dir
        self._root = os.path.join(staging, "root") if staging else ""

    @property
    def workdir(self) -> str:
        return os.path.join(self._config.home_dir, WORKDIR)

    def bring(self, job: Json, cancelled: Callable[[], bool]) -> List[Tuple[str, str]]:
        """(place, hash) of the file mounts. Raises MountError or MountRetryError."""
        wanted: List[Json] = []
        if job.get("workdir"):
            wanted.append({**job["workdir"], "dst": self.workdir, "kind": "dir"})
        wanted.extend(job.get("file_mounts") or [])
        os.makedirs(self.workdir, exist_ok=True)
        if not wanted:
            return []
        targets = [self._target(mount) for mount in wanted]
        with self._lock:
            if cancelled():
                return []
            os.makedirs(os.path.dirname(self._record), mode=0o700, exist_ok=True)
            unpacked: Dict[str, str] = read_json(self._record) or {}
            pairs = [
                (mount, target)
                for mount, target in zip(wanted, targets)
                if unpacked.get(target) != mount["sha256"] or not os.path.lexists(target)
            ]
            missing = [m for m, _ in pairs if not os.path.exists(self._archive(m["sha256"]))]
            self._download(missing)
            for mount, target in pairs:
                # Forgotten first: a half-merged target must not count as either content.
                self._forget_below(unpacked, target)
                write_json(self._record, unpacked)
                self._unpack(mount, target)
                unpacked[target] = mount["sha256"]
                write_json(self._record, unpacked)
            for mount, _ in pairs:
                remove_quietly(self._archive(mount["sha256"]))
        found = zip(targets, wanted)
        return [(place, str(mount["sha256"])) for place, mount in found if not self._in_workdir(place)]

    def _target(self, mount: Json) -> str:
        home = self._home
        written = str(mount["dst"])
        if written == "~" or written.startswith("~/"):
            path = os.path.join(home, written[2:])
        elif os.path.isabs(written):
            path = written if written == self.workdir else self._root + written
        else:
            path = os.path.join(self.workdir, written)
        ends_with_slash = path.endswith("/")
        path = os.path.normpath(path)
        inside = any(path == own or path.startswith(own + os.sep) for own in (home, self._root or home))
        inside = inside or self._in_workdir(path)
        if not inside and not (os.path.isabs(written) and self._config.allow_absolute_mounts):
            raise MountError(
                f"file_mounts: {written!r} is outside of the home folder, which this cloud does not allow. "
                "Write it as '~/...' ."
            )
        return path + os.sep if ends_with_slash and mount.get("kind") == "file" else path

    def _in_workdir(self, path: str) -> bool:
        return path == self.workdir or path.startswith(self.workdir + os.sep)

    @staticmethod
    def _forget_below(unpacked: Dict[str, str], target: str) -> None:
        folder = target.rstrip(os.sep) + os.sep
        for known in list(unpacked):
            if known == target or known.startswith(folder):
                del unpacked[known]

    def _archive(self, sha256: str) -> str:
        return os.path.join(self._cache, f"{sha256}.tar.gz")

    def _download(self, mounts: List[Json]) -> None:
        if not mounts:
            return
        os.makedirs(self._cache, mode=0o700, exist_ok=True)
        channel = HttpChannel()
        keys = sorted({mount["key"] for mount in mounts})
        try:
            answer = self._membership.call(channel, "downloads", {"keys": keys})
            urls = {entry["key"]: entry for entry in answer.get("urls", [])}
            for mount in mounts:
                if mount["key"] not in urls:
                    raise MountError(f"The control plane gives no address for the upload {mount['key']}.")
                self._fetch(channel, mount, urls[mount["key"]])
        except (UnreachableError, RefusedError, OSError) as exc:
            raise MountRetryError(f"the files cannot be downloaded: {exc}") from exc
        finally:
            channel.close()

    def _fetch(self, channel: HttpChannel, mount: Json, source: Json) -> None:
        place = self._archive(mount["sha256"])
        if os.path.exists(place):
            return
        temporary = place + ".new"
        with open(temporary, "w+b") as stream:
            timeout = self._config.tunables.call_timeout
            channel.download(source["url"], source.get("headers") or {}, stream, timeout)
            stream.seek(0)
            digest = hashlib.sha256()
            for piece in iter(lambda: stream.read(1 << 18), b""):
                digest.update(piece)
        if digest.hexdigest() != mount["sha256"]:
            remove_quietly(temporary)
            raise MountError(
                f"The upload {mount['key']} arrived with SHA-256 {digest.hexdigest()}, "
                f"expected {mount['sha256']}."
            )
        os.replace(temporary, place)

    def _unpack(self, mount: Json, target: str) -> None:
        from .unpack import (
            BadArchiveError,
            extract,
            merge,
        )  # Most nodes unpack nothing, so tar is not loaded.

        staging = os.path.join(self._cache, f"staging-{mount['sha256']}")
        shutil.rmtree(staging, ignore_errors=True)
        try:
            extract(self._archive(mount["sha256"]), staging)
            if mount.get("kind") == "file":
                self._place_single(staging, target)
            else:
                merge(staging, target)
        except BadArchiveError as exc:
            raise MountError(f"{mount['dst']}: {exc}") from exc
        except OSError as exc:
            raise MountError(f"{mount['dst']} cannot be written: {exc}") from exc
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    @staticmethod
    def _place_single(staging: str, target: str) -> None:
        from .unpack import BadArchiveError, place_file

        only = _only_file(staging)
        if only is None:
            raise BadArchiveError("The archive of a single file holds something else.")
        if target.endswith(os.sep):
            target = os.path.join(target, os.path.basename(only))
        place_file(only, target)


def _only_file(folder: str) -> Optional[str]:
    names = os.listdir(folder)
    path = os.path.join(folder, names[0]) if len(names) == 1 else ""
    return path if path and os.path.isfile(path) else None
