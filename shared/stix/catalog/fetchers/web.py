"""An HTTP client for price lists: it retries, and says what went wrong in our own errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from stix.catalog.source import FetchError
from stix.model.errors import CredentialsError, ThrottledError

if TYPE_CHECKING:
    import httpx

__all__ = ["PriceApi", "epoch"]

_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_FIRST_SECONDS, _MOST_SECONDS, _LONGEST_WAIT_SECONDS = 0.5, 20.0, 60.0


class PriceApi:
    """Requests of one fetcher through ``client``, which brings the credentials along.

    A failed try is repeated after ``sleep`` of a random time below 0.5 s, 1 s, 2 s ... 20 s (full jitter), or
    after what ``Retry-After`` says, at most a minute. A body that is cut off or is not JSON counts as a
    failed try. What still fails raises ``CredentialsError`` (401, 403), ``ThrottledError`` (429) or
    ``FetchError``; any other 4xx raises at once.
    """

    def __init__(
        self,
        client: httpx.Client,
        *,
        sleep: Callable[[float], None],
        random: Callable[[], float],
        now: Callable[[], float],
        tries: int = 5,
    ):
        self._client = client
        self._sleep = sleep
        self._random = random
        self._now = now
        self._tries = tries

    def now(self) -> float:
        return self._now()

    def get(
        self, url: str, *, params: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        """The answer's JSON."""
        return self._json("GET", url, params=params, headers=headers)

    def post(
        self,
        url: str,
        body: Any = None,
        *,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """The answer's JSON, for a body of JSON or of form fields."""
        if form is not None:
            return self._json("POST", url, data=dict(form), headers=headers)
        return self._json("POST", url, json=body, headers=headers)

    def _json(self, method: str, url: str, **request: Any) -> Any:
        def read() -> Any:
            response = self._client.request(method, url, **request)
            self._check(response)
            try:
                return response.json()
            except (json.JSONDecodeError, UnicodeDecodeError) as exc:
                raise _TryAgainError(f"{_shown(url)} answered something that is not JSON: {exc}") from exc

        return self._retrying(url, read)

    def read_lines(self, url: str, consume: Callable[[Iterator[str]], Any]) -> Any:
        """What ``consume`` makes of the body's lines; called anew, from the first line, for each try.

        ``consume`` may raise ``FetchError``: the body is then taken to be cut off, and fetched again.
        """

        def read() -> Any:
            stream: AbstractContextManager[httpx.Response] = self._client.stream("GET", url)
            with stream as response:
                if response.status_code >= 400:
                    response.read()
                self._check(response)
                try:
                    return consume(response.iter_lines())
                except FetchError as exc:
                    raise _TryAgainError(exc.message) from exc

        return self._retrying(url, read)

    def _retrying(self, url: str, read: Callable[[], Any]) -> Any:
        import httpx

        for tried in range(1, self._tries + 1):
            try:
                return read()
            except _TryAgainError as exc:
                failure = exc
            except (httpx.TransportError, httpx.DecodingError) as exc:
                failure = _TryAgainError(f"{_shown(url)}: {type(exc).__name__}: {exc}")
            if tried < self._tries:
                ceiling = min(_MOST_SECONDS, _FIRST_SECONDS * 2 ** (tried - 1))
                wait = failure.wait if failure.wait is not None else self._random() * ceiling
                self._sleep(min(wait, _LONGEST_WAIT_SECONDS))
        if failure.throttled:
            raise ThrottledError(f"{failure} (tried {self._tries} times).", retry_after=failure.wait or 60.0)
        raise FetchError(f"{failure} (tried {self._tries} times).")

    def _check(self, response: httpx.Response) -> None:
        status = response.status_code
        if status < 300:
            return
        place = _shown(str(response.request.url))
        if status in _AGAIN:
            wait = _retry_after(response.headers.get("Retry-After"), self._now())
            raise _TryAgainError(f"{place} answered {status}", wait=wait, throttled=status == 429)
        if status in (401, 403):
            raise CredentialsError(
                f"{place} answered {status}: the credentials are missing, wrong or may not read prices."
            )
        raise FetchError(f"{place} answered {status}: {response.text[:200]}")


class _TryAgainError(Exception):
    def __init__(self, message: str, *, wait: float | None = None, throttled: bool = False):
        super().__init__(message)
        self.wait = wait
        self.throttled = throttled


def _retry_after(value: str | None, now: float) -> float | None:
    """Seconds from either form of the header (RFC 9110, 10.2.3); None where there is none that parses."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, when.replace(tzinfo=when.tzinfo or UTC).timestamp() - now)


def _shown(url: str) -> str:
    """Without the query, which may hold a key."""
    return url.partition("?")[0]


def epoch(text: str) -> float:
    """Seconds of an ISO 8601 time. Raises ``ValueError``."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC).timestamp()
