"""Transactions of the table: the request, what a refusal means, and when to try again."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stix.adapters.dynamodb_items import attributes, condition, key_attributes
from stix.adapters.item_codec import written_form
from stix.ports.state_store import Check, Delete, Item, Key, Put, Write

__all__ = ["failed_keys", "retry_delay", "transact_items"]

_CONDITION_FAILED = "ConditionalCheckFailed"
_CONTENTION = frozenset({"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"})
_RETRIES = 5
_FIRST_DELAY, _LONGEST_DELAY = 0.05, 0.8


def transact_items(
    table: str, writes: Sequence[Write], now: float, token: Callable[[], str]
) -> tuple[list[dict[str, Any]], list[Item]]:
    """``TransactItems`` for the writes, every put conditional, and the put items with their new versions."""
    requests: list[dict[str, Any]] = []
    written: list[Item] = []
    for write in writes:
        expected: int | None
        match write:
            case Put(item):
                expected = item.version
                written.append(written_form(item, item.version + 1))
                name, arguments = "Put", {"Item": attributes(written[-1], token())}
            case Delete(key, version):
                expected = version
                name, arguments = "Delete", {"Key": key_attributes(key)}
            case Check(key, version):
                expected = version
                name, arguments = "ConditionCheck", {"Key": key_attributes(key)}
        guard = {} if expected is None else condition(expected, now)
        requests.append({name: {"TableName": table, **arguments, **guard}})
    return requests, written


def failed_keys(answer: Mapping[str, Any], writes: Sequence[Write]) -> list[Key]:
    """Keys of the writes whose condition failed, from the answer that cancelled the transaction."""
    keys = [write.item.key if isinstance(write, Put) else write.key for write in writes]
    codes = _cancellation_codes(answer)
    return [key for key, code in zip(keys, codes, strict=False) if code == _CONDITION_FAILED]


def retry_delay(response: Any = None, attempts: int = 1, **_: Any) -> float | None:
    """Handler of botocore's ``needs-retry.dynamodb``: seconds to wait before the same request again, with
    full jitter, when it met another transaction; None leaves the decision to botocore.

    Botocore retries neither by itself: a cancelled transaction is to it an answer like any other.
    """
    if response is None or attempts > _RETRIES:
        return None
    answer = response[1]
    code = answer.get("Error", {}).get("Code")
    codes = set(_cancellation_codes(answer))
    met = code == "TransactionConflictException" or (
        code == "TransactionCanceledException" and _CONDITION_FAILED not in codes and codes & _CONTENTION
    )
    return random.uniform(0, min(_LONGEST_DELAY, _FIRST_DELAY * 2**attempts)) if met else None


def _cancellation_codes(answer: Mapping[str, Any]) -> list[str]:
    return [reason.get("Code", "") for reason in answer.get("CancellationReasons", [])]
