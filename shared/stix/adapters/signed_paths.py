"""Signed URLs of the embedded runtime: a permission for one object, carried by its own link."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote, urlencode

from stix.adapters.object_keys import check_key
from stix.model.errors import ForbiddenError

__all__ = ["PATH_PREFIX", "Permission", "UrlSigner"]

PATH_PREFIX = "/objects/"

_FIELDS = frozenset({"method", "expires", "size", "sha256", "signature"})


@dataclass(frozen=True, slots=True)
class Permission:
    """What a signed URL allows: ``method`` on ``key`` until ``expires`` (epoch seconds).

    For a PUT the content has exactly ``size`` bytes and, where given, this SHA-256 (hex).
    """

    method: str
    key: str
    expires: int
    size: int | None = None
    sha256: str | None = None


class UrlSigner:
    """Makes and checks the path and query of signed URLs (HMAC-SHA-256 over every part of the permission)."""

    def __init__(self, signing_key: bytes):
        if len(signing_key) < 32:
            raise ValueError(f"the signing key has {len(signing_key)} bytes; at least 32 are needed")
        self._signing_key = signing_key

    def target(self, permission: Permission) -> str:
        """Path and query, percent-encoded."""
        fields = {"method": permission.method, "expires": str(permission.expires)}
        if permission.size is not None:
            fields["size"] = str(permission.size)
        if permission.sha256 is not None:
            fields["sha256"] = permission.sha256
        fields["signature"] = self._signature(permission)
        return f"{PATH_PREFIX}{quote(permission.key)}?{urlencode(fields)}"

    def check(self, method: str, path: str, query: str, now: float) -> Permission:
        """The permission that a request carries; ``path`` and ``query`` as they came, percent-encoded.

        Raises ``ForbiddenError`` with code ``signed_url_expired`` or ``signed_url_invalid``.
        """
        try:
            permission, signature = _parse(path, query)
        except ValueError as exc:
            raise _invalid(f"The link is not one of ours: {exc}.") from exc
        if not hmac.compare_digest(self._signature(permission).encode(), signature.encode()):
            raise _invalid("The link's signature does not match: it was changed, or signed with another key.")
        if method != permission.method:
            raise _invalid(f"The link allows {permission.method}, not {method}.")
        if now >= permission.expires:
            raise ForbiddenError(
                f"The link to {permission.key} expired {now - permission.expires:.0f} seconds ago.",
                hint="Ask for a new one.",
                code="signed_url_expired",
            )
        return permission

    def _signature(self, permission: Permission) -> str:
        # No part holds a line break, so that no two permissions have the same text.
        text = "\n".join(
            [
                "stix-object-1",
                permission.method,
                permission.key,
                str(permission.expires),
                "" if permission.size is None else str(permission.size),
                permission.sha256 or "",
            ]
        )
        return hmac.new(self._signing_key, text.encode(), hashlib.sha256).hexdigest()


def _parse(path: str, query: str) -> tuple[Permission, str]:
    if not path.startswith(PATH_PREFIX):
        raise ValueError(f"its path does not begin with {PATH_PREFIX}")
    key = unquote(path.removeprefix(PATH_PREFIX), errors="strict")
    check_key(key)
    pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True, max_num_fields=len(_FIELDS))
    fields = dict(pairs)
    if len(fields) != len(pairs) or not {"method", "expires", "signature"} <= set(fields) <= _FIELDS:
        raise ValueError("its query holds other fields than a signed one")
    size = fields.get("size")
    sha256 = fields.get("sha256")
    if fields["method"] == "PUT" and size is None:
        raise ValueError("it allows a PUT of no certain size")
    return (
        Permission(
            fields["method"], key, int(fields["expires"]), None if size is None else int(size), sha256
        ),
        fields["signature"],
    )


def _invalid(message: str) -> ForbiddenError:
    return ForbiddenError(message, hint="Ask for a new one.", code="signed_url_invalid")
