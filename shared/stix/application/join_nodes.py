"""Nodes come up: agents join, the waiting run hears of the last one, the jobs are handed over."""

from __future__ import annotations

from typing import Any

from stix.application.machine_addresses import record_addresses
from stix.application.nudge_job import nudge
from stix.application.offering_health import record_success
from stix.application.operations import finish, note
from stix.application.race import knock
from stix.application.records import (
    child_records,
    cluster_key,
    get_cluster,
    intent_key,
    job_key,
    load,
    node_key,
    put,
    unfinished,
    update,
)
from stix.application.tokens import hash_token, node_token, read_join_token, same_token
from stix.application.wakes import wake_nodes
from stix.application.world import World
from stix.model.cluster import Cluster, Heartbeat, Intent, Node
from stix.model.errors import ConflictError, NotFoundError, StixError, UnauthorizedError
from stix.model.job import Job
from stix.model.status import ClusterStatus, IntentStatus, JobStatus, NodeStatus, OperationStatus, Wanted
from stix.ports.state_store import VersionConflictError
from stix.ports.surroundings import Event
from stix.ports.workflows import TaskTokenError

__all__ = [
    "GoneError",
    "await_join",
    "fail_waiting",
    "hand_over",
    "join",
    "tell_if_complete",
    "tell_peers",
]


class GoneError(StixError):
    """The cluster is gone or going: the machine may end itself."""

    http_status = 410
    default_code = "cluster_gone"


def join(world: World, token: str, request: dict[str, Any]) -> dict[str, Any]:
    """An agent says that its machine is up: who it is and its node token.

    The join token names the gang; the machine's id, which only the provider's answer made known, gives the
    rank. Joining again rotates the node token. Raises ``UnauthorizedError``, ``GoneError``, and
    ``ConflictError`` (``not_ready``) while the provider's answer is not recorded yet.
    """
    claim = read_join_token(token)
    if claim is None:
        raise UnauthorizedError("This is not a join token.")
    workspace, cluster_id, attempt = claim
    item = world.store.get(intent_key(workspace, cluster_id, attempt))
    if item is None:
        raise UnauthorizedError("The join token is unknown here.")
    intent = load(Intent, item)
    if not same_token(token, intent.join_hash):
        raise UnauthorizedError("The join token is wrong.")
    if intent.status in (IntentStatus.ENDED, IntentStatus.REFUSED):
        raise GoneError("The attempt that made this machine was undone.")
    cluster = get_cluster(world, workspace, cluster_id)
    if cluster.ended or cluster.wanted is Wanted.ABSENT:
        raise GoneError(f"Cluster {cluster.name} is gone.")
    machine_id = str(request["machine_id"])
    if machine_id in intent.dropped:
        raise GoneError("Another machine has its rank.")
    # Of a gang that lost some of its machines the others stay with an earlier attempt.
    if intent.attempt != cluster.attempt and intent.status is not IntentStatus.CREATED:
        if cluster.raced or cluster.status is not ClusterStatus.INIT:
            raise GoneError("Another gang came first.")
        knock(world, intent, machine_id)
        raise ConflictError("The race is not decided yet.", hint="Join again shortly.", code="not_ready")
    if machine_id not in intent.machine_ids:
        raise ConflictError("The machine is not recorded yet.", hint="Join again shortly.", code="not_ready")
    rank = intent.own_ranks[intent.machine_ids.index(machine_id)]
    if (had := request.get("rank")) is not None and had != rank:
        rank = _take_back(world, intent, rank, had)
    bearer = node_token(workspace, cluster_id, rank, world.ids.secret())
    _write_joined(world, cluster, rank, machine_id, bearer, request)
    tell_if_complete(world, workspace, cluster_id)
    offer = intent.offer
    return {
        "node_token": bearer,
        "cluster_id": cluster_id,
        "cluster_name": cluster.name,
        "rank": rank,
        "num_nodes": cluster.num_nodes,
        "cluster_key": cluster.cluster_key,
        "cloud": offer.cloud,
        "region": offer.region,
        "zone": offer.zone,
        "spot": offer.spot,
        "user": cluster.user,
        "workspace": workspace,
        "report_seconds": world.limits.report_seconds,
        "poll_seconds": world.limits.poll_seconds,
        **({"wake_url": world.wake_url} if world.wake_url else {}),
    }


def _take_back(world: World, intent: Intent, given: int, had: int) -> int:
    """The rank for a machine that had another one: a rebuild knows the machines of a gang, not their order.

    It changes places with the machine that was given its rank, unless that one has joined.
    """
    keys = [node_key(intent.workspace, intent.cluster_id, rank) for rank in (given, had)]
    items = world.store.get_many(keys) if had in intent.own_ranks else [None]
    nodes = [load(Node, item) for item in items if item is not None]
    if len(nodes) != len(keys) or nodes[1].token_hash:
        return given
    machine_ids = list(intent.machine_ids)
    here, there = (intent.own_ranks.index(rank) for rank in (given, had))
    machine_ids[here], machine_ids[there] = machine_ids[there], machine_ids[here]
    swapped = [
        node.changed(machine_id=other.machine_id) for node, other in zip(nodes, reversed(nodes), strict=True)
    ]
    try:
        world.store.transact([put(intent.changed(machine_ids=tuple(machine_ids))), *map(put, swapped)])
    except VersionConflictError:
        raise ConflictError("Another machine joins.", hint="Join again shortly.", code="not_ready") from None
    return had


def _write_joined(
    world: World, cluster: Cluster, rank: int, machine_id: str, bearer: str, request: dict[str, Any]
) -> None:
    now = world.clock.now()

    def change(node: Node) -> Node | None:
        if node.machine_id != machine_id:
            raise ConflictError("The machine is not recorded yet.", hint="Join again.", code="not_ready")
        return node.changed(
            status=NodeStatus.UP,
            reason="",
            since=now if node.status is not NodeStatus.UP else node.since,
            address=str(request.get("address", "")),
            peer_port=int(request.get("peer_port", 0)),
            facts=dict(request.get("facts") or {}),
            token_hash=hash_token(bearer),
            due_at=now + world.limits.lost_seconds,
        )

    node = update(world, Node, node_key(cluster.workspace, cluster.id, rank), change)
    if node is None:
        raise ConflictError("The machine is not recorded yet.", hint="Join again shortly.", code="not_ready")
    keep_until = now + world.limits.retention_seconds
    beat = Heartbeat(
        workspace=cluster.workspace, cluster_id=cluster.id, rank=rank, last_seen=now, expires_at=keep_until
    )
    world.store.transact([put(beat, unconditional=True)])
    tell_peers(world, node)


def tell_peers(world: World, node: Node) -> None:
    """The node's address is new: every agent of the cluster is to hear of it. The head's is kept with the
    cluster too, for lists of clusters."""

    def change(cluster: Cluster) -> Cluster:
        head = node.address if node.rank == 0 else cluster.head_address
        return cluster.changed(peers_version=cluster.peers_version + 1, head_address=head)

    cluster = update(world, Cluster, cluster_key(node.workspace, node.cluster_id), change)
    if cluster is not None:
        wake_nodes(world, cluster, all_ranks=True)
        if cluster.hosts:
            nudge(world, cluster.workspace, cluster.owner)  # Its job group knows it by the old address.


def tell_if_complete(world: World, workspace: str, cluster_id: str) -> None:
    """Answer the waiting task once every node is up. ``await_join`` looks the other way round, so that of the
    last join and the start of the waiting one sees the other."""
    cluster = get_cluster(world, workspace, cluster_id)
    nodes = child_records(world, Node, workspace, cluster_id)
    up = sum(node.status is NodeStatus.UP for node in nodes)
    if cluster.status is ClusterStatus.INIT:
        note(world, workspace, cluster.operation_id, f"{up} of {cluster.num_nodes} nodes are up.")
    if up == cluster.num_nodes and cluster.join_task_token:
        _answer(world, cluster.join_task_token)


def _answer(world: World, token: str) -> None:
    try:
        world.workflows.succeed(token, {"joined": True})
    except TaskTokenError:
        return  # answered before, or timed out: that run has moved on


def fail_waiting(world: World, cluster: Cluster, cause: str) -> None:
    """End the wait of a run whose cluster is wanted otherwise now."""
    if not cluster.join_task_token:
        return
    try:
        world.workflows.fail(cluster.join_task_token, "NodeLostError", cause)
    except TaskTokenError:
        return  # it is not waiting any more


def await_join(world: World, workspace: str, cluster_id: str, token: str) -> dict[str, Any]:
    """Keep the task's token for the last node to join."""

    def change(cluster: Cluster) -> Cluster | None:
        return None if cluster.ended else cluster.changed(join_task_token=token)

    cluster = update(world, Cluster, cluster_key(workspace, cluster_id), change)
    if cluster is None or cluster.wanted is not Wanted.UP:
        fail_waiting(
            world, get_cluster(world, workspace, cluster_id).changed(join_task_token=token), "not wanted"
        )
        return {}
    tell_if_complete(world, workspace, cluster_id)
    return {}


def hand_over(world: World, workspace: str, cluster_id: str) -> dict[str, Any]:
    """Every node joined: the cluster is UP, its jobs are PENDING, its operation has succeeded. Idempotent."""
    now = world.clock.now()

    def change(cluster: Cluster) -> Cluster | None:
        if cluster.wanted is not Wanted.UP or cluster.ended:
            return None
        return cluster.changed(
            status=ClusterStatus.UP,
            reason="",
            since=now if cluster.status is not ClusterStatus.UP else cluster.since,
            failures=0,
            join_task_token="",
            replacing=(),
            due_at=now + (1.0 if cluster.racing or cluster.dropping else world.limits.lost_seconds),
        )

    cluster = update(world, Cluster, cluster_key(workspace, cluster_id), change)
    if cluster is None:
        raise NotFoundError(f"There is no cluster with the id {cluster_id!r}.")
    if cluster.status is not ClusterStatus.UP:
        return {"outcome": "MOVED"}
    for job in unfinished(child_records(world, Job, workspace, cluster_id)):
        if job.status is JobStatus.INIT:
            update(world, Job, job_key(workspace, cluster_id, job.id), _pending)
    _remember_success(world, cluster)
    record_addresses(world, cluster)
    wake_nodes(world, cluster, all_ranks=True)
    note(world, workspace, cluster.operation_id, f"Cluster {cluster.name} is up.")
    finish(world, workspace, cluster.operation_id, OperationStatus.SUCCEEDED)
    world.events.publish(Event("ClusterCameUp", workspace, cluster_id, now, {"name": cluster.name}))
    if cluster.awaits_hosts:
        nudge(world, workspace, cluster.owner)
    return {"outcome": "UP"}


def _remember_success(world: World, cluster: Cluster) -> None:
    """Where acceptance is only a promise, the nodes that joined are the success."""
    facts = None if cluster.offer is None else world.clouds.get(cluster.offer.cloud)
    if facts is None or not facts.refuses_late:
        return
    item = world.store.get(intent_key(cluster.workspace, cluster.id, cluster.attempt))
    if item is not None:
        intent = load(Intent, item)
        record_success(world, intent.offer, intent.token)


def _pending(job: Job) -> Job | None:
    return job.changed(status=JobStatus.PENDING) if job.status is JobStatus.INIT else None
