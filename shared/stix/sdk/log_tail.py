"""The last lines of a log, read backwards chunk by chunk."""

from __future__ import annotations

from dataclasses import dataclass, field

from stix.sdk.log_stream import LogReader, cursor_at
from stix.sdk.logs import Frame, LogFormatError, decode_chunk
from stix.sdk.responses import Job

__all__ = ["Tail", "read_tail"]

_LONGEST_STEP = 16


@dataclass(slots=True)
class Tail:
    """The frames (by rank, oldest first) that hold at least the last lines of each rank, and the cursor
    behind them."""

    job: Job
    cursor: str
    frames: dict[int, list[Frame]] = field(default_factory=dict)


def read_tail(reader: LogReader, lines: int) -> Tail:
    """Fetch backwards until every rank has ``lines`` line ends or is complete. The cost follows ``lines``,
    not the log's length."""
    page = reader.page("end")
    ends = {node["rank"]: node["count"] for node in page["nodes"]}
    tail = Tail(page["job"], cursor_at(ends))
    for rank, end in sorted(ends.items()):
        tail.frames[rank] = _rank_tail(reader, rank, end, lines)
    return tail


def _rank_tail(reader: LogReader, rank: int, end: int, lines: int) -> list[Frame]:
    frames: list[Frame] = []
    found, step = 0, 1
    # One line end more than asked for: the oldest line that is shown must be whole.
    while end > 0 and found <= lines:
        begin = max(0, end - step)
        older = _chunks(reader, rank, begin, end)
        found += sum(frame.payload.count(b"\n") for frame in older)
        frames = older + frames
        end, step = begin, min(step * 2, _LONGEST_STEP)
    return frames


def _chunks(reader: LogReader, rank: int, begin: int, end: int) -> list[Frame]:
    frames: list[Frame] = []
    page = reader.page(cursor_at({rank: begin}), rank=rank)
    for node in page["nodes"]:
        for chunk in node["chunks"]:
            if node["rank"] != rank or chunk["n"] >= end:
                continue
            data = reader.client.objects.get(chunk["url"], chunk["headers"])
            try:
                frames.extend(decode_chunk(data or b""))
            except LogFormatError:
                continue
    return frames
