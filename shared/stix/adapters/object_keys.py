"""Which object keys every store takes."""

from __future__ import annotations

__all__ = ["KEY_BYTES", "LONGEST_EXPIRY", "check_key", "check_prefix", "check_signing"]

KEY_BYTES = 1000
"""Most bytes of a key; S3 takes 1,024."""
LONGEST_EXPIRY = 7 * 24 * 3600
"""Most seconds that a signed URL is valid: S3's own limit."""
LARGEST_PUT = 5 * 1024**3
"""Most bytes of one put: S3's own limit."""

_SEGMENT_BYTES = 255


def check_key(key: str) -> None:
    """Raises ``ValueError`` for a key that is not a plain relative path of ``/``-separated names."""
    segments = key.split("/")
    if any(segment in ("", ".", "..") for segment in segments):
        raise ValueError(
            f"object key {key[:80]!r} must be names separated by single '/', without '.' and '..'"
        )
    _check_characters(key)
    if len(key.encode()) > KEY_BYTES or any(len(segment.encode()) > _SEGMENT_BYTES for segment in segments):
        raise ValueError(
            f"object key {key[:80]!r}... is too long: at most {KEY_BYTES} bytes, {_SEGMENT_BYTES} a name"
        )


def check_prefix(prefix: str) -> None:
    """Raises ``ValueError`` for a prefix that no key can begin with; the empty one is every key's."""
    if prefix:
        check_key(prefix.removesuffix("/"))


def check_signing(key: str, expires_seconds: int, size: int = 0, sha256: str | None = None) -> None:
    """Raises ``ValueError`` for what no signed URL can promise."""
    check_key(key)
    if not 1 <= expires_seconds <= LONGEST_EXPIRY:
        raise ValueError(f"expires_seconds {expires_seconds} must be between 1 and {LONGEST_EXPIRY}")
    if not 0 <= size <= LARGEST_PUT:
        raise ValueError(f"size {size} must be between 0 and {LARGEST_PUT} bytes")
    if sha256 is not None and (len(sha256) != 64 or set(sha256) - set("0123456789abcdef")):
        raise ValueError(f"sha256 {sha256!r} must be 64 lower-case hexadecimal digits")


def _check_characters(key: str) -> None:
    if any(character < " " or character in "\\\x7f" for character in key):
        raise ValueError(f"object key {key[:80]!r} must not hold backslashes or control characters")
