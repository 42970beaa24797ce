"""One log of one rank of one job: its output files cut into immutable, numbered chunks.

A chunk is written under a temporary name and renamed, then the offsets it reaches are recorded. A chunk found
beyond the record (the agent died in between) is read back to advance the offsets: no byte is lost or doubled.
"""

from __future__ import annotations

import hashlib
import os
from typing import Any, Dict, List, Optional, Tuple

from .files import Json, file_size, read_json, remove_quietly, write_atomically, write_json
from .log_frames import (
    HEADER,
    MAX_PAYLOAD,
    NOTE,
    SETUP_STDERR,
    SETUP_STDOUT,
    STDERR,
    STDOUT,
    frame_header,
    read_frames,
)
from .tunables import Tunables

SOURCES: Dict[int, str] = {
    SETUP_STDOUT: "setup.out",
    SETUP_STDERR: "setup.err",
    STDOUT: "run.out",
    STDERR: "run.err",
    NOTE: "notes",
}
_HASHED = {STDOUT: "stdout", STDERR: "stderr"}


class JobLog:
    """Used by one thread at a time for sealing; ``note`` may come from another."""

    def __init__(self, folder: str, job: int, rank: int, tunables: Tunables) -> None:
        self.job, self.rank = job, rank
        self.follow_until = 0.0
        self.closing = False
        self._folder = folder
        self._chunks = os.path.join(folder, "chunks")
        self._record = os.path.join(folder, "log.json")
        self._tunables = tunables
        self._files: Dict[int, int] = {}
        self._seen: Dict[int, int] = {}
        self._marks: List[Tuple[int, int, int]] = []
        self._oldest: Optional[float] = None
        self._hashes: Dict[int, Any] = {kind: hashlib.sha256() for kind in _HASHED}
        record = read_json(self._record) or {}
        self.next_chunk = int(record.get("next", 0))
        self.acknowledged = bool(record.get("acknowledged", False))
        self.complete = bool(record.get("complete", False))
        self._offsets: Dict[int, int] = {int(k): v for k, v in (record.get("offsets") or {}).items()}
        self._finish: Json = record.get("finish") or {}
        if not self.acknowledged:
            self._recover()

    def _recover(self) -> None:
        while True:
            path = self._chunk_path(self.next_chunk)
            try:
                with open(path, "rb") as stream:
                    data = stream.read()
            except FileNotFoundError:
                break
            try:
                frames = list(read_frames(data))
            except ValueError:  # Torn by a power loss: it was never recorded, so it is made again.
                remove_quietly(path)
                break
            for kind, _, payload in frames:
                self._offsets[kind] = self._offsets.get(kind, 0) + len(payload)
            self.next_chunk += 1
        for kind, digest in self._hashes.items():
            left = self._offsets.get(kind, 0)
            if left and not self.complete:
                self._hash_prefix(kind, digest, left)
        self._seen = dict(self._offsets)

    def _hash_prefix(self, kind: int, digest: Any, left: int) -> None:
        with open(os.path.join(self._folder, SOURCES[kind]), "rb") as stream:
            while left > 0:
                piece = stream.read(min(left, 1 << 18))
                if not piece:
                    return
                digest.update(piece)
                left -= len(piece)

    def note(self, text: str) -> None:
        """Adds a line of the agent's own to the log."""
        with open(os.path.join(self._folder, SOURCES[NOTE]), "ab") as stream:
            stream.write(text.rstrip("\n").encode() + b"\n")

    def seal(self, now: float) -> bool:
        """Makes every chunk that is due by now (all that is left, when closing); True if any was made."""
        if self.complete:
            return False
        closing = self.closing  # Read before the sizes: what is written before the close is in.
        self._observe(now)
        sealed = False
        while self._pending() and self._is_due(now, closing):
            if self.unsent_count() >= self._tunables.spooled_chunks:
                return sealed
            self._seal_one()
            sealed = True
        if not self._pending():
            self._oldest = None
            if closing:
                self._finalise()
        return sealed

    def wait_seconds(self, now: float) -> float:
        """How long the tail may leave this log alone."""
        if now < self.follow_until:
            first = self.next_chunk == 0
            return self._tunables.tail_first_seconds if first else self._tunables.tail_followed_seconds
        return self._tunables.tail_seconds

    def unsent(self) -> List[Tuple[int, int]]:
        """(number, size) of the chunks that are still in the spool, in order."""
        found = []
        for number in self._spooled():
            found.append((number, file_size(self._chunk_path(number))))
        return found

    def unsent_count(self) -> int:
        return len(self._spooled())

    def chunk(self, number: int) -> bytes:
        with open(self._chunk_path(number), "rb") as stream:
            return stream.read()

    def drop_chunk(self, number: int) -> None:
        """The control plane knows that the chunk is stored."""
        remove_quietly(self._chunk_path(number))

    def finish(self) -> Json:
        """The wire protocol's ``finished`` entry; only once ``complete``."""
        return {"job": self.job, "rank": self.rank, **self._finish}

    def acknowledge(self) -> None:
        """Everything arrived: the output files and the spool are not needed any more."""
        self.acknowledged = True
        self._write_record()
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()
        for name in SOURCES.values():
            remove_quietly(os.path.join(self._folder, name))
        try:
            os.rmdir(self._chunks)
        except OSError:
            return  # Never made, or a chunk that came back from a lost acknowledgement: retention takes it.

    def _observe(self, now: float) -> None:
        for kind, name in SOURCES.items():
            descriptor = self._files.get(kind)
            if descriptor is None:
                try:
                    descriptor = os.open(os.path.join(self._folder, name), os.O_RDONLY | os.O_CLOEXEC)
                except FileNotFoundError:
                    continue
                self._files[kind] = descriptor
            size = os.fstat(descriptor).st_size
            if size > self._seen.get(kind, 0):
                self._seen[kind] = size
                self._marks.append((kind, size, int(now * 1000)))
                if self._oldest is None:
                    self._oldest = now

    def _pending(self) -> int:
        return sum(size - self._offsets.get(kind, 0) for kind, size in self._seen.items())

    def _is_due(self, now: float, closing: bool) -> bool:
        if closing or self._pending() >= self._tunables.chunk_bytes:
            return True
        limit = self._tunables.chunk_seconds
        if now < self.follow_until:
            first = self.next_chunk == 0
            limit = self._tunables.chunk_first_seconds if first else self._tunables.chunk_followed_seconds
        return self._oldest is not None and now - self._oldest >= limit

    def _seal_one(self) -> None:
        room = self._tunables.chunk_bytes
        pieces: List[bytes] = []
        while self._marks and room > HEADER.size:
            kind, end, time_ms = self._marks[0]
            offset = self._offsets.get(kind, 0)
            length = min(end - offset, MAX_PAYLOAD, room - HEADER.size)
            if length <= 0:
                self._marks.pop(0)
                continue
            payload = os.pread(self._files[kind], length, offset)
            if not payload:  # The job cut its own output file: what is gone cannot be sent.
                self._seen[kind] = offset
                self._marks.pop(0)
                continue
            pieces += (frame_header(kind, len(payload), time_ms), payload)
            room -= HEADER.size + len(payload)
            self._offsets[kind] = offset + len(payload)
            if kind in self._hashes:
                self._hashes[kind].update(payload)
        if not pieces:
            return
        os.makedirs(self._chunks, mode=0o700, exist_ok=True)
        write_atomically(self._chunk_path(self.next_chunk), b"".join(pieces))
        self.next_chunk += 1
        self._oldest = self._marks[0][2] / 1000 if self._marks else None
        self._write_record()

    def _finalise(self) -> None:
        self._finish = {
            "chunks": self.next_chunk,
            "bytes": {name: self._offsets.get(kind, 0) for kind, name in _HASHED.items()},
            "sha256": {name: self._hashes[kind].hexdigest() for kind, name in _HASHED.items()},
        }
        self.complete = True
        self._write_record()

    def _write_record(self) -> None:
        record = {
            "next": self.next_chunk,
            "offsets": self._offsets,
            "complete": self.complete,
            "finish": self._finish,
            "acknowledged": self.acknowledged,
        }
        write_json(self._record, record)

    def _spooled(self) -> List[int]:
        try:
            names = os.listdir(self._chunks)
        except FileNotFoundError:
            return []
        return sorted(int(name) for name in names if name.isdigit())

    def _chunk_path(self, number: int) -> str:
        return os.path.join(self._chunks, f"{number:08d}")
