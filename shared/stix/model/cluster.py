"""A cluster: nodes that run jobs, made by one launch."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from stix.model.autostop import Autostop
from stix.model.offer import Offer
from stix.model.record import Record
from stix.model.status import ClusterStatus, IntentStatus, NodeStatus, Wanted

__all__ = ["Attempt", "Cluster", "Heartbeat", "Intent", "Node"]


class Attempt(BaseModel):
    """One try to create the machines somewhere, kept for people (``stix status -v``)."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    at: float
    place: str
    instance_type: str
    outcome: str
    reason: str = ""


class Cluster(Record):
    """``attempt`` is the cursor over the ranked offers and the number of the intent; ``join_task_token``: the
    state machine task that waits for the last node; ``failures``: runs in a row that ended badly."""

    kind: ClassVar[str] = "cluster"

    id: str
    name: str
    status: ClusterStatus = ClusterStatus.INIT
    reason: str = ""
    since: float
    wanted: Wanted = Wanted.UP
    created_at: float
    user: str = ""
    num_nodes: int
    requested: dict[str, Any] = {}
    last_use: str = ""
    offer: Offer | None = None
    plan_key: str = ""
    offers: int = 0
    attempt: int = 0
    attempts: tuple[Attempt, ...] = ()
    autostop: Autostop | None = None
    operation_id: str = ""
    join_task_token: str = ""
    cluster_key: str = ""
    peers_version: int = 0
    settings_version: int = 1
    failures: int = 0
    labels: dict[str, str] = {}
    ports: tuple[str, ...] = ()

    @property
    def ended(self) -> bool:
        return self.status is ClusterStatus.TERMINATED


class Node(Record):
    """One machine of a cluster, with its rank. ``token_hash``: SHA-256 of the node's bearer token."""

    kind: ClassVar[str] = "node"

    cluster_id: str
    rank: int
    status: NodeStatus = NodeStatus.PENDING
    reason: str = ""
    since: float
    machine_id: str
    attempt: int
    address: str = ""
    peer_port: int = 0
    token_hash: str = ""
    facts: dict[str, Any] = {}


class Heartbeat(Record):
    """The small item that a report writes; outside every index. ``last_seen`` is the server's time."""

    kind: ClassVar[str] = "heartbeat"

    cluster_id: str
    rank: int
    last_seen: float
    idle_since: float | None = None


class Intent(Record):
    """A creation about to happen, written before the call that costs money.

    ``token`` is the provider's idempotency token and stands in the machines' tags; ``join_hash`` is the
    SHA-256 of the gang's join token.
    """

    kind: ClassVar[str] = "intent"

    cluster_id: str
    attempt: int
    status: IntentStatus = IntentStatus.PENDING
    created_at: float
    token: str
    offer: Offer
    count: int
    join_hash: str
    machine_ids: tuple[str, ...] = ()
    reason: str = ""
