"""Asks the authorizer function who calls, and remembers its answers for a short while."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from stix.local.http_events import HttpRequest, authorizer_event
from stix.local.interpreter.errors import FunctionError
from stix.model.errors import UnauthorizedError

__all__ = ["Authorization"]

CACHE_SECONDS = 30.0
"""How long a revoked token may still work; at most 60 in the deployed API."""

CACHED_TOKENS = 10_000

_MISSING = "The request carries no token."
_REFUSED = "The token of the request is not known, has expired or was replaced."


class Authorization:
    """The contexts of the tokens that were let in. Refusals are not remembered: asking again costs little
    here, and a token may become valid at any moment. Safe from many threads."""

    def __init__(
        self,
        invoke: Callable[[str, dict[str, Any]], Any],
        *,
        seconds: float = CACHE_SECONDS,
        tokens: int = CACHED_TOKENS,
        now: Callable[[], float] = time.monotonic,
    ):
        self._invoke = invoke
        self._seconds = seconds
        self._tokens = tokens
        self._now = now
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[float, Mapping[str, Any]]] = OrderedDict()

    def context(self, request: HttpRequest, route: str) -> Mapping[str, Any]:
        """What the authorizer says about the caller.

        Raises ``UnauthorizedError`` without a token or when the authorizer said no, ``FunctionError`` when it
        failed. API Gateway answers a plain no with 403, while our protocols say 401 for a token that is not,
        or no longer, good; there an authorizer gets a 401 by raising ``Unauthorized``, as it does here.
        """
        credentials = request.header("authorization")
        if not credentials:
            raise UnauthorizedError(_MISSING, hint="Send `Authorization: Bearer <token>`.")
        with self._lock:
            known = self._known.get(credentials)
        if known is not None and self._now() < known[0]:
            return known[1]
        try:
            answer = self._invoke("authorize", authorizer_event(request, route))
        except FunctionError as exc:
            if exc.message == "Unauthorized":
                raise UnauthorizedError(_REFUSED) from exc
            raise
        allowed = isinstance(answer, dict) and answer.get("isAuthorized") is True
        context: Mapping[str, Any] = (allowed and answer.get("context")) or {}
        with self._lock:
            if allowed:
                self._known[credentials] = (self._now() + self._seconds, context)
                self._known.move_to_end(credentials)
                self._forget()
            else:
                self._known.pop(credentials, None)
        if not allowed:
            raise UnauthorizedError(_REFUSED)
        return context

    def _forget(self) -> None:
        """Every node has a token of its own: what has expired must not stay. The oldest come first."""
        now = self._now()
        while self._known and (len(self._known) > self._tokens or next(iter(self._known.values()))[0] <= now):
            self._known.popitem(last=False)
