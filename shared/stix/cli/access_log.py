"""The last requests of a service, from the access log of a gateway on this machine."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

__all__ = ["last_requests"]

_READ = 1 << 20


def last_requests(path: Path, service: str, count: int) -> list[str]:
    """At most ``count`` lines for people, oldest first, of the log's last megabyte; none without a log."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _READ))
            lines = file.read().splitlines()
    except FileNotFoundError:
        return []
    found: list[str] = []
    for line in reversed(lines):
        if len(found) == count:
            break
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # HAProxy's own words, or the rest of a line
        if isinstance(entry, dict) and entry.get("service") == service:
            found.append(_words(entry))
    return found[::-1]


def _words(entry: dict[str, Any]) -> str:
    def seconds(name: str) -> str:
        return f"{max(0, int(entry.get(name) or 0)) / 1000:.3f} s"

    at = time.strftime("%H:%M:%S", time.localtime(float(entry.get("time") or 0)))
    replica = entry.get("replica") or "-"
    where = "no replica" if replica == "-" else f"replica {replica}"
    waited = f", waited {seconds('waited_ms')}" if int(entry.get("waited_ms") or 0) >= 100 else ""
    ended = "" if entry.get("end") in (None, "", "--") else f", ended {entry['end']}"
    what = f"{entry.get('method', '-')} {entry.get('path', '-')} {entry.get('status', '-')}"
    return f"{at} {what} {where} {seconds('total_ms')}{waited}{ended}"
