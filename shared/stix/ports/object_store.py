"""Documents: task YAML, plans, log chunks, uploads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["ObjectNotFoundError", "ObjectStore", "SignedUrl"]


class ObjectNotFoundError(Exception):
    """No object under that key."""


@dataclass(frozen=True, slots=True)
class SignedUrl:
    """A URL that carries its own permission. Send exactly ``headers`` with it."""

    url: str
    method: str
    headers: Mapping[str, str] = field(default_factory=dict)


class ObjectStore(Protocol):
    """Keys are ``/``-separated, UTF-8, without ``..``; a put replaces the whole object atomically."""

    def put(self, key: str, data: bytes) -> None: ...

    def get(self, key: str) -> bytes:
        """Raises ``ObjectNotFoundError``."""
        ...

    def size(self, key: str) -> int | None:
        """Bytes, or None where there is no such object."""
        ...

    def delete(self, key: str) -> None:
        """An absent object is success."""
        ...

    def keys(self, prefix: str) -> Iterator[str]:
        """All keys below ``prefix``, in order; pages as it goes."""
        ...

    def sign_get(self, key: str, *, expires_seconds: int) -> SignedUrl:
        """A URL that reads ``key`` (HTTP range requests work)."""
        ...

    def sign_put(self, key: str, *, size: int, sha256: str | None = None, expires_seconds: int) -> SignedUrl:
        """A URL that writes ``key`` once it carries exactly ``size`` bytes and, where given, content of that
        SHA-256 (hex). The store refuses anything else."""
        ...
