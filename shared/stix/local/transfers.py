"""Signed URLs of objects, answered by streaming: a few file threads, never the one-at-a-time functions."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import BinaryIO, TypeVar

from stix.adapters.local_files import LocalObjectStore, SignedObject
from stix.local.asgi import ClientGoneError, Receive, Send, send_answer
from stix.local.http_events import HttpRequest
from stix.local.workers import WorkerPool, run_in_thread
from stix.model.errors import InvalidInputError, NotFoundError
from stix.ports.object_store import ObjectNotFoundError
from stix.ports.surroundings import Clock

__all__ = ["Transfers", "byte_range"]

FILE_THREADS = 4

_PIECE = 512 * 1024
"""Bytes per trip to a file thread: large enough that trips cost little, small enough for many transfers."""

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")

T = TypeVar("T")


class Transfers:
    """Uploads and downloads by signed URL. Raises what ``LocalObjectStore`` does, for the gateway to map."""

    def __init__(self, objects: LocalObjectStore, clock: Clock, *, threads: int = FILE_THREADS):
        self._objects = objects
        self._clock = clock
        self._pool = WorkerPool("files", threads)

    async def serve(self, request: HttpRequest, raw_path: str, receive: Receive, send: Send) -> None:
        """Answer one request for ``/objects/...``; ``raw_path`` is its path as it came, percent-encoded."""
        now = self._clock.now()
        try:
            signed = await self._run(
                lambda: self._objects.open_signed(request.method, raw_path, request.query, now)
            )
        except ObjectNotFoundError as exc:
            raise NotFoundError(f"There is no object {exc}.") from exc
        if signed.method == "PUT":
            await self._upload(signed, request, receive)
            await send_answer(send, 200, (), b"")
        else:
            await self._download(signed, request, send)

    def close(self, seconds: float) -> bool:
        self._pool.stop()
        return self._pool.join(seconds)

    async def _upload(self, signed: SignedObject, request: HttpRequest, receive: Receive) -> None:
        length = request.header("content-length")
        if length and length != str(signed.size):
            raise InvalidInputError(
                f"The upload of {signed.key} says that it has {length} bytes; {signed.size} were announced."
            )
        context = self._objects.writer(signed.key, signed.size, signed.sha256)
        writer = await self._run(context.__enter__)
        try:
            more = True
            while more:
                piece = bytearray()
                while more and len(piece) < _PIECE:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGoneError
                    piece += message.get("body", b"")
                    more = message.get("more_body", False)
                await self._run(partial(writer.write, bytes(piece)))
        except BaseException as exc:
            error = exc
            with suppress(type(exc)):
                await self._run(lambda: context.__exit__(type(error), error, error.__traceback__))
            raise
        await self._run(lambda: context.__exit__(None, None, None))

    async def _download(self, signed: SignedObject, request: HttpRequest, send: Send) -> None:
        file = await self._run(lambda: _open(signed))
        try:
            # The file that is open, not what the key may name by now.
            size = os.fstat(file.fileno()).st_size
            wanted = byte_range(request.header("range"), size)
            headers = [(b"content-type", b"application/octet-stream"), (b"accept-ranges", b"bytes")]
            if wanted is None:
                headers.append((b"content-range", f"bytes */{size}".encode()))
                headers.append((b"content-length", b"0"))
                await send({"type": "http.response.start", "status": 416, "headers": headers})
                await send({"type": "http.response.body", "body": b""})
                return
            first, last = wanted
            whole = last - first + 1 == size
            if not whole:
                headers.append((b"content-range", f"bytes {first}-{last}/{size}".encode()))
            headers.append((b"content-length", str(last - first + 1).encode()))
            await send({"type": "http.response.start", "status": 200 if whole else 206, "headers": headers})
            at = first
            while at <= last:
                data = await self._run(partial(os.pread, file.fileno(), min(_PIECE, last + 1 - at), at))
                if not data:
                    raise OSError(f"the object {signed.key} became shorter while it was read")
                at += len(data)
                await send({"type": "http.response.body", "body": data, "more_body": at <= last})
            if last < first:
                await send({"type": "http.response.body", "body": b""})
        finally:
            file.close()

    async def _run(self, work: Callable[[], T]) -> T:
        return await run_in_thread(self._pool.submit, work)


def byte_range(header: str, size: int) -> tuple[int, int] | None:
    """First and last byte to send, None when that is outside. Several ranges, or none, mean everything."""
    match = _RANGE.fullmatch(header.strip())
    if match is None or match.groups() == ("", ""):
        return 0, size - 1
    first, last = match.groups()
    if not first:
        wanted = int(last)
        return (max(0, size - wanted), size - 1) if wanted and size else None
    start = int(first)
    end = min(int(last), size - 1) if last else size - 1
    if last and int(last) < start:
        return 0, size - 1  # not a valid range: to be ignored
    return (start, end) if start < size else None


def _open(signed: SignedObject) -> BinaryIO:
    try:
        return open(signed.path, "rb")
    except FileNotFoundError as exc:
        raise NotFoundError(f"There is no object {signed.key}.") from exc
