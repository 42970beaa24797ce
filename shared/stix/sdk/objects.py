"""Bytes to and from signed URLs: uploads of packed files, downloads of log chunks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from stix.sdk.endpoint import is_loopback
from stix.sdk.errors import LinkExpiredError, SdkError, UnreachableError
from stix.sdk.retrying import RETRIED_STATUS, Backoff, Pace

__all__ = ["ObjectTransfer"]

_BLOCK = 256 * 1024


class ObjectTransfer:
    """Sends no token of ours: a signed URL carries its own permission. Usable from several threads."""

    def __init__(
        self, transport: httpx.BaseTransport | None, trace: Callable[[str], None] | None, pace: Pace
    ):
        self._transport = transport
        self._trace = trace
        self._pace = pace
        self._lock = threading.Lock()
        self._clients: dict[tuple[bool, bool], httpx.Client] = {}

    def get(self, url: str, headers: Mapping[str, str]) -> bytes | None:
        """The object, or None where it is gone. Raises ``LinkExpiredError``, ``SdkError``."""
        answer = self._retried("GET", url, headers, lambda: None)
        return None if answer.status_code in {404, 410} else answer.content

    def put_file(
        self,
        url: str,
        headers: Mapping[str, str],
        path: Path,
        *,
        method: str = "PUT",
        progress: Callable[[int], None] = lambda count: None,
    ) -> None:
        """Streams ``path``; ``progress`` gets the bytes of each block. Raises ``LinkExpiredError``,
        ``SdkError``."""
        size = path.stat().st_size
        headers = {**headers, "Content-Length": str(size)}
        answer = self._retried(method, url, headers, lambda: _blocks(path, progress))
        if answer.status_code in {404, 410}:
            raise SdkError(
                "upload_refused", f"The object store refused an upload (HTTP {answer.status_code})."
            )

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def _retried(
        self, method: str, url: str, headers: Mapping[str, str], content: Callable[[], Iterator[bytes] | None]
    ) -> httpx.Response:
        where = urlsplit(url).netloc
        backoff = Backoff(self._pace, 30)
        while True:
            try:
                answer = self._client(url).request(method, url, headers=dict(headers), content=content())
            except httpx.HTTPError as exc:
                if backoff.wait():
                    continue
                raise UnreachableError(f"The object store at {where} cannot be reached: {exc}.") from exc
            if self._trace:
                # The query of a signed URL is a permission: it is not shown.
                self._trace(f"{method} {answer.url.copy_with(query=None)} {answer.status_code}")
            status = answer.status_code
            if (status >= 500 or status in RETRIED_STATUS) and backoff.wait(
                answer.headers.get("Retry-After")
            ):
                continue
            if status == 403:
                raise LinkExpiredError(f"A signed URL at {where} has expired.")
            if status >= 300 and status not in {404, 410}:
                raise SdkError("object_store", f"The object store at {where} answered HTTP {status}.")
            return answer

    def _client(self, url: str) -> httpx.Client:
        kind = (url.startswith("https:"), not is_loopback(url))
        with self._lock:
            if kind not in self._clients:
                self._clients[kind] = httpx.Client(
                    transport=self._transport,
                    verify=kind[0],
                    trust_env=kind[1],
                    timeout=httpx.Timeout(60, connect=5),
                )
            return self._clients[kind]


def _blocks(path: Path, progress: Callable[[int], None]) -> Iterator[bytes]:
    with path.open("rb") as source:
        while block := source.read(_BLOCK):
            yield block
            progress(len(block))
