"""What replicas and runs are made from: the task and its files as they were submitted, kept as a document."""

from __future__ import annotations

import hashlib
import json

from stix.api.v1 import LaunchRequest, TaskRequest
from stix.application.uploads import mount_source
from stix.application.world import World

__all__ = ["keep_request", "read_kept"]


def keep_request(world: World, workspace: str, request: TaskRequest) -> str:
    """Its key, the hash of its content; without secrets. Raises ``InvalidInputError`` for an upload that is
    not there."""
    for mount in filter(None, [request.workdir, *request.file_mounts]):
        mount_source(world, workspace, mount)
    document = request.model_dump(mode="json", include={"task", "workdir", "file_mounts"})
    data = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    key = f"requests/{workspace}/{hashlib.sha256(data).hexdigest()}.json"
    if world.objects.size(key) is None:
        world.objects.put(key, data)
    return key


def read_kept(world: World, request_key: str, secrets_key: str, *, secrets: bool) -> LaunchRequest:
    """The kept request; its secrets only where they are needed."""
    document = json.loads(world.objects.get(request_key))
    values: dict[str, str] = {}
    if secrets_key:
        # Whoever only looks for a place needs their names alone.
        names = document["task"].get("secrets") or {}
        values = world.secrets.get(secrets_key) if secrets else dict.fromkeys(names, "-")
    return LaunchRequest(**document, secrets=values)
