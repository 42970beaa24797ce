"""Queries of the table, page by page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from stix.adapters.dynamodb_items import UNEXPIRED, item_of, number
from stix.ports.state_store import Page

__all__ = ["query_page", "query_rows"]

_PAGE_QUERIES = 5
"""Queries for one page at most: among many expired items a page is returned short, with its cursor."""

_Query = Callable[..., Mapping[str, Any]]


def query_page(query: _Query, arguments: Mapping[str, Any], *, sort_key: str, limit: int, now: float) -> Page:
    """A page of unexpired items; the cursor is a value of ``sort_key``."""
    values = {**arguments["ExpressionAttributeValues"], ":now": number(now)}
    rows, last = _rows(
        query,
        {**arguments, "ExpressionAttributeValues": values, "FilterExpression": UNEXPIRED},
        # One more than asked for tells whether a page follows.
        enough=limit + 1,
        queries=_PAGE_QUERIES,
    )
    items = tuple(item_of(row) for row in rows[:limit])
    if len(rows) > limit:
        return Page(items, rows[limit - 1][sort_key]["S"])
    return Page(items, last[sort_key]["S"] if last else None)


def query_rows(query: _Query, arguments: Mapping[str, Any], limit: int) -> list[dict[str, Any]]:
    """At most ``limit`` rows as DynamoDB gives them."""
    rows, _ = _rows(query, arguments, enough=limit, queries=None)
    return rows


def _rows(
    query: _Query, arguments: Mapping[str, Any], *, enough: int, queries: int | None
) -> tuple[list[dict[str, Any]], Mapping[str, Any] | None]:
    """Rows until there are ``enough``, and the key after which more may follow (an answer ends at 1 MB)."""
    rows: list[dict[str, Any]] = []
    start: dict[str, Any] = {}
    while True:
        answer = query(**arguments, **start, Limit=enough - len(rows))
        rows.extend(answer["Items"])
        last: Mapping[str, Any] | None = answer.get("LastEvaluatedKey")
        queries = None if queries is None else queries - 1
        if last is None or len(rows) >= enough or queries == 0:
            return rows, last
        start = {"ExclusiveStartKey": last}
