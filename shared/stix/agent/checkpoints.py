"""A managed job's checkpoints: a folder that is stored again and again, and is there on the next machine.

Files are stored in chunks under the hash of their content, so that only what changed is sent. A manifest
names the files of one checkpoint; it counts once the control plane has taken it. A program should write a
file under another name and rename it: one that changes while it is read is left as it last was.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import stat
import threading
import time
from typing import Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

from .files import Json
from .http_channel import HttpChannel, RefusedError, UnreachableError
from .membership import GoneError, Membership, RefusedForGoodError, StoppedError
from .mounts import MountError, MountRetryError

log = logging.getLogger("stix.agent.checkpoints")

CHUNK_BYTES = 16 * 1024 * 1024
_AT_ONCE = 64
_MOST_FILES = 50_000
_HOT_SECONDS = 2.0
_FOLDER = os.path.join(".stix", "checkpoints")

Chunk = Tuple[str, int]


class Stored(NamedTuple):
    """A file as it was read: what tells whether it changed, and its chunks."""

    size: int
    mtime_ns: int
    mode: int
    chunks: Tuple[Chunk, ...]


class SupersededError(Exception):
    """A newer run of the task has begun elsewhere: nothing of this one is kept any more."""


def checkpoint_folder(workdir: str, managed: Json) -> str:
    """Where a managed job's task finds its checkpoints; in the workdir, which containers see too."""
    return os.path.join(workdir, _FOLDER, f"{managed['job']}-{managed['task']}")


class Checkpoints:
    """Of one rank of one run. ``restore`` comes first, then ``store`` from one thread at a time."""

    def __init__(self, membership: Membership, folder: str, job: int, rank: int, timeout: float) -> None:
        self.folder = folder
        self._membership = membership
        self._who: Json = {"job": job, "rank": rank}
        self._timeout = timeout
        self._known: Dict[str, Stored] = {}
        self._stored: Set[str] = set()
        self._manifest = ""
        self._done_before = 0.0
        self._lock = threading.Lock()
        self._superseded = False

    # -- before the run --------------------------------------------------------------------------------------

    def restore(self) -> str:
        """Make the folder, with the newest checkpoint in it; a line for people, empty where there was none.

        Raises ``MountRetryError`` where it cannot be had now, ``MountError`` where it never can.
        """
        channel = HttpChannel()
        try:
            answer = self._call(channel, restore=True)
            self._done_before = float(answer.get("done") or 0.0)
            source = answer.get("manifest")
            if os.path.isdir(self.folder):
                return ""  # An earlier run on this machine left it, as new as any.
            if source is None:
                os.makedirs(self.folder, exist_ok=True)
                return ""
            return self._fetch_all(channel, source)
        except SupersededError as exc:
            raise MountError("a newer run of this task has begun elsewhere") from exc
        except (UnreachableError, RefusedError, OSError) as exc:
            raise MountRetryError(f"the checkpoint cannot be fetched: {exc}") from exc
        finally:
            channel.close()

    def _fetch_all(self, channel: HttpChannel, source: Json) -> str:
        temporary = self.folder + ".new"
        shutil.rmtree(temporary, ignore_errors=True)
        os.makedirs(temporary)
        path = os.path.join(temporary, ".manifest")
        with open(path, "wb") as stream:
            channel.download(source["url"], source.get("headers") or {}, stream, self._timeout)
        with open(path, "rb") as read:
            data = read.read()
        if hashlib.sha256(data).hexdigest() != source["sha256"]:
            raise OSError("the manifest arrived damaged")
        os.unlink(path)
        files: List[Json] = json.loads(data)["files"]
        urls: Dict[str, Json] = {}
        wanted = [sha256 for entry in files for sha256, _ in entry["chunks"]]
        for number, entry in enumerate(files):
            target = _inside(temporary, str(entry["path"]))
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, "wb") as out:
                for sha256, _ in entry["chunks"]:
                    if sha256 not in urls:
                        at = wanted.index(sha256)
                        batch = list(dict.fromkeys(wanted[at:]))[:_AT_ONCE]
                        # Only the newest batch: URLs do not live long.
                        urls = {one["sha256"]: one for one in self._call(channel, get=batch)["gets"]}
                    self._fetch_chunk(channel, urls[sha256], out)
            os.chmod(target, int(entry["mode"]) & 0o777)
            os.utime(target, ns=(int(entry["mtime_ns"]), int(entry["mtime_ns"])))
            if number % 100 == 0:
                log.info("restoring a checkpoint", extra={"detail": f"{number} of {len(files)} files"})
        os.makedirs(os.path.dirname(self.folder), exist_ok=True)
        os.replace(temporary, self.folder)
        for entry in files:
            chunks = tuple((str(sha256), int(size)) for sha256, size in entry["chunks"])
            known = Stored(
                sum(size for _, size in chunks), int(entry["mtime_ns"]), int(entry["mode"]), chunks
            )
            self._known[str(entry["path"])] = known
        self._stored, self._manifest = set(wanted), str(source["sha256"])
        size = sum(size for entry in files for _, size in entry["chunks"])
        return f"restored {len(files)} files ({size / 1024**2:.1f} MiB) of the last checkpoint"

    def _fetch_chunk(self, channel: HttpChannel, source: Json, out: object) -> None:
        digest = hashlib.sha256()

        class Tee:
            @staticmethod
            def write(piece: bytes) -> int:
                digest.update(piece)
                return int(out.write(piece))  # type: ignore[attr-defined]

        channel.download(source["url"], source.get("headers") or {}, Tee(), self._timeout)  # type: ignore[arg-type]
        if digest.hexdigest() != source["sha256"]:
            raise OSError(f"chunk {source['sha256'][:12]} arrived damaged")

    # -- during the run --------------------------------------------------------------------------------------

    def store(self, started_at: float, *, last: bool) -> bool:
        """Store what changed since the last time; False where nothing had, or it could not be done now.

        ``started_at``: when the run began, epoch seconds. ``last``: the program has ended, so that also files
        written a moment ago are whole.
        """
        with self._lock:
            if self._superseded:
                return False
            channel = HttpChannel()
            try:
                return self._store(channel, started_at, last)
            except SupersededError:
                log.warning("a newer run has begun elsewhere; checkpoints end", extra=self._who)
                self._superseded = True
                return False
            except (UnreachableError, RefusedError, OSError) as exc:
                log.warning("a checkpoint cannot be stored now", extra={"detail": str(exc)})
                return False
            except (GoneError, StoppedError, RefusedForGoodError):
                return False  # The agent ends.
            finally:
                channel.close()

    def _store(self, channel: HttpChannel, started_at: float, last: bool) -> bool:
        files = self._scan(last)
        if not files and not self._manifest:
            return False
        listed = [
            {"path": path, "mode": one.mode, "mtime_ns": one.mtime_ns, "chunks": list(one.chunks)}
            for path, one in sorted(files.items())
        ]
        data = json.dumps({"version": 1, "files": listed}, separators=(",", ":")).encode()
        name = hashlib.sha256(data).hexdigest()
        if name == self._manifest:
            return False
        for batch in _batches(self._missing(files)):
            self._send(channel, batch)
        put = self._call(channel, manifest={"sha256": name, "size": len(data)})["manifest_put"]
        if put is not None:
            channel.put(put["url"], data, put["headers"], self._timeout, put["method"])
        current = {sha256 for one in files.values() for sha256, _ in one.chunks}
        newest = max((one.mtime_ns for one in files.values()), default=0) / 1e9
        worked = min(max(newest - started_at, 0.0), max(time.time() - started_at, 0.0))
        dropped = sorted(self._stored - current)[:1000]
        commit = {
            "sha256": name,
            "size": len(data),
            "done": self._done_before + worked,
            "files": len(files),
            "bytes": sum(one.size for one in files.values()),
            "dropped": dropped,
        }
        self._call(channel, commit=commit)
        self._stored = (self._stored - set(dropped)) | current
        self._known, self._manifest = files, name
        return True

    def _scan(self, last: bool) -> Dict[str, Stored]:
        """Every file that is whole; one that changes now as the last checkpoint had it."""
        found: Dict[str, Stored] = {}
        hot = time.time() - _HOT_SECONDS
        for path, full in _files_below(self.folder):
            known = self._known.get(path)
            one = self._read(full, known, None if last else hot)
            if one is None:
                one = known
            if one is not None:
                found[path] = one
            if len(found) >= _MOST_FILES:
                log.warning("too many files for a checkpoint", extra={"detail": f"{_MOST_FILES} at most"})
                break
        return found

    def _read(self, full: str, known: Optional[Stored], hot: Optional[float]) -> Optional[Stored]:
        try:
            before = os.stat(full)
            if known is not None and (known.size, known.mtime_ns) == (before.st_size, before.st_mtime_ns):
                return known
            if hot is not None and before.st_mtime > hot:
                return None
            chunks = []
            with open(full, "rb") as stream:
                for piece in iter(lambda: stream.read(CHUNK_BYTES), b""):
                    chunks.append((hashlib.sha256(piece).hexdigest(), len(piece)))
            after = os.stat(full)
        except OSError:
            return None  # It went while it was read.
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            return None
        return Stored(after.st_size, after.st_mtime_ns, stat.S_IMODE(after.st_mode), tuple(chunks))

    def _missing(self, files: Dict[str, Stored]) -> List[Tuple[str, int, Chunk]]:
        """Chunks that are not known to be stored, once each: (path, offset, chunk)."""
        found: Dict[str, Tuple[str, int, Chunk]] = {}
        for path, one in files.items():
            offset = 0
            for chunk in one.chunks:
                if chunk[0] not in self._stored:
                    found.setdefault(chunk[0], (path, offset, chunk))
                offset += chunk[1]
        return list(found.values())

    def _send(self, channel: HttpChannel, batch: List[Tuple[str, int, Chunk]]) -> None:
        """Raises ``OSError`` where a file changed since it was read: the next checkpoint will have it."""
        wanted = [{"sha256": chunk[0], "size": chunk[1]} for _, _, chunk in batch]
        puts = {one["sha256"]: one for one in self._call(channel, put=wanted)["puts"]}
        for path, offset, (sha256, size) in batch:
            target = puts.get(sha256)
            if target is None:
                continue  # It is stored already.
            with open(os.path.join(self.folder, path), "rb") as stream:
                stream.seek(offset)
                data = stream.read(size)
            if hashlib.sha256(data).hexdigest() != sha256:
                raise OSError(f"{path} changed while it was stored")
            channel.put(target["url"], data, target["headers"], self._timeout, target["method"])
            self._stored.add(sha256)

    def _call(self, channel: HttpChannel, **what: object) -> Json:
        try:
            return self._membership.call(channel, "checkpoints", {**self._who, **what})
        except RefusedError as exc:
            if exc.code == "superseded":
                raise SupersededError() from exc
            raise


class CheckpointThread:
    """Stores the checkpoints of a run every ``seconds`` until ``finish``."""

    def __init__(self, checkpoints: Checkpoints, started_at: float, seconds: float) -> None:
        self._checkpoints, self._started_at, self._seconds = checkpoints, started_at, seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
        self._thread.start()

    def finish(self, *, store: bool) -> None:
        """The run has ended: ``store`` what it left, as far as that can be done."""
        self._over.set()
        self._thread.join()
        if store:
            self._checkpoints.store(self._started_at, last=True)

    def _run(self) -> None:
        while not self._over.wait(self._seconds):
            self._checkpoints.store(self._started_at, last=False)


def _files_below(folder: str) -> Iterator[Tuple[str, str]]:
    """(relative path, whole path) of every regular file, in order."""
    for base, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            full = os.path.join(base, name)
            if os.path.isfile(full) and not os.path.islink(full):
                yield os.path.relpath(full, folder), full


def _inside(folder: str, path: str) -> str:
    """Raises ``OSError`` for a path that leads out of the folder."""
    target = os.path.normpath(os.path.join(folder, path))
    if not target.startswith(folder + os.sep):
        raise OSError(f"the checkpoint holds a file outside of its folder: {path!r}")
    return target


def _batches(items: List[Tuple[str, int, Chunk]]) -> Iterator[List[Tuple[str, int, Chunk]]]:
    for start in range(0, len(items), _AT_ONCE):
        yield items[start : start + _AT_ONCE]
