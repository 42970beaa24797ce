"""How an item looks in DynamoDB: attribute values, conditions and the updates that write it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from stix.adapters.dynamodb_table import due_partition, key_of, list_partition, partition
from stix.adapters.item_codec import encode_body, list_sort_key
from stix.ports.state_store import Item, Key

__all__ = ["UNEXPIRED", "attributes", "condition", "item_of", "key_attributes", "number", "overwrite"]

UNEXPIRED = "(attribute_not_exists(expires_at) OR expires_at > :now)"
"""Filter and condition: the TTL may drop an item days late, reads treat it as absent at once."""

_SPARSE = ("due_pk", "due_at", "list_pk", "list_sk", "expires_at")


def number(value: float) -> dict[str, str]:
    """A float without loss: ``repr`` has at most 17 digits, DynamoDB keeps 38."""
    return {"N": repr(value)}


def key_attributes(key: Key) -> dict[str, Any]:
    return {"pk": {"S": partition(key.workspace, key.kind, key.parent)}, "sk": {"S": key.id}}


def attributes(item: Item, token: str) -> dict[str, Any]:
    """All attributes of the item. The body is one string: what JSON carries comes back exactly, also floats
    and empty text. ``token`` names the write, to recognise it when its answer was lost."""
    values: dict[str, Any] = {
        **key_attributes(item.key),
        "version": number(item.version),
        "status": {"S": item.status},
        "live": {"BOOL": item.live},
        "listed": {"BOOL": item.listed},
        "created_at": number(item.created_at),
        "schema_version": number(item.schema_version),
        "body": {"S": encode_body(item)},
        "written_by": {"S": token},
    }
    if item.due_at is not None:
        values["due_at"] = number(item.due_at)
    if item.live:
        values["due_pk"] = {"S": due_partition(item.key.kind, item.key.shard)}
    if item.listed:
        values["list_pk"] = {"S": list_partition(item.key.workspace, item.key.kind)}
        values["list_sk"] = {"S": list_sort_key(item)}
    if item.expires_at is not None:
        # The TTL takes whole seconds only; ``written_form`` made it one.
        values["expires_at"] = number(int(item.expires_at))
    return values


def item_of(values: Mapping[str, Any]) -> Item:
    return Item(
        key=key_of(values["pk"]["S"], values["sk"]["S"]),
        body=json.loads(values["body"]["S"]),
        version=int(values["version"]["N"]),
        status=values["status"]["S"],
        live=values["live"]["BOOL"],
        due_at=_float(values.get("due_at")),
        listed=values["listed"]["BOOL"],
        created_at=float(values["created_at"]["N"]),
        expires_at=_float(values.get("expires_at")),
        schema_version=int(values["schema_version"]["N"]),
    )


def condition(version: int, now: float) -> dict[str, Any]:
    """Arguments that make a write conditional on the stored version; an expired item counts as absent."""
    if version == 0:
        return {
            "ConditionExpression": "attribute_not_exists(pk) OR expires_at <= :now",
            "ExpressionAttributeValues": {":now": number(now)},
        }
    return {
        "ConditionExpression": f"version = :version AND {UNEXPIRED}",
        "ExpressionAttributeValues": {":now": number(now), ":version": number(version)},
    }


def overwrite(item: Item, token: str) -> dict[str, Any]:
    """Arguments of an ``UpdateItem`` that replaces whatever is stored and counts its version on."""
    values = attributes(item, token)
    key = {name: values.pop(name) for name in ("pk", "sk")}
    del values["version"]
    absent = [name for name in _SPARSE if name not in values]
    assignments = [f"#{name} = :{name}" for name in values]
    assignments.append("#version = if_not_exists(#version, :zero) + :one")
    expression = "SET " + ", ".join(assignments)
    if absent:
        expression += " REMOVE " + ", ".join(f"#{name}" for name in absent)
    return {
        "Key": key,
        "UpdateExpression": expression,
        "ExpressionAttributeNames": {f"#{name}": name for name in (*values, *absent, "version")},
        "ExpressionAttributeValues": {
            ":zero": number(0),
            ":one": number(1),
            **{f":{name}": value for name, value in values.items()},
        },
    }


def _float(value: Mapping[str, str] | None) -> float | None:
    return None if value is None else float(value["N"])
