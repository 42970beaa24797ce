"""Counts what use cases ask of the metered services, and what AWS would bill for it.

Table calls are counted where botocore sends them, with the sizes of the items as DynamoDB measures them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from infra.usage import Usage

OWN_SECONDS = 0.006
TABLE_SECONDS = 0.006
OBJECT_SECONDS = 0.030
SERVICE_SECONDS = 0.020
CLOUD_SECONDS = 1.0
"""Billed time of a warm invocation: its own, and of each call of the table, of the object store, of
Step Functions, EventBridge or the wake channel, and of a cloud. Assumptions, not measurements."""

_READ, _WRITE = 4096, 1024
_INDEXES = {"due": ("due_pk", "due_at", False), "list": ("list_pk", "list_sk", True)}
"""Partition key, sort key, and whether the index holds whole items."""


class Meter:
    """Amounts so far; ``reading`` is a snapshot, differences are what happened in between."""

    def __init__(self, memory_mib: Mapping[str, int]):
        self._memory_mib = memory_mib
        self._amounts: Counter[str] = Counter()
        self._invocations: Counter[str] = Counter()
        self._gb_seconds = 0.0
        self._seconds = 0.0
        self._stored: dict[tuple[str, str], dict[str, Any]] = {}
        self._due: set[str] = set()
        """Partitions of the index of what is due that were ever written."""
        self.operations: Counter[str] = Counter()

    def reading(self) -> Usage:
        return Usage(invocations=dict(self._invocations), gb_seconds=self._gb_seconds, **self._amounts)

    def count(self, name: str, amount: float = 1, *, seconds: float = 0.0) -> None:
        self._amounts[name] += amount
        self._seconds += seconds

    def invoked(self, function: str, seconds: float | None = None) -> None:
        """An invocation has ended, or one that takes ``seconds`` is made from inside another."""
        if seconds is None:
            seconds, self._seconds = OWN_SECONDS + self._seconds, 0.0
        else:
            self._seconds += seconds
        self._invocations[function] += 1
        self._gb_seconds += seconds * self._memory_mib[function] / 1024

    def watch(self, client: Any) -> None:
        """Count every request of a DynamoDB client."""
        client.meta.events.register("before-parameter-build.dynamodb", self._remember)
        client.meta.events.register("before-call.dynamodb.Query", self._answer_for_nothing)
        client.meta.events.register("after-call.dynamodb", self._table_call)

    def _remember(self, params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        context["stix-params"] = params

    def _answer_for_nothing(self, context: dict[str, Any], **_: Any) -> tuple[Any, dict[str, Any]] | None:
        """A partition that was never written holds nothing: most queries of sweeps, whose answers the table's
        stand-in would take minutes to find in all."""
        params = context["stix-params"]
        if params.get("IndexName") != "due" or params["ExpressionAttributeValues"][":pk"]["S"] in self._due:
            return None
        return SimpleNamespace(status_code=200), {"Items": [], "Count": 0, "ScannedCount": 0}

    def _table_call(self, parsed: dict[str, Any], model: Any, context: dict[str, Any], **_: Any) -> None:
        params = context["stix-params"]
        self.operations[model.name] += 1
        self._seconds += TABLE_SECONDS
        match model.name:
            case "GetItem":
                self._amounts["read_units"] += _read_units(parsed.get("Item", {}))
            case "BatchGetItem":
                table, request = next(iter(params["RequestItems"].items()))
                found = parsed["Responses"].get(table, [])
                self._amounts["read_units"] += (
                    sum(map(_read_units, found)) + len(request["Keys"]) - len(found)
                )
            case "Query":
                read = sum(map(_size, parsed.get("Items", ())))
                consistent = params.get("ConsistentRead", False)
                self._amounts["read_units"] += max(1, math.ceil(read / _READ)) * (1 if consistent else 0.5)
            case "PutItem":
                self._write(params["Item"])
            case "UpdateItem":
                values = {name[1:]: value for name, value in params["ExpressionAttributeValues"].items()}
                self._write({**params["Key"], **values})
            case "DeleteItem":
                self._delete(params["Key"])
            case "TransactWriteItems":
                for entry in params["TransactItems"]:
                    [(kind, one)] = entry.items()
                    if kind == "Put":
                        self._write(one["Item"], factor=2)
                    elif kind == "Delete":
                        self._delete(one["Key"], factor=2)
                    else:
                        self._amounts["write_units"] += 2
            case other:
                raise NotImplementedError(f"{other} has no price here")

    def _write(self, item: dict[str, Any], factor: int = 1) -> None:
        key = (item["pk"]["S"], item["sk"]["S"])
        before = self._stored.get(key, {})
        self._stored[key] = item
        if "due_pk" in item:
            self._due.add(item["due_pk"]["S"])
        self._amounts["write_units"] += factor * _write_units(item, before) + _index_units(before, item)

    def _delete(self, key: dict[str, Any], factor: int = 1) -> None:
        before = self._stored.pop((key["pk"]["S"], key["sk"]["S"]), {})
        self._amounts["write_units"] += factor * _write_units(before) + _index_units(before, {})


def _size(item: Mapping[str, Any]) -> int:
    return sum(len(name) + len(str(next(iter(value.values())))) for name, value in item.items())


def _read_units(item: Mapping[str, Any]) -> int:
    return max(1, math.ceil(_size(item) / _READ))


def _write_units(*versions: Mapping[str, Any]) -> int:
    return max(1, *(math.ceil(_size(item) / _WRITE) for item in versions), 1)


def _index_units(before: Mapping[str, Any], after: Mapping[str, Any]) -> int:
    """An entry that appears, disappears or changes is a write; one whose key moves is two."""
    units = 0
    for partition, sort, whole in _INDEXES.values():
        old = (before[partition], before.get(sort)) if partition in before else None
        new = (after[partition], after.get(sort)) if partition in after else None
        if old == new:
            units += _write_units(after) if whole and new is not None else 0
            continue
        for entry, item in ((old, before), (new, after)):
            if entry is not None:
                units += _write_units(item) if whole else 1
    return units
