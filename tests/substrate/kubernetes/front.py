"""A way to a real API server on which answers get lost, requests arrive twice, and pages are short.

What is refused and how stays the API server's: nothing here makes up an answer.
"""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import urllib3

from tests.providers.faults import Faults, Kind

__all__ = ["Front"]

_VERBS = {"POST": "create", "DELETE": "delete"}
_PASSED = ("Authorization", "Accept", "Content-Type")


class Front:
    """Forwards to ``server``. ``calls``: verb and resource of each request; ``page_size``: of lists."""

    def __init__(self, server: str, authority: Path) -> None:
        self.faults = Faults()
        self.calls: list[str] = []
        self.page_size: int | None = None
        self._server = server
        self._pool = urllib3.PoolManager(ca_certs=str(authority), retries=False, maxsize=16)
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:
                return

            def _do(self) -> None:
                front._forward(self, self.rfile.read(int(self.headers.get("Content-Length") or 0)))

            do_GET = do_POST = do_DELETE = _do  # noqa: N815

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._pool.clear()

    def _forward(self, http: BaseHTTPRequestHandler, body: bytes) -> None:
        path = urlsplit(http.path)
        parts = path.path.strip("/").split("/")
        parts = parts[2:] if parts[0] == "api" else parts[3:]
        rest = parts[2:] if parts[0] == "namespaces" else parts
        operation = f"{_VERBS.get(http.command) or ('get' if len(rest) > 1 else 'list')} {rest[0]}"
        self.calls.append(operation)
        query = parse_qs(path.query)
        if self.page_size is not None and "limit" in query:
            query["limit"] = [str(self.page_size)]
        url = f"{self._server}{path.path}?{urlencode(query, doseq=True)}"
        headers = {name: http.headers[name] for name in _PASSED if name in http.headers}
        for _ in range(2 if self.faults.take(operation, Kind.TWICE) else 1):
            answer = self._pool.request(http.command, url, body=body, headers=headers)
        if self.faults.take(operation, Kind.LOSE_ANSWER):
            http.connection.shutdown(2)
            http.close_connection = True
            return
        http.send_response(answer.status)
        for name in ("Content-Type", "Retry-After"):
            if name in answer.headers:
                http.send_header(name, answer.headers[name])
        http.send_header("Content-Length", str(len(answer.data)))
        http.end_headers()
        http.wfile.write(answer.data)
