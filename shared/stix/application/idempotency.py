"""An ``Idempotency-Key`` makes a repeated request answer as the first one did."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from stix.application.world import World
from stix.model.errors import ConflictError
from stix.ports.state_store import Item, Key, Put, VersionConflictError

__all__ = ["Once"]

_KEEP_SECONDS = 24 * 3600


class Once:
    """One request under its key.

    ``answer`` gives the stored answer of an earlier equal request; ``record`` is the write that stores this
    one, to go into the same transaction as the effect. ``request``: JSON values, or a model of the API.
    """

    def __init__(self, world: World, workspace: str, key: str | None, route: str, request: Any):
        self._world = world
        self._key: Key | None = None
        self._request = ""
        if key:
            self._key = Key.top(workspace, "idempotency", _digest(f"{route}\0{key}"))
            values = request.model_dump(mode="json") if isinstance(request, BaseModel) else request
            self._request = _digest(json.dumps(values, sort_keys=True, separators=(",", ":")))

    def answer(self) -> dict[str, Any] | None:
        """The earlier answer. Raises ``ConflictError`` when the key stood for another request."""
        item = None if self._key is None else self._world.store.get(self._key)
        if item is None:
            return None
        if item.body["request"] != self._request:
            raise ConflictError(
                "This Idempotency-Key was used for a different request.",
                hint="Use a new key for a new request.",
                code="idempotency_mismatch",
            )
        return dict(item.body["answer"])

    def record(self, answer: dict[str, Any]) -> list[Put]:
        """What to add to the transaction of the effect."""
        if self._key is None:
            return []
        now = self._world.clock.now()
        body = {"request": self._request, "answer": answer}
        return [Put(Item(self._key, body, created_at=now, expires_at=now + _KEEP_SECONDS))]

    def run(self, effect: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """For an effect that is idempotent by itself: the stored answer, or do it and store the answer."""
        earlier = self.answer()
        if earlier is not None:
            return earlier
        answer = effect()
        for write in self.record(answer):
            try:
                self._world.store.put(write.item)
            except VersionConflictError:
                return self.answer() or answer
        return answer


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
