"""What is said of a route of the people's HTTP API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel

__all__ = ["AFTER", "HOLD", "LOG_QUERY", "Query", "Route"]


@dataclass(frozen=True, slots=True)
class Query:
    """A parameter of the query string. ``lowest`` and ``most`` bound a number."""

    name: str
    description: str
    type: Literal["string", "integer", "boolean"] = "string"
    lowest: int | None = None
    most: int | None = None
    default: str | int | bool | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """``errors`` come on top of those that every route with a token may answer; ``keyed`` routes take an
    ``Idempotency-Key``; ``open`` ones no token."""

    method: Literal["get", "post", "put"]
    path: str
    name: str
    summary: str
    response: type[BaseModel]
    status: int = 200
    request: type[BaseModel] | None = None
    query: tuple[Query, ...] = ()
    errors: tuple[int, ...] = ()
    keyed: bool = False
    open: bool = False


AFTER = Query("after", "`next` of the page before.")
HOLD = "Hold the answer for up to so many seconds until there is something new, where the server can do so."
LOG_QUERY = (
    Query("cursor", "`cursor` of the page before; empty from the start; `end` for the counts only."),
    Query("follow", "Ask the nodes to send what they have at once.", "boolean", default=False),
    Query("wait", HOLD, "integer", 0, 20, 0),
    Query("rank", "Only this rank.", "integer", 0),
)
"""Of every route that answers a page of a log."""
