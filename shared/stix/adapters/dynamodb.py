"""The state store of the deployed control plane: one DynamoDB table."""

from __future__ import annotations

import builtins
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

from stix.adapters.aws_client import create_client, translated
from stix.adapters.dynamodb_items import attributes, condition, item_of, key_attributes, number, overwrite
from stix.adapters.dynamodb_queries import query_page, query_rows
from stix.adapters.dynamodb_table import (
    DUE_INDEX,
    LIST_INDEX,
    due_partition,
    key_of,
    list_partition,
    partition,
)
from stix.adapters.dynamodb_transactions import failed_keys, retry_delay, transact_items
from stix.adapters.item_codec import (
    check_index,
    check_keys,
    check_limit,
    check_parts,
    check_writes,
    list_bounds,
    written_form,
)
from stix.model.errors import UnavailableError
from stix.ports.state_store import (
    SHARDS,
    Delete,
    DueItem,
    Item,
    Key,
    Page,
    Put,
    VersionConflictError,
    Write,
)

__all__ = ["DynamoStateStore"]

_TRANSACTION_ATTEMPTS = 5
"""Attempts of a transaction that overwrites items which others write at the same time."""


class DynamoStateStore:
    """``StateStore`` over the table that ``table_definition`` describes.

    Safe from many threads. ``ValueError`` for items and arguments that break the port's limits.
    ``token`` names every single write, so that a retry after a lost answer is recognised as our own success.
    """

    def __init__(
        self,
        table_name: str,
        client: Any = None,
        *,
        clock: Callable[[], float] = time.time,
        token: Callable[[], str] = lambda: secrets.token_urlsafe(9),
    ):
        self._client = create_client("dynamodb") if client is None else client
        self._client.meta.events.register("needs-retry.dynamodb", retry_delay, unique_id="stix-contention")
        self._table = table_name
        self._what = f"table {table_name}"
        self._clock = clock
        self._token = token

    def get(self, key: Key) -> Item | None:
        check_keys([key])
        with translated(self._what):
            answer = self._client.get_item(
                TableName=self._table, Key=key_attributes(key), ConsistentRead=True
            )
        return self._unexpired(item_of(answer["Item"])) if "Item" in answer else None

    def get_many(self, keys: Sequence[Key]) -> list[Item | None]:
        check_keys(keys)
        found: dict[Key, Item] = {}
        pending = [key_attributes(key) for key in dict.fromkeys(keys)]
        while pending:
            request = {self._table: {"Keys": pending, "ConsistentRead": True}}
            with translated(self._what):
                answer = self._client.batch_get_item(RequestItems=request)
            for item in map(item_of, answer["Responses"].get(self._table, [])):
                found[item.key] = item
            rest = answer["UnprocessedKeys"].get(self._table, {}).get("Keys", [])
            if len(rest) == len(pending):
                # DynamoDB raises, and the client backs off, before it would leave everything unprocessed.
                raise UnavailableError(f"The {self._what} answers none of {len(pending)} reads.")
            pending = rest
        return [self._unexpired(found[key]) if key in found else None for key in keys]

    def put(self, item: Item, *, unconditional: bool = False) -> Item:
        check_writes([Put(item)])
        token = self._token()
        if unconditional:
            update = overwrite(written_form(item, 0), token)
            with translated(self._what):
                answer = self._client.update_item(TableName=self._table, ReturnValues="UPDATED_NEW", **update)
            return written_form(item, int(answer["Attributes"]["version"]["N"]))
        written = written_form(item, item.version + 1)
        try:
            with translated(self._what):
                self._conditional(self._client.put_item, item.version, Item=attributes(written, token))
        except _RefusedError as exc:
            if exc.stored.get("written_by", {}).get("S") != token:
                raise VersionConflictError([item.key]) from exc.__cause__
        return written

    def delete(self, key: Key, *, version: int | None = None) -> None:
        check_writes([Delete(key, version)])
        with translated(self._what):
            if version is None:
                self._client.delete_item(TableName=self._table, Key=key_attributes(key))
                return
            try:
                self._conditional(self._client.delete_item, version, Key=key_attributes(key))
            except _RefusedError as exc:
                raise VersionConflictError([key]) from exc.__cause__

    def transact(self, writes: Sequence[Write]) -> builtins.list[Item]:
        check_writes(writes)
        if not writes:
            return []
        match writes:
            # A transaction costs twice what a single write does.
            case [Put(item, unconditional)]:
                return [self.put(item, unconditional=unconditional)]
            case [Delete(key, version)]:
                self.delete(key, version=version)
                return []
        overwritten = {write.item.key for write in writes if isinstance(write, Put) and write.unconditional}
        for _ in range(_TRANSACTION_ATTEMPTS):
            versioned = self._with_stored_versions(writes) if overwritten else writes
            try:
                return self._transact(versioned)
            except VersionConflictError as exc:
                # An overwritten item moved between its read and the transaction: that refuses nothing.
                refused = [key for key in exc.keys if key not in overwritten]
                if refused:
                    raise VersionConflictError(refused) from exc.__cause__
        raise UnavailableError(f"The {self._what} is too busy: others write the same items all the time.")

    def children(
        self,
        workspace: str,
        kind: str,
        parent: str,
        *,
        after: str | None = None,
        limit: int = 100,
        newest_first: bool = False,
    ) -> Page:
        check_parts(workspace=workspace, kind=kind, parent=parent)
        check_limit(limit)
        range_, values = "", {":pk": {"S": partition(workspace, kind, parent)}}
        if after is not None:
            check_parts(after=after)
            range_ = " AND sk < :after" if newest_first else " AND sk > :after"
            values[":after"] = {"S": after}
        query = {
            "ConsistentRead": True,
            "ScanIndexForward": not newest_first,
            "KeyConditionExpression": "pk = :pk" + range_,
            "ExpressionAttributeValues": values,
        }
        return self._page(query, "sk", limit)

    def list(
        self,
        workspace: str,
        kind: str,
        *,
        live: bool | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page:
        check_parts(workspace=workspace, kind=kind)
        check_limit(limit)
        lower, upper = list_bounds(live, after)
        if lower > upper:
            return Page(())
        query = {
            "IndexName": LIST_INDEX,
            "KeyConditionExpression": "list_pk = :pk AND list_sk BETWEEN :lower AND :upper",
            "ExpressionAttributeValues": {
                ":pk": {"S": list_partition(workspace, kind)},
                ":lower": {"S": lower},
                ":upper": {"S": upper},
            },
        }
        return self._page(query, "list_sk", limit)

    def due(self, kind: str, shard: int, before: float, *, limit: int = 100) -> builtins.list[DueItem]:
        """As the port says; an item past its ``expires_at`` may still appear (the index holds keys only)."""
        check_index(kind, shard, before, limit, SHARDS)
        query = {
            "TableName": self._table,
            "IndexName": DUE_INDEX,
            "KeyConditionExpression": "due_pk = :pk AND due_at <= :before",
            "ExpressionAttributeValues": {
                ":pk": {"S": due_partition(kind, shard)},
                ":before": number(before),
            },
        }
        with translated(self._what):
            rows = query_rows(self._client.query, query, limit)
        return [DueItem(key_of(row["pk"]["S"], row["sk"]["S"]), float(row["due_at"]["N"])) for row in rows]

    def _conditional(self, operation: Callable[..., Any], version: int, **arguments: Any) -> None:
        """Run a put or delete that depends on ``version``. Raises ``_RefusedError`` with what is stored."""
        try:
            operation(
                TableName=self._table,
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
                **arguments,
                **condition(version, self._clock()),
            )
        except self._client.exceptions.ConditionalCheckFailedException as exc:
            raise _RefusedError(exc.response.get("Item", {})) from exc

    def _with_stored_versions(self, writes: Sequence[Write]) -> builtins.list[Write]:
        """Unconditional puts made conditional on what is stored now: a transaction's answer tells no
        versions, and a version that someone has read must not come again."""
        keys = [write.item.key for write in writes if isinstance(write, Put) and write.unconditional]
        stored = dict(zip(keys, self.get_many(keys), strict=True))
        versioned: builtins.list[Write] = []
        for write in writes:
            if isinstance(write, Put) and write.unconditional:
                current = stored[write.item.key]
                versioned.append(Put(write.item.changed(version=current.version if current else 0)))
            else:
                versioned.append(write)
        return versioned

    def _transact(self, writes: Sequence[Write]) -> builtins.list[Item]:
        requests, written = transact_items(self._table, writes, self._clock(), self._token)
        with translated(self._what):
            try:
                self._client.transact_write_items(TransactItems=requests)
            except self._client.exceptions.TransactionCanceledException as exc:
                if failed := failed_keys(exc.response, writes):
                    raise VersionConflictError(failed) from exc
                raise
        return written

    def _page(self, query: dict[str, Any], sort_key: str, limit: int) -> Page:
        arguments = {"TableName": self._table, **query}
        with translated(self._what):
            return query_page(
                self._client.query, arguments, sort_key=sort_key, limit=limit, now=self._clock()
            )

    def _unexpired(self, item: Item) -> Item | None:
        return item if item.expires_at is None or item.expires_at > self._clock() else None


class _RefusedError(Exception):
    """A condition failed; ``stored`` holds the attributes that refused it, none where the item is absent."""

    def __init__(self, stored: dict[str, Any]):
        super().__init__("the condition of a write failed")
        self.stored = stored
