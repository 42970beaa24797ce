"""Small files that are either the old one or the new one, never half of it."""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any, Dict, Optional

Json = Dict[str, Any]


def write_atomically(path: str, data: bytes, mode: int = 0o600, durable: bool = False) -> None:
    """Replaces ``path``; ``durable`` also survives a power loss."""
    temporary = path + ".new"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(temporary, path)


def write_json(path: str, value: Any, durable: bool = False) -> None:
    write_atomically(path, json.dumps(value, separators=(",", ":")).encode(), durable=durable)


def read_json(path: str) -> Optional[Json]:
    """None when the file is absent or damaged."""
    try:
        with open(path, encoding="utf-8") as stream:
            value = json.load(stream)
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def remove_quietly(path: str) -> None:
    """An absent file is success."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def file_size(path: str) -> int:
    """0 when the file is absent."""
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
