"""What the control plane wants of the node, and when the node must act on it alone."""

from __future__ import annotations

import threading
from typing import Any, Callable, List, Optional

from .files import Json, read_json, write_json


class Settings:
    """The last settings, kept on disk: the dead man's switch must work after a restart without a network."""

    def __init__(self, path: str, on_hosts: Callable[[int, List[Any]], None]) -> None:
        self._path = path
        self._on_hosts = on_hosts
        self._lock = threading.Lock()
        kept = read_json(path) or {}
        self.version = int(kept.get("version", 0))
        self.values: Json = kept.get("values") or {}

    def update(self, version: int, values: Json) -> None:
        with self._lock:
            self.version, self.values = version, values
            write_json(self._path, {"version": version, "values": values}, durable=True)
        if values.get("hosts"):
            self._on_hosts(version, values["hosts"])

    @property
    def wanted(self) -> str:
        return str(self.values.get("wanted") or "UP")

    @property
    def counts_logins(self) -> bool:
        return bool((self.values.get("autostop") or {}).get("wait_for") == "jobs_and_ssh")


def must_end_alone(settings: Json, silent_seconds: float, idle_seconds: Optional[float]) -> bool:
    """The dead man's switch: nobody has answered for long, and the node has been idle longer than it may.

    ``idle_seconds`` is None while the node is busy. Without an autostop the node never ends by itself.
    """
    autostop = settings.get("autostop")
    limit = settings.get("dead_man_seconds")
    if not autostop or limit is None or idle_seconds is None:
        return False
    return silent_seconds >= float(limit) and idle_seconds >= float(autostop["idle_minutes"]) * 60
