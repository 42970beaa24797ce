"""``python replica_double.py PORT NAME``: a real HTTP/1.1 server as a replica, in a process that can be
killed.

/who says the name; /slow/SECONDS the same, later; /hold the same, once it is let go; /hold/NAME too, but only
the replica of that name holds it. /release/COUNT lets so many of those go that are held or still come. /echo
says what came in; /stream sends a line, and the last one when the request body has ended; /sse three events,
the second and the third when they are let go; /status/CODE answers with it. /sick makes /health answer 500,
/well 200 again. /hits says how many POST requests arrived at /hold.
"""

from __future__ import annotations

import asyncio
import json
import sys


class Replica:
    def __init__(self, name: str) -> None:
        self.name, self.healthy, self.posts = name, True, 0
        self.let_go = asyncio.Semaphore(0)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        line = (await reader.readline()).decode()
        if not line.strip():
            return False
        method, target, _ = line.split()
        path = target.partition("?")[0]
        headers = {}
        while (text := (await reader.readline()).decode().strip()) != "":
            key, _, value = text.partition(":")
            headers[key.lower()] = value.strip()
        if path == "/stream":
            await self._stream(reader, writer, headers)
            return False
        body = await _body(reader, headers)
        if path == "/sse":
            await self._events(writer)
            return False
        status, answer = await self._answer(method, path, headers, body)
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(answer)}\r\nX-Replica: {self.name}\r\n\r\n"
        writer.write(head.encode() + (b"" if method == "HEAD" else answer))
        await writer.drain()
        return True

    async def _answer(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, bytes]:
        if path == "/health":
            return (200 if self.healthy else 500), json.dumps(
                {"method": method, "body": body.decode()}
            ).encode()
        if path in ("/sick", "/well"):
            self.healthy = path == "/well"
        if path == "/metrics":
            samples = f'queued{{model="a b"}} 2\nqueued{{model="c"}} {len(self.name)}\nqueued_x 9\n'
            return 200, f"# TYPE queued gauge\n{samples}".encode()
        if path == "/hits":
            return 200, str(self.posts).encode()
        if path == "/echo":
            return 200, json.dumps({"method": method, "headers": headers, "body": body.decode()}).encode()
        if path.startswith("/status/"):
            return int(path.rpartition("/")[2]), b""
        if path.startswith("/slow/"):
            await asyncio.sleep(float(path.rpartition("/")[2]))
        if path.startswith("/release/"):
            for _ in range(int(path.rpartition("/")[2])):
                self.let_go.release()
        if path.startswith("/hold"):
            self.posts += method == "POST"
            if path in ("/hold", f"/hold/{self.name}"):
                await self.let_go.acquire()
        return 200, self.name.encode()

    async def _stream(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: dict[str, str]
    ) -> None:
        writer.write(b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n")
        _chunk(writer, b"first\n")
        await writer.drain()
        body = await _body(reader, headers)
        _chunk(writer, b"last %d\n" % len(body))
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async def _events(self, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 X\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for number in range(3):
            if number:
                await self.let_go.acquire()
            _chunk(writer, b"data: %d\n\n" % number)
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()


def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(b"%x\r\n%s\r\n" % (len(data), data))


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding") == "chunked":
        parts = []
        while size := int((await reader.readline()).split(b";")[0], 16):
            parts.append(await reader.readexactly(size))
            await reader.readline()
        await reader.readline()
        return b"".join(parts)
    return await reader.readexactly(int(headers.get("content-length", 0)))


async def main(port: int, name: str) -> None:
    server = await asyncio.start_server(Replica(name).serve, "127.0.0.1", port, backlog=1024)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
