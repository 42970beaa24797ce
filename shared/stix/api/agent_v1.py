"""Version 1 of what the agents send. Unknown fields pass: an agent may be newer than its control plane."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Checkpoints", "Commands", "Downloads", "GatewayStatus", "Join", "Logs", "Report", "Secrets"]


class Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class Join(Message):
    """``machine_id`` is the provider's name of the machine, ``rank`` the one it had where it joins again."""

    machine_id: str
    rank: int | None = None
    address: str = ""
    peer_port: int = 0
    facts: dict[str, Any] | None = None


class JobReport(Message):
    id: int
    status: str
    reason: str | None = None
    started_at: float | None = None
    ended_at: float | None = None
    exit_codes: list[int | None] | None = None


class Notice(Message):
    """The cloud is about to take the machine (``preemption``) or may be (``rebalance``); ``at``: when."""

    kind: Literal["preemption", "rebalance"]
    at: float | None = None


class Report(Message):
    """``idle_since`` is None while the node is busy; ``jobs`` are what changed, from the head only."""

    idle_since: float | None = None
    address: str | None = None
    peer_port: int | None = None
    facts: dict[str, Any] | None = None
    jobs: list[JobReport] | None = None
    notice: Notice | None = None


class Commands(Message):
    """``after`` acknowledges; the versions are those that the agent has, ``gateway`` and
    ``tunnels`` name what it was told of these."""

    after: int | None = None
    wait: bool | None = None
    peers_version: int | None = None
    settings_version: int | None = None
    follow_version: int | None = None
    access_version: int | None = None
    gateway: str | None = None
    tunnels: str | None = None


class GatewayStatus(Message):
    """What ``status.json`` of a node's gateway says."""

    status: dict[str, Any]


class Chunk(Message):
    job: int
    rank: int
    n: int
    size: int


class LogEnd(Message):
    job: int
    rank: int
    chunks: int
    bytes: dict[str, int]
    sha256: dict[str, str]


class Logs(Message):
    """Chunks that are in the object store, chunks that want a URL, logs that are complete."""

    uploaded: list[Chunk] | None = None
    wanted: list[Chunk] | None = None
    finished: list[LogEnd] | None = None


class Downloads(Message):
    keys: list[str] | None = None


class CheckpointChunk(Message):
    """Content of that SHA-256 and size."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: int


class CheckpointCommit(CheckpointChunk):
    """A manifest that is stored, ``done``: the seconds of work behind it; ``dropped``: chunks that only the
    one before it named."""

    done: float = 0.0
    files: int = 0
    bytes: int = 0
    dropped: list[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] | None = None


class Checkpoints(Message):
    """Of one rank of a managed job's run: restore, chunks to get and to put, a manifest to put and commit."""

    job: int
    rank: int
    restore: bool | None = None
    get: list[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] | None = None
    put: list[CheckpointChunk] | None = None
    manifest: CheckpointChunk | None = None
    commit: CheckpointCommit | None = None


class Secrets(Message):
    job: int
