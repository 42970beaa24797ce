"""Names, labels and tags: how what the control plane says fits what Google allows.

Labels hold only ``[a-z0-9_-]``, 63 characters of them: what fits is a label, for people and their bills, and
all of it stands, as it was given, in one metadata item.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterable, Mapping

__all__ = [
    "TAGS_ITEM",
    "deployment_label",
    "labels_of",
    "machine_names",
    "network_tag",
    "request_id",
    "tags_of",
    "token_name",
    "token_of",
]

TAGS_ITEM = "stix-tags"
_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
_MACHINE = re.compile(r"stix-([0-9a-f]{32})-\d+")
_MOST_LABELS = 61
"""Google takes 64; three of them are ours."""


def token_name(token: str) -> str:
    """Of all that is made for a gang."""
    return f"stix-{token}"


def machine_names(token: str, count: int) -> list[str]:
    return [f"{token_name(token)}-{index}" for index in range(count)]


def token_of(machine_id: str) -> str:
    """The gang's token, empty for a machine that is not one of ours."""
    found = _MACHINE.fullmatch(machine_id)
    return found[1] if found else ""


def request_id(token: str) -> str:
    """Google's idempotency key must be a UUID; it comes back as the operation's ``clientOperationId``."""
    return str(uuid.UUID(hex=hashlib.sha256(token.encode()).hexdigest()[:32], version=4))


def deployment_label(deployment: str) -> str:
    return (
        deployment if _VALUE.fullmatch(deployment) else hashlib.sha256(deployment.encode()).hexdigest()[:32]
    )


def network_tag(deployment: str) -> str:
    """Of the deployment's machines, and its network's name: at most 63 of ``[a-z0-9-]``."""
    name = f"stix-{deployment}"
    if re.fullmatch(r"[a-z0-9-]{0,48}[a-z0-9]", name):
        return name
    return f"stix-{hashlib.sha256(deployment.encode()).hexdigest()[:16]}"


def labels_of(tags: Mapping[str, str], *, token: str, count: int) -> dict[str, str]:
    fitting = {key: value for key, value in tags.items() if _KEY.fullmatch(key) and _VALUE.fullmatch(value)}
    return {
        **dict(sorted(fitting.items(), key=lambda item: not item[0].startswith("stix-"))[:_MOST_LABELS]),
        "stix-deployment": deployment_label(tags.get("stix-deployment", "")),
        "stix-token": token,
        "stix-size": str(count),
    }


def tags_of(labels: Mapping[str, str], items: Iterable[tuple[str, str]]) -> dict[str, str]:
    """As they were given; a machine without the item has its labels for tags."""
    for key, value in items:
        if key == TAGS_ITEM:
            return {str(name): str(text) for name, text in json.loads(value).items()}
    return dict(labels)
