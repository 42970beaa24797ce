"""The agent's zipapp of this release, kept in the object store under its hash."""

from __future__ import annotations

import hashlib
import re
from functools import cache

from stix.agent.archive import archive_bytes
from stix.application.world import World
from stix.model.errors import NotFoundError
from stix.ports.object_store import ObjectStore

__all__ = ["archive_hash", "archive_url"]

_URL_SECONDS = 900
_HASH = re.compile(r"[0-9a-f]{64}")


@cache
def _built() -> tuple[str, bytes]:
    data = archive_bytes()
    return hashlib.sha256(data).hexdigest(), data


def _key(sha256: str) -> str:
    return f"agent/{sha256}.pyz"


def archive_hash(objects: ObjectStore) -> str:
    """The SHA-256 of this release's archive, stored on first use; new machines are told it."""
    sha256, data = _built()
    if objects.size(_key(sha256)) is None:
        objects.put(_key(sha256), data)
    return sha256


def archive_url(world: World, sha256: str) -> str:
    """A short-lived URL of an archive, also of an earlier release. Raises ``NotFoundError``."""
    if _HASH.fullmatch(sha256) and world.objects.size(_key(sha256)) is not None:
        return world.objects.sign_get(_key(sha256), expires_seconds=_URL_SECONDS).url
    if sha256 == archive_hash(world.objects):
        return world.objects.sign_get(_key(sha256), expires_seconds=_URL_SECONDS).url
    raise NotFoundError(f"There is no agent {sha256[:12]!r}.", code="no_archive")
