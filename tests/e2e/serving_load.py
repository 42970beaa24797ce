"""Real clients of a service: requests and streams of events without any retry, each outcome written down."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

_PATIENCE = 60.0


@dataclass(frozen=True)
class Outcome:
    """``kind``: GET, POST or SSE; ``seconds`` to the whole answer, of a stream to its head. ``problem`` is
    empty for one that went well. ``client``: which of those that ask one thing after the other."""

    client: int
    at: float
    kind: str
    seconds: float
    problem: str = ""
    version: str = ""


@dataclass
class Record:
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def failed(self) -> list[Outcome]:
        return [one for one in self.outcomes if one.problem]

    def count(self, kind: str = "") -> int:
        return sum(kind in ("", one.kind) for one in self.outcomes)

    def versions(self) -> Counter[str]:
        return Counter(one.version for one in self.outcomes if not one.problem)


class Load(threading.Thread):
    """Until ``finish``: ``workers`` that ask again and again, each on one connection that is kept, every
    third of them with POST, after ``pause`` seconds; and ``streams`` of ``tokens`` events, a new one for each
    that ended.

    ``addresses`` are tried in turn where one takes no connection, as browsers do with those of a name.
    """

    def __init__(
        self,
        addresses: Sequence[tuple[str, int]],
        *,
        workers: int = 0,
        streams: int = 0,
        tokens: int = 100,
        pause: float = 0.02,
    ) -> None:
        super().__init__(daemon=True)
        self.addresses = list(addresses)
        self.record = Record()
        self.open_streams = 0
        self._workers, self._streams = workers, streams
        self._tokens, self._pause = tokens, pause
        self._ending = threading.Event()
        self._numbers = itertools.count()
        self.start()

    def finish(self) -> Record:
        """What is under way comes to its end."""
        self._ending.set()
        self.join(_PATIENCE + 60)
        assert not self.is_alive(), "the clients do not end"
        return self.record

    def run(self) -> None:
        asyncio.run(self._all())

    async def _all(self) -> None:
        await asyncio.gather(
            *(self._ask(worker) for worker in range(self._workers)),
            *(
                self._listen(self._workers + number, 1 + number * self._tokens // self._streams)
                for number in range(self._streams)
            ),
        )

    async def _ask(self, worker: int) -> None:
        connection: _Connection | None = None
        while not self._ending.is_set():
            number = next(self._numbers)
            kind = "POST" if worker % 3 == 2 else "GET"
            begun = time.time()
            problem = version = ""
            try:
                if connection is None:
                    connection = await self._connect(worker)
                async with asyncio.timeout(_PATIENCE):
                    status, body, keeps = await connection.exchange(kind, number)
                version = str(body.get("version", ""))
                problem = "" if status == 200 else f"{status} {body}"
                if not keeps:
                    connection.close()
                    connection = None
            except (OSError, EOFError, ValueError, TimeoutError) as error:
                problem = f"{type(error).__name__}: {error}"
                if connection is not None:
                    connection.close()
                connection = None
            self._note(worker, begun, kind, time.time() - begun, problem, version)
            await asyncio.sleep(self._pause)
        if connection is not None:
            connection.close()

    async def _listen(self, client: int, tokens: int) -> None:
        """``tokens``: of the first stream, so that not all of them end at once."""
        while not self._ending.is_set():
            begun = time.time()
            head, problem, version = 0.0, "", ""
            try:
                async with self._stream(tokens) as events:
                    head = time.time() - begun
                    self.open_streams += 1
                    try:
                        expected = 0
                        async for event in events:
                            if event["n"] != expected:
                                problem = f"event {event['n']} came in place of {expected}"
                            expected, version = expected + 1, event["version"]
                        if expected != tokens:
                            problem = f"it ended after {expected} of {tokens} events"
                    finally:
                        self.open_streams -= 1
            except (OSError, EOFError, ValueError, TimeoutError) as error:
                problem = f"{type(error).__name__}: {error}"
            self._note(client, begun, "SSE", head, problem, version)
            tokens = self._tokens
            if problem:
                await asyncio.sleep(0.2)

    @asynccontextmanager
    async def _stream(self, tokens: int) -> AsyncIterator[AsyncIterator[dict[str, object]]]:
        connection = await self._connect(next(self._numbers))
        try:
            async with asyncio.timeout(_PATIENCE):
                await connection.begin_stream(tokens)
            yield connection.events()
        finally:
            connection.close()

    async def _connect(self, turn: int) -> _Connection:
        refused: OSError | None = None
        for offset in range(len(self.addresses)):
            host, port = self.addresses[(turn + offset) % len(self.addresses)]
            try:
                return _Connection(host, *await asyncio.open_connection(host, port))
            except OSError as error:
                refused = error
        raise refused or OSError("no address")

    def _note(self, client: int, at: float, kind: str, seconds: float, problem: str, version: str) -> None:
        self.record.outcomes.append(Outcome(client, at, kind, seconds, problem, version))


class _Connection:
    """HTTP/1.1, read to the letter: anything unexpected is an error."""

    def __init__(self, host: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._host, self._reader, self._writer = host, reader, writer

    async def exchange(self, kind: str, number: int) -> tuple[int, dict[str, object], bool]:
        """Status, JSON, and whether the connection stays open."""
        if kind == "POST":
            body = json.dumps({"prompt": "Alice ", "tokens": 12, "seed": number}).encode()
            head = f"POST /generate HTTP/1.1\r\nHost: {self._host}\r\nContent-Length: {len(body)}\r\n\r\n"
        else:
            body = b""
            head = f"GET /generate?tokens=4&seed={number} HTTP/1.1\r\nHost: {self._host}\r\n\r\n"
        self._writer.write(head.encode() + body)
        status, headers = await self._head()
        text = await self._reader.readexactly(int(headers["content-length"]))
        answer = json.loads(text) if text.startswith(b"{") else {"text": text.decode(errors="replace")}
        return status, answer, headers.get("connection", "").lower() != "close"

    async def begin_stream(self, tokens: int) -> None:
        target = f"/generate?tokens={tokens}&stream=true"
        self._writer.write(f"GET {target} HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode())
        status, headers = await self._head()
        if status != 200 or headers.get("transfer-encoding") != "chunked":
            raise ValueError(f"the stream is answered with {status}")

    async def events(self) -> AsyncIterator[dict[str, object]]:
        left = b""
        while size := int((await self._line()).split(";")[0], 16):
            # A proxy may cut and join chunks as it likes.
            *events, left = (left + await self._reader.readexactly(size)).split(b"\n\n")
            await self._line()
            for text in events:
                if text != b"data: [DONE]":
                    yield json.loads(text.removeprefix(b"data: "))
        await self._line()

    async def _head(self) -> tuple[int, dict[str, str]]:
        status = int((await self._line()).split()[1])
        headers = {}
        while line := await self._line():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if "content-length" not in headers and "transfer-encoding" not in headers:
            headers["content-length"] = "0"
        return status, headers

    async def _line(self) -> str:
        line = await self._reader.readline()
        if not line.endswith(b"\n"):
            raise EOFError("the connection was closed")
        return line.decode("latin-1").strip()

    def close(self) -> None:
        self._writer.transport.abort()
