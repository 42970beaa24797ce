"""The agent's config file."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Tuple

from .tunables import Tunables


class ConfigError(Exception):
    """The config file cannot be used; the message names the field and the fix."""


@dataclass(frozen=True)
class AgentConfig:
    """What the machine's provider tells its agent.

    Attributes:
        api_url: base URL of the control plane, or empty when ``api_url_file`` names a file that holds it.
        allow_absolute_mounts: the machine is the node's alone: files may go anywhere, and root may install a
            container engine.
        confine: cgroup files that every job's process writes its pid into before it runs the job's script.
        shutdown_command: run when the node must end and exiting is not enough (real machines).
        cloud, metadata_url: where the machine runs, and where its cloud tells it what is about to happen.
        give_up_seconds: a machine that could not join for so long after its start ends itself; 0 for never.
        watch_logins: people's terminals count as activity (for ``wait_for: jobs_and_ssh``).
    """

    join_token: str
    machine_id: str
    state_dir: str
    home_dir: str
    api_url: str = ""
    api_url_file: str = ""
    address: str = "127.0.0.1"
    peer_port: int = 0
    cpus: Optional[float] = None
    memory_gib: Optional[float] = None
    gpus: Optional[Tuple[Dict[str, Any], ...]] = None
    limits: Dict[str, str] = field(default_factory=dict)
    allow_absolute_mounts: bool = False
    confine: Tuple[str, ...] = ()
    shutdown_command: Tuple[str, ...] = ()
    watch_logins: bool = False
    cloud: str = ""
    metadata_url: str = ""
    give_up_seconds: float = 0.0
    tunables: Tunables = field(default_factory=Tunables)

    def current_api_url(self) -> str:
        """The URL as of now; the file wins, because an embedded server may have moved."""
        if self.api_url_file:
            try:
                with open(self.api_url_file, encoding="utf-8") as stream:
                    written = stream.read().strip()
            except OSError:
                written = ""
            if written:
                return written.rstrip("/")
        return self.api_url.rstrip("/")


def load_config(path: str) -> AgentConfig:
    """Raises ConfigError."""
    try:
        with open(path, encoding="utf-8") as stream:
            raw = json.load(stream)
    except (OSError, ValueError) as exc:
        raise ConfigError(
            f"The agent's config {path} cannot be read: {exc}. Write it as one JSON object."
        ) from exc
    if not isinstance(raw, dict):
        raise ConfigError(f"The agent's config {path} holds {type(raw).__name__}, not a JSON object.")
    for name in ("join_token", "machine_id", "state_dir", "home_dir"):
        if not isinstance(raw.get(name), str) or not raw[name]:
            raise ConfigError(f"The agent's config {path} needs {name!r} as a non-empty string.")
    if not raw.get("api_url") and not raw.get("api_url_file"):
        raise ConfigError(f"The agent's config {path} needs 'api_url' or 'api_url_file'.")
    gpus: Optional[List[Dict[str, Any]]] = raw.get("gpus")
    return AgentConfig(
        join_token=raw["join_token"],
        machine_id=raw["machine_id"],
        state_dir=os.path.abspath(raw["state_dir"]),
        home_dir=os.path.abspath(raw["home_dir"]),
        api_url=raw.get("api_url") or "",
        api_url_file=raw.get("api_url_file") or "",
        address=raw.get("address") or "127.0.0.1",
        peer_port=int(raw.get("peer_port") or 0),
        cpus=raw.get("cpus"),
        memory_gib=raw.get("memory_gib"),
        gpus=None if gpus is None else tuple(gpus),
        limits=dict(raw.get("limits") or {}),
        allow_absolute_mounts=bool(raw.get("allow_absolute_mounts", False)),
        confine=tuple(raw.get("confine") or ()),
        shutdown_command=tuple(raw.get("shutdown_command") or ()),
        watch_logins=bool(raw.get("watch_logins", False)),
        cloud=raw.get("cloud") or "",
        metadata_url=raw.get("metadata_url") or "",
        give_up_seconds=float(raw.get("give_up_seconds") or 0.0),
        tunables=Tunables.from_mapping(raw.get("tunables") or {}),
    )
