"""The frames of a log chunk.

A chunk is a concatenation of frames: a 13-byte big-endian header (kind: 1 byte, payload length: 4, unix time
in milliseconds: 8), then the payload, at most 64 KiB. A frame never spans chunks.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

__all__ = [
    "NOTE",
    "SETUP_STDERR",
    "SETUP_STDOUT",
    "STDERR",
    "STDOUT",
    "Frame",
    "FrameDecoder",
    "LogFormatError",
    "decode_chunk",
    "encode_frame",
]

STDOUT, STDERR, SETUP_STDOUT, SETUP_STDERR, NOTE = 1, 2, 3, 4, 5
MAX_PAYLOAD = 64 * 1024
_HEADER = struct.Struct(">BIQ")


class LogFormatError(ValueError):
    """The bytes are not a log chunk; the message says where."""


class Frame(NamedTuple):
    """A piece of one stream of one rank. Unknown kinds belong to newer agents: skip them."""

    kind: int
    time_ms: int
    payload: bytes


class FrameDecoder:
    """Feed it bytes as they come; ``close`` says whether the last frame was whole."""

    def __init__(self) -> None:
        self._rest = b""
        self._offset = 0

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames completed by ``data``. Raises ``LogFormatError``. Consume it fully before the next
        call."""
        buffer = self._rest + data if self._rest else data
        at = 0
        self._rest = b""
        while len(buffer) - at >= _HEADER.size:
            kind, length, time_ms = _HEADER.unpack_from(buffer, at)
            if length > MAX_PAYLOAD:
                raise LogFormatError(f"a frame of {length} bytes at byte {self._offset + at} of a log chunk")
            end = at + _HEADER.size + length
            if end > len(buffer):
                break
            yield Frame(kind, time_ms, buffer[at + _HEADER.size : end])
            at = end
        self._rest = buffer[at:]
        self._offset += at

    def close(self) -> None:
        """Raises ``LogFormatError`` where a frame was cut off."""
        if self._rest:
            raise LogFormatError(f"a log chunk is cut off at byte {self._offset}")


def decode_chunk(chunk: bytes) -> Iterator[Frame]:
    """The frames of one whole chunk. Raises ``LogFormatError``."""
    decoder = FrameDecoder()
    yield from decoder.feed(chunk)
    decoder.close()


def encode_frame(frame: Frame) -> bytes:
    """The inverse of decoding."""
    return _HEADER.pack(frame.kind, len(frame.payload), frame.time_ms) + frame.payload
