"""The table's schema, once, as data: for ``CreateTable``, for the stack and for the store. Imports no SDK."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stix.ports.state_store import Key

__all__ = [
    "DUE_INDEX",
    "LIST_INDEX",
    "TTL_ATTRIBUTE",
    "IndexDefinition",
    "TableDefinition",
    "create_table_request",
    "due_partition",
    "key_of",
    "list_partition",
    "partition",
    "table_definition",
]

DUE_INDEX = "due"
LIST_INDEX = "list"
TTL_ATTRIBUTE = "expires_at"


@dataclass(frozen=True, slots=True)
class IndexDefinition:
    """A global secondary index; ``projection`` is ``ALL`` or ``KEYS_ONLY``."""

    name: str
    partition_key: str
    sort_key: str
    projection: str


@dataclass(frozen=True, slots=True)
class TableDefinition:
    """Key schema, the types of all key attributes (``S`` or ``N``), indexes and the TTL attribute."""

    partition_key: str
    sort_key: str
    attributes: dict[str, str]
    indexes: tuple[IndexDefinition, ...]
    ttl_attribute: str


def table_definition() -> TableDefinition:
    return TableDefinition(
        partition_key="pk",
        sort_key="sk",
        attributes={"pk": "S", "sk": "S", "due_pk": "S", "due_at": "N", "list_pk": "S", "list_sk": "S"},
        indexes=(
            # Sparse: only live items carry due_pk, only listed ones list_pk.
            IndexDefinition(DUE_INDEX, "due_pk", "due_at", "KEYS_ONLY"),
            IndexDefinition(LIST_INDEX, "list_pk", "list_sk", "ALL"),
        ),
        ttl_attribute=TTL_ATTRIBUTE,
    )


def create_table_request(table_name: str) -> dict[str, Any]:
    """Arguments of DynamoDB's ``CreateTable``: on demand, both indexes. TTL is a call of its own."""
    definition = table_definition()
    return {
        "TableName": table_name,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [
            {"AttributeName": name, "AttributeType": kind} for name, kind in definition.attributes.items()
        ],
        "KeySchema": _key_schema(definition.partition_key, definition.sort_key),
        "GlobalSecondaryIndexes": [
            {
                "IndexName": index.name,
                "KeySchema": _key_schema(index.partition_key, index.sort_key),
                "Projection": {"ProjectionType": index.projection},
            }
            for index in definition.indexes
        ],
    }


def partition(workspace: str, kind: str, parent: str) -> str:
    return f"{workspace}#{kind}#{parent}"


def key_of(pk: str, sk: str) -> Key:
    workspace, kind, parent = pk.split("#")
    return Key(workspace, kind, parent, sk)


def due_partition(kind: str, shard: int) -> str:
    return f"{kind}#{shard:02d}"


def list_partition(workspace: str, kind: str) -> str:
    return f"{workspace}#{kind}"


def _key_schema(partition_key: str, sort_key: str) -> list[dict[str, str]]:
    return [
        {"AttributeName": partition_key, "KeyType": "HASH"},
        {"AttributeName": sort_key, "KeyType": "RANGE"},
    ]
