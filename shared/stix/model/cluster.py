"""A cluster: nodes that run jobs, made by one launch."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from stix.model.autostop import Autostop
from stix.model.offer import Offer
from stix.model.record import Record
from stix.model.status import ClusterStatus, IntentStatus, NodeStatus, Wanted

__all__ = ["Attempt", "Cluster", "ClusterSummary", "Heartbeat", "Intent", "Lifetime", "Node", "Tombstone"]


class Lifetime(BaseModel):
    """Limits after which a cluster is deleted, busy or not. Seconds; USD. ``delete_after`` counts while it is
    stopped."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    max_lifetime: float | None = None
    delete_after: float | None = None
    max_cost: float | None = None


class Attempt(BaseModel):
    """One try to create the machines somewhere, kept for people (``stix explain``).

    ``outcome``: the code of the refusal, or ``skipped`` for an offer that was passed over because others had
    been refused there; ``until`` is then when it may be asked again. ``price``: USD per machine-hour.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    at: float
    place: str
    instance_type: str
    outcome: str
    reason: str = ""
    spot: bool = False
    price: float = 0.0
    seconds: float = 0.0
    until: float = 0.0


class ClusterSummary(Record):
    """The part of a cluster's item that lists show: read alone, it takes half as long as the whole.

    ``owner``: the managed job it was made for, empty where a person made it.
    """

    kind: ClassVar[str] = "cluster"

    id: str
    name: str
    status: ClusterStatus = ClusterStatus.INIT
    reason: str = ""
    since: float
    created_at: float
    user: str = ""
    owner: str = ""
    num_nodes: int
    last_use: str = ""
    offer: Offer | None = None
    autostop: Autostop | None = None
    head_address: str = ""
    labels: dict[str, str] = {}
    ports: tuple[str, ...] = ()

    @property
    def ended(self) -> bool:
        return self.status is ClusterStatus.TERMINATED


class Cluster(ClusterSummary):
    """``cursor`` points into the ranked offers, ``attempt`` is the number of the next intent.

    ``rounds``: how often all offers were tried (``retry_until_up``); ``insisted``: an offer that was blocked
    was asked all the same; ``busy_since``: since when it waits for the outcome of others. ``boot_until``: by
    when the nodes must have joined. ``join_task_token``: the state machine task that waits for the last node;
    ``failures``: runs in a row that ended badly. ``race``: how many offers are asked at once; ``racing``:
    machines of others may exist beside its own, ``raced``: one of them took over. ``replacing``: the ranks
    that its launch makes anew while the machines of the others stay; ``dropping``: those that were replaced
    may still exist. ``hosts``: names and addresses of the nodes of its job group; ``awaits_hosts``: its
    agents get no commands before those are known.
    """

    wanted: Wanted = Wanted.UP
    requested: dict[str, Any] = {}
    plan_key: str = ""
    offers: int = 0
    attempt: int = 0
    cursor: int = 0
    attempts: tuple[Attempt, ...] = ()
    rounds: int = 0
    insisted: bool = False
    busy_since: float = 0.0
    boot_until: float = 0.0
    retry_until_up: bool = False
    race: int = 1
    racing: bool = False
    raced: bool = False
    replacing: tuple[int, ...] = ()
    dropping: bool = False
    lifetime: Lifetime | None = None
    operation_id: str = ""
    join_task_token: str = ""
    cluster_key: str = ""
    peers_version: int = 0
    hosts: tuple[tuple[str, str], ...] = ()
    awaits_hosts: bool = False
    settings_version: int = 1
    failures: int = 0

    @property
    def machines_wanted(self) -> int:
        """How many machines its launch makes."""
        return len(self.replacing) or self.num_nodes

    @property
    def takes_commands(self) -> bool:
        return self.status is ClusterStatus.UP and not self.awaits_hosts


class Node(Record):
    """One machine of a cluster, with its rank. ``token_hash``: SHA-256 of the node's bearer token.

    ``notice``: what its cloud has said (``preemption``, ``rebalance``), ``notice_at``: when it goes, epoch
    seconds, None where the cloud does not say.
    """

    kind: ClassVar[str] = "node"

    cluster_id: str
    rank: int
    status: NodeStatus = NodeStatus.PENDING
    reason: str = ""
    since: float
    machine_id: str
    attempt: int
    address: str = ""
    public_address: str = ""
    peer_port: int = 0
    token_hash: str = ""
    facts: dict[str, Any] = {}
    notice: str = ""
    notice_at: float | None = None


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
    SHA-256 of the gang's join token; ``ready`` are those of a rival's machines whose agents called.
    ``refusal``: the code of what its provider said after it had accepted; ``never_ran``: then no machine was.
    ``ranks`` are those of ``machine_ids``, in their order, empty for all from 0 on; ``dropped`` are machines
    of it that the cluster has others for: they end.
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
    ready: tuple[str, ...] = ()
    accepted_at: float = 0.0
    reason: str = ""
    refusal: str = ""
    never_ran: bool = False
    ranks: tuple[int, ...] = ()
    dropped: tuple[str, ...] = ()

    @property
    def own_ranks(self) -> tuple[int, ...]:
        return self.ranks or tuple(range(self.count))

    def without(self, ranks: Collection[int]) -> Intent:
        """With the machines of these ranks dropped."""
        own = list(zip(self.own_ranks, self.machine_ids, strict=False))
        kept = [entry for entry in own if entry[0] not in ranks]
        return self.changed(
            ranks=tuple(rank for rank, _ in kept),
            machine_ids=tuple(machine for _, machine in kept),
            dropped=(*self.dropped, *(machine for rank, machine in own if rank in ranks)),
        )


class Tombstone(Record):
    """A creation of a cluster that was forgotten (``down --purge``): watched until its provider has said that
    nothing of it lives. ``failures``: looks in a row that ended badly."""

    kind: ClassVar[str] = "tombstone"

    cluster_id: str
    cluster_name: str
    attempt: int
    created_at: float
    intent: Intent
    failures: int = 0
