"""Log frames on the screen: one node's output as it is, several nodes' line by line with a prefix."""

from __future__ import annotations

import sys
from typing import BinaryIO

from stix.sdk.log_stream import LogReader
from stix.sdk.log_tail import Tail, read_tail
from stix.sdk.logs import NOTE, SETUP_STDERR, SETUP_STDOUT, STDERR, STDOUT, Frame

__all__ = ["LogPrinter", "print_log"]

_TO_STDERR = frozenset({STDERR, SETUP_STDERR, NOTE})
_KNOWN = frozenset({STDOUT, STDERR, SETUP_STDOUT, SETUP_STDERR, NOTE})
# A stream that never ends its line is cut here, so that memory stays bounded.
_LONGEST_LINE = 256 * 1024


class LogPrinter:
    """A ``LogSink``. The job's standard error goes to ours. ``prefixed`` is for jobs of several nodes, set
    before the first frame."""

    def __init__(self, *, prefixed: bool = False, out: BinaryIO | None = None, err: BinaryIO | None = None):
        self.prefixed = prefixed
        self._out = out or sys.stdout.buffer
        self._err = err or sys.stderr.buffer
        self._last: BinaryIO | None = None
        self._rests: dict[tuple[int, int], bytes] = {}
        self._line_open = False

    def write(self, rank: int, frame: Frame) -> None:
        if frame.kind not in _KNOWN:
            return
        if not self.prefixed and frame.kind in {STDOUT, STDERR}:
            self._put(frame.kind, frame.payload)
            return
        *whole, rest = (self._rests.pop((rank, frame.kind), b"") + frame.payload).split(b"\n")
        for line in whole:
            self._put_line(rank, frame.kind, line)
        if len(rest) > _LONGEST_LINE:
            self._put_line(rank, frame.kind, rest)
        elif rest:
            self._rests[rank, frame.kind] = rest

    def write_tail(self, tail: Tail, count: int) -> None:
        """The last ``count`` lines of all ranks together, in the order of time."""
        lines: list[tuple[int, int, int, bytes]] = []
        for rank, frames in tail.frames.items():
            lines += _lines(rank, frames)[-count:]
        lines.sort(key=lambda line: line[0])
        for _, rank, kind, text in lines[-count:]:
            self.write(rank, Frame(kind, 0, text))
        self.flush()

    def flush(self) -> None:
        if self._last is not None:
            self._last.flush()

    def close(self) -> None:
        """Print unfinished lines, and leave a terminal at the start of a line."""
        for (rank, kind), rest in sorted(self._rests.items()):
            self._put_line(rank, kind, rest)
        self._rests.clear()
        if self._line_open and self._last is not None and self._last.isatty():
            self._last.write(b"\n")
        self.flush()

    def _put_line(self, rank: int, kind: int, line: bytes) -> None:
        if self._line_open:
            # A prefix in the middle of somebody's progress bar could not be read.
            self._put(kind, b"\n")
        self._put(kind, self._prefix(rank, kind) + line + b"\n")

    def _prefix(self, rank: int, kind: int) -> bytes:
        if kind == NOTE:
            return b"(stix) "
        if kind in {SETUP_STDOUT, SETUP_STDERR}:
            return b"(setup, rank=%d) " % rank if self.prefixed else b"(setup) "
        return b"(head, rank=0) " if rank == 0 else b"(worker%d, rank=%d) " % (rank, rank)

    def _put(self, kind: int, data: bytes) -> None:
        stream = self._err if kind in _TO_STDERR else self._out
        if stream is not self._last:
            # Two streams of one terminal: the order of writing is the order of reading.
            self.flush()
            self._last = stream
        stream.write(data)
        self._line_open = not data.endswith(b"\n")


def _lines(rank: int, frames: list[Frame]) -> list[tuple[int, int, int, bytes]]:
    """``(time, rank, kind, line with its end)`` in order; a line takes the time of its last frame."""
    lines: list[tuple[int, int, int, bytes]] = []
    rests: dict[int, tuple[int, bytes]] = {}
    for frame in frames:
        if frame.kind not in _KNOWN:
            continue
        *whole, rest = (rests.pop(frame.kind, (0, b""))[1] + frame.payload).split(b"\n")
        lines += [(frame.time_ms, rank, frame.kind, line + b"\n") for line in whole]
        if rest:
            rests[frame.kind] = (frame.time_ms, rest)
    return lines + [(at, rank, kind, rest) for kind, (at, rest) in rests.items()]


def print_log(reader: LogReader, *, follow: bool, tail: int = 0) -> None:
    """The log that ``reader`` reads, or its last ``tail`` lines; and what comes, where it is followed."""
    printer = LogPrinter()
    with reader:
        cursor = ""
        if tail:
            last = read_tail(reader, tail)
            printer.prefixed = last.job["num_nodes"] > 1
            printer.write_tail(last, tail)
            cursor = last.cursor

        def on_job(job: object) -> None:
            printer.prefixed = bool(isinstance(job, dict) and job["num_nodes"] > 1)

        try:
            reader.copy(printer, follow=follow, cursor=cursor, on_job=on_job)
        finally:
            printer.close()
