"""Small files that are either the old one or the new one, never half of it.

The agent's module of the same name is not used: machines have that one under another package's name.
"""

from __future__ import annotations

import json
import os
from typing import Any, Dict, Optional

Json = Dict[str, Any]


def write_text(path: str, text: str, mode: int = 0o600) -> None:
    temporary = f"{path}.new"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with open(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
    os.replace(temporary, path)


def write_json(path: str, value: Any) -> None:
    write_text(path, json.dumps(value, separators=(",", ":")))


def read_json(path: str) -> Optional[Json]:
    """None when the file is absent or damaged."""
    try:
        with open(path, encoding="utf-8") as stream:
            value = json.load(stream)
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
