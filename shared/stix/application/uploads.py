"""Local files on their way to the nodes: by content, so that nothing is sent twice."""

from __future__ import annotations

from typing import Any

from stix.api.v1 import FileMount, UploadRequest
from stix.application.world import World
from stix.model.errors import InvalidInputError

__all__ = ["mount_source", "upload_key", "upload_target"]

_URL_SECONDS = 3600


def upload_key(workspace: str, sha256: str) -> str:
    return f"uploads/{workspace}/{sha256}"


def upload_target(world: World, workspace: str, request: UploadRequest) -> dict[str, Any]:
    """The body of ``UploadTarget``: a signed URL, or none where that content is stored already."""
    key = upload_key(workspace, request.sha256)
    if world.objects.size(key) == request.size:
        return {"key": key, "url": None}
    signed = world.objects.sign_put(
        key, size=request.size, sha256=request.sha256, expires_seconds=_URL_SECONDS
    )
    return {"key": key, "url": signed.url, "method": signed.method, "headers": dict(signed.headers)}


def mount_source(world: World, workspace: str, mount: FileMount) -> dict[str, Any]:
    """How an agent finds an uploaded file or directory. Raises ``InvalidInputError`` if it never arrived."""
    key = upload_key(workspace, mount.sha256)
    if world.objects.size(key) != mount.size:
        raise InvalidInputError(
            f"The upload of {mount.dst!r} ({mount.sha256[:12]}) is not in the store.",
            hint="Send it to the URL that POST /v1/uploads gives, then submit again.",
            code="upload_missing",
        )
    return {"dst": mount.dst, "key": key, "sha256": mount.sha256, "size": mount.size, "kind": mount.kind}
