"""Secrets as small objects of a bucket of their own, envelope-encrypted by S3 (SSE-KMS)."""

from __future__ import annotations

import json
from collections.abc import Mapping

from stix.adapters.s3 import S3ObjectStore
from stix.ports.object_store import ObjectNotFoundError

__all__ = ["S3Secrets"]


class S3Secrets:
    """Implements ``Secrets``. The bucket's default encryption holds the key."""

    def __init__(self, bucket: S3ObjectStore):
        self._bucket = bucket

    def put(self, reference: str, values: Mapping[str, str]) -> None:
        self._bucket.put(reference, json.dumps(dict(values)).encode())

    def get(self, reference: str) -> dict[str, str]:
        try:
            values: dict[str, str] = json.loads(self._bucket.get(reference))
        except ObjectNotFoundError:
            raise KeyError(reference) from None
        return values

    def delete(self, reference: str) -> None:
        self._bucket.delete(reference)
