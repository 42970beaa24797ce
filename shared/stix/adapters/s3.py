"""The object store of the deployed control plane: one S3 bucket."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stix.adapters.aws_client import create_client, error_code, translated
from stix.adapters.object_keys import check_key, check_prefix, check_signing
from stix.ports.object_store import ObjectNotFoundError, SignedUrl

__all__ = ["S3ObjectStore", "create_s3_client"]

_NOT_FOUND = frozenset({"404", "NoSuchKey", "NotFound"})


def create_s3_client(**options: Any) -> Any:
    """A client whose signed URLs name the bucket's own region and bind exactly the headers that we give."""
    return create_client(
        "s3",
        **{
            "signature_version": "s3v4",
            # Signed for the global endpoint, a URL of a new bucket is answered with a redirect.
            "s3": {"addressing_style": "virtual"},
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
            **options,
        },
    )


class S3ObjectStore:
    """``ObjectStore`` over a bucket; a client of your own is made as ``create_s3_client`` makes it."""

    def __init__(self, bucket: str, client: Any = None):
        self._bucket = bucket
        self._client = create_s3_client() if client is None else client
        self._what = f"bucket {bucket}"

    def put(self, key: str, data: bytes) -> None:
        check_key(key)
        with translated(self._what):
            self._client.put_object(Bucket=self._bucket, Key=key, Body=data)

    def get(self, key: str) -> bytes:
        check_key(key)
        with translated(self._what), _absence(key):
            content: bytes = self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        return content

    def size(self, key: str) -> int | None:
        check_key(key)
        try:
            with translated(self._what), _absence(key):
                return int(self._client.head_object(Bucket=self._bucket, Key=key)["ContentLength"])
        except ObjectNotFoundError:
            return None

    def delete(self, key: str) -> None:
        check_key(key)
        with translated(self._what):
            self._client.delete_object(Bucket=self._bucket, Key=key)

    def keys(self, prefix: str) -> Iterator[str]:
        check_prefix(prefix)
        with translated(self._what):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
            for page in pages:
                for entry in page.get("Contents", []):
                    yield entry["Key"]

    def sign_get(self, key: str, *, expires_seconds: int) -> SignedUrl:
        check_signing(key, expires_seconds)
        return SignedUrl(self._sign("get_object", {"Key": key}, expires_seconds), "GET")

    def sign_put(self, key: str, *, size: int, sha256: str | None = None, expires_seconds: int) -> SignedUrl:
        check_signing(key, expires_seconds, size, sha256)
        arguments: dict[str, Any] = {"Key": key, "ContentLength": size}
        headers = {"Content-Length": str(size)}
        if sha256 is not None:
            checksum = base64.b64encode(bytes.fromhex(sha256)).decode()
            arguments["ChecksumSHA256"] = headers["x-amz-checksum-sha256"] = checksum
        return SignedUrl(self._sign("put_object", arguments, expires_seconds), "PUT", headers)

    def _sign(self, operation: str, arguments: dict[str, Any], expires_seconds: int) -> str:
        with translated(self._what):
            url: str = self._client.generate_presigned_url(
                operation, Params={"Bucket": self._bucket, **arguments}, ExpiresIn=expires_seconds
            )
        return url


@contextmanager
def _absence(key: str) -> Iterator[None]:
    import botocore.exceptions

    try:
        yield
    except botocore.exceptions.ClientError as exc:
        if error_code(exc) in _NOT_FOUND:
            raise ObjectNotFoundError(key) from exc
        raise
