"""Bearer tokens: who calls, and for which workspace. Only hashes are stored."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from stix.application.records import load, node_key
from stix.application.world import World
from stix.model.cluster import Node
from stix.model.status import NodeStatus
from stix.ports.state_store import NOT_IN_PART, Item, Key, StateStore

__all__ = [
    "NodePrincipal",
    "UserPrincipal",
    "authenticate",
    "create_user_token",
    "hash_token",
    "join_token",
    "node_token",
    "read_join_token",
    "same_token",
    "write_user_token",
]

_SYSTEM = "-system-"
_LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class UserPrincipal:
    """A person or a program of theirs."""

    workspace: str
    user: str


@dataclass(frozen=True, slots=True)
class NodePrincipal:
    """An agent; it can do nothing but speak for its node."""

    workspace: str
    cluster_id: str
    rank: int


def hash_token(token: str) -> str:
    """SHA-256, hex. Tokens carry 32 random bytes, so a plain hash is enough."""
    return hashlib.sha256(token.encode()).hexdigest()


def same_token(token: str, stored_hash: str) -> bool:
    return bool(stored_hash) and hmac.compare_digest(hash_token(token), stored_hash)


def _user_key(token: str) -> Key:
    return Key.top(_SYSTEM, "token", hash_token(token))


def create_user_token(world: World, *, token: str, workspace: str, user: str) -> None:
    """Let ``token`` speak for ``user`` in ``workspace``. Idempotent."""
    write_user_token(world.store, token=token, workspace=workspace, user=user, now=world.clock.now())


def write_user_token(store: StateStore, *, token: str, workspace: str, user: str, now: float) -> None:
    """The same with the store alone, for an operator who has only the table. What no key of the table can
    hold is ``_`` in the user's name: jobs are found by it."""
    key = _user_key(token)
    body = {"workspace": workspace, "user": NOT_IN_PART.sub("_", user)[:_LONGEST_NAME]}
    stored = store.get(key)
    if stored is None or dict(stored.body) != body:
        version = 0 if stored is None else stored.version
        store.put(Item(key, body, version=version, created_at=now))


def node_token(workspace: str, cluster_id: str, rank: int, secret: str) -> str:
    """The bearer token of a node: says whose it is, proves it by ``secret``."""
    return f"stixn.{workspace}.{cluster_id}.{rank}.{secret}"


def join_token(workspace: str, cluster_id: str, attempt: int, secret: str) -> str:
    """The token that every machine of one gang joins with."""
    return f"stixj.{workspace}.{cluster_id}.{attempt}.{secret}"


def read_join_token(token: str) -> tuple[str, str, int] | None:
    """(workspace, cluster id, attempt) that a join token claims; the caller must compare its hash."""
    parts = token.split(".")
    if len(parts) != 5 or parts[0] != "stixj" or not parts[3].isdigit():
        return None
    return parts[1], parts[2], int(parts[3])


def authenticate(world: World, token: str) -> UserPrincipal | NodePrincipal | None:
    """Who a bearer token belongs to, None for nobody (unknown, expired, ended node)."""
    if token.startswith("stixn."):
        parts = token.split(".")
        if len(parts) != 5 or not parts[3].isdigit():
            return None
        workspace, cluster_id, rank = parts[1], parts[2], int(parts[3])
        item = world.store.get(node_key(workspace, cluster_id, rank))
        if item is None:
            return None
        node = load(Node, item)
        if node.status is NodeStatus.TERMINATED or not same_token(token, node.token_hash):
            return None
        return NodePrincipal(workspace, cluster_id, rank)
    if not token or len(token) > 512:
        return None
    item = world.store.get(_user_key(token))
    if item is None:
        return None
    return UserPrincipal(str(item.body["workspace"]), str(item.body["user"]))
