"""Reads one HTTP/1.1 answer from a stream: just what the agent needs of it.

Not the standard library's client: that one loads its mail parser and TLS, 6 MB on every node, also where the
control plane is plain HTTP on the same machine.
"""

from __future__ import annotations

from typing import IO, Dict, Iterator

_MAX_LINE = 65536
_MAX_HEADERS = 200
_PIECE = 1 << 18


class BadAnswerError(Exception):
    """The answer is not HTTP, or ended before its time."""


class Answer:
    """``pieces`` must be read to its end before the connection is used again, and only if ``reusable``."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        version, self.status = self._status_line()
        self.headers = self._headers()
        while 100 <= self.status < 200:  # "Continue" and the like come before the answer.
            version, self.status = self._status_line()
            self.headers = self._headers()
        self._chunked = self.headers.get("transfer-encoding", "").lower() == "chunked"
        self._sized = "content-length" in self.headers or self.status in (204, 304)
        wishes = self.headers.get("connection", "").lower()
        self.reusable = version == "HTTP/1.1" and wishes != "close" and (self._chunked or self._sized)

    def body(self) -> bytes:
        return b"".join(self.pieces())

    def pieces(self) -> Iterator[bytes]:
        """The body. Raises BadAnswerError when it is cut short."""
        if self._chunked:
            while True:
                size = self._hexadecimal(self._line().split(b";")[0])
                if size == 0:
                    break
                yield from self._sized_pieces(size)
                self._line()
            while self._line():
                pass  # Trailers.
        elif self._sized:
            yield from self._sized_pieces(int(self.headers.get("content-length", "0")))
        else:
            while True:
                piece = self._stream.read(_PIECE)
                if not piece:
                    return
                yield piece

    def _sized_pieces(self, left: int) -> Iterator[bytes]:
        while left > 0:
            piece = self._stream.read(min(left, _PIECE))
            if not piece:
                raise BadAnswerError("the answer was cut short")
            left -= len(piece)
            yield piece

    def _status_line(self) -> tuple[str, int]:
        parts = self._line().decode("latin-1").split(" ", 2)
        if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not parts[1].isdigit():
            raise BadAnswerError("the answer is not HTTP")
        return parts[0], int(parts[1])

    def _headers(self) -> Dict[str, str]:
        headers: Dict[str, str] = {}
        for _ in range(_MAX_HEADERS):
            line = self._line()
            if not line:
                return headers
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        raise BadAnswerError("the answer has too many headers")

    def _line(self) -> bytes:
        line = self._stream.readline(_MAX_LINE)
        if not line.endswith(b"\n"):
            raise BadAnswerError("the connection was closed" if not line else "the answer was cut short")
        return line.rstrip(b"\r\n")

    @staticmethod
    def _hexadecimal(text: bytes) -> int:
        try:
            return int(text.strip(), 16)
        except ValueError as exc:
            raise BadAnswerError("a chunk's size is not a number") from exc
