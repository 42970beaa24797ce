"""What the client's groups of calls share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from stix.sdk.responses import LogPage
from stix.sdk.retrying import HOLD_PATIENCE

__all__ = ["HOLD_SECONDS", "Calls"]

HOLD_SECONDS = 20
"""The longest that a control plane holds an answer."""


class Calls:
    """A group of calls; ``Client`` has the transport."""

    if TYPE_CHECKING:

        def _call(
            self,
            method: str,
            path: str,
            body: dict[str, Any] | None = None,
            *,
            params: dict[str, str] | None = None,
            patience: float | None = None,
        ) -> Any: ...

        def _pages(self, path: str, field: str, params: dict[str, str]) -> Iterator[Any]: ...

    def _log_page(self, path: str, cursor: str, follow: bool, hold: bool, rank: int | None) -> LogPage:
        params = {
            "cursor": cursor,
            "follow": "true" if follow else "",
            "wait": str(HOLD_SECONDS) if hold else "",
            "rank": "" if rank is None else str(rank),
        }
        return cast(LogPage, self._call("GET", path, params=params, patience=HOLD_PATIENCE))
