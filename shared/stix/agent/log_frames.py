"""The log chunk format: 13-byte header ``>BIQ`` (kind, payload length, unix time in ms), then the payload."""

from __future__ import annotations

import struct
from typing import Iterator, Tuple

STDOUT, STDERR, SETUP_STDOUT, SETUP_STDERR, NOTE = 1, 2, 3, 4, 5
HEADER = struct.Struct(">BIQ")
MAX_PAYLOAD = 64 * 1024


def frame_header(kind: int, length: int, time_ms: int) -> bytes:
    return HEADER.pack(kind, length, time_ms)


def read_frames(chunk: bytes) -> Iterator[Tuple[int, int, bytes]]:
    """(kind, time in ms, payload) of every frame. Raises ValueError when a frame spans the chunk's end."""
    position = 0
    while position < len(chunk):
        if position + HEADER.size > len(chunk):
            raise ValueError("a frame's header spans the end of the chunk")
        kind, length, time_ms = HEADER.unpack_from(chunk, position)
        position += HEADER.size
        if position + length > len(chunk):
            raise ValueError("a frame spans the end of the chunk")
        yield kind, time_ms, chunk[position : position + length]
        position += length
