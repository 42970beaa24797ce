"""What the agents tell (reports) and are told (commands)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from stix.application.gateway_feed import facts_changed, told_routes, told_view
from stix.application.jobs import job_topic
from stix.application.join_nodes import GoneError, tell_if_complete, tell_peers
from stix.application.nudge_job import nudge
from stix.application.nudge_pool import worker_of
from stix.application.records import (
    child_records,
    cluster_key,
    get_cluster,
    job_key,
    latest_wins,
    load,
    node_key,
    put,
    read_cluster,
    update,
)
from stix.application.ssh_access import told_access
from stix.application.tokens import NodePrincipal
from stix.application.want import autostop_now
from stix.application.world import World
from stix.lifecycle.cluster import autostop_at
from stix.model.cluster import Cluster, Heartbeat, Node
from stix.model.container import container_image
from stix.model.errors import InvalidInputError
from stix.model.gateway_fleet import GATEWAYS_OWNER
from stix.model.job import Job
from stix.model.resources import Resources
from stix.model.status import ClusterStatus, JobStatus, NodeStatus, Wanted
from stix.ports.state_store import Delete, Item, Key
from stix.ports.surroundings import Event, connection_key

__all__ = ["commands", "follow_key", "report", "take_notice"]

_BATCH = 100
_DEAD_MAN_SECONDS = 3600
_NOTICED_SECONDS = 60.0
"""How long after the moment of a notice its owner is still told of it."""


def follow_key(workspace: str, cluster_id: str) -> Key:
    """The item that says which jobs' logs somebody watches, and until when."""
    return Key.top(workspace, "follow", cluster_id)


def report(world: World, who: NodePrincipal, request: Mapping[str, Any]) -> dict[str, Any]:
    """Take an agent's report: one heartbeat write, and a write per thing that changed.

    Raises ``GoneError`` where the cluster has ended.
    """
    now = world.clock.now()
    cluster, node = _cluster_and_node(world, who)
    if cluster.ended:
        raise GoneError(f"Cluster {cluster.name} is gone.")
    idle_since = request.get("idle_since")
    beat = Heartbeat(
        workspace=who.workspace,
        cluster_id=who.cluster_id,
        rank=who.rank,
        last_seen=now,
        idle_since=None if idle_since is None else float(idle_since),
        expires_at=now + world.limits.retention_seconds,
    )
    world.store.transact([put(beat, unconditional=True)])
    if cluster.wanted is Wanted.UP and node is not None:
        _take_facts(world, node, request, now)
    for entry in request.get("jobs") or ():
        _take_job(world, who, entry, now)
    stops_at = autostop_at(cluster.autostop, beat.idle_since) if who.rank == 0 else None
    if (
        stops_at is not None
        and stops_at <= now
        and cluster.status is ClusterStatus.UP
        and cluster.wanted is Wanted.UP
    ):
        autostop_now(world, cluster)
    if request.get("notice"):
        take_notice(world, who.workspace, who.cluster_id, who.rank, request["notice"])
    return {"report_seconds": world.limits.report_seconds, "wanted": str(cluster.wanted)}


def _cluster_and_node(world: World, who: NodePrincipal) -> tuple[Cluster, Node | None]:
    """In one read. Raises ``NotFoundError`` where the cluster is not there."""
    keys = [cluster_key(who.workspace, who.cluster_id), node_key(who.workspace, who.cluster_id, who.rank)]
    cluster, node = world.store.get_many(keys)
    return read_cluster(cluster, who.cluster_id), None if node is None else load(Node, node)


def _take_facts(world: World, seen: Node, request: Mapping[str, Any], now: float) -> None:
    """What the report says of the node itself: it lives, its facts, where its peers reach it. ``seen``: the
    node as it was just read, mostly with all of that."""
    told = {name: request[name] for name in ("facts", "address", "peer_port") if request.get(name)}
    before: list[Node] = []

    def news(node: Node) -> dict[str, Any]:
        changes = {name: value for name, value in told.items() if getattr(node, name) != value}
        if node.status is not NodeStatus.UP:
            changes |= {"status": NodeStatus.UP, "reason": "", "since": now}
        return changes

    def change(node: Node) -> Node | None:
        before[:] = [node]
        changes = news(node)
        return node.changed(**changes) if changes else None

    if not news(seen):
        return
    node = update(world, Node, node_key(seen.workspace, seen.cluster_id, seen.rank), change)
    if node is None or not before:
        return
    if (node.address, node.peer_port) != (before[0].address, before[0].peer_port):
        tell_peers(world, node)
    facts_changed(world, node, before[0])
    if before[0].status is not NodeStatus.UP:
        tell_if_complete(world, node.workspace, node.cluster_id)


def take_notice(world: World, workspace: str, cluster_id: str, rank: int, notice: Mapping[str, Any]) -> None:
    """The node's cloud is about to take it: said on the node and, the first time, on the bus; its owner moves
    on at once. The owner is told each time, as whoever took the notice first may have died before that."""
    now = world.clock.now()
    preempted = notice["kind"] == "preemption"
    words = "its cloud is about to take it" if preempted else "its cloud may take it soon"
    known: list[bool] = []

    def change(node: Node) -> Node | None:
        # A node without a machine waits for another one: what told of it has been replaced meanwhile.
        known[:] = [node.notice in (notice["kind"], "preemption")] if node.machine_id else []
        if known != [False]:
            return None
        return node.changed(reason=words, notice=notice["kind"], notice_at=notice.get("at"))

    update(world, Node, node_key(workspace, cluster_id, rank), change)
    if known == [False]:
        detail = {"rank": rank, "kind": notice["kind"], "at": notice.get("at")}
        world.events.publish(Event("NodeNoticed", workspace, cluster_id, now, detail))
    # A machine that outlives its notice goes on telling of it.
    if known and preempted and now < (notice.get("at") or now) + _NOTICED_SECONDS:
        nudge(world, workspace, get_cluster(world, workspace, cluster_id).owner)


def _take_job(world: World, who: NodePrincipal, entry: Mapping[str, Any], now: float) -> None:
    try:
        job_id, reported = int(entry["id"]), JobStatus(entry["status"])
    except (KeyError, TypeError, ValueError):
        raise InvalidInputError(f"jobs: {entry!r:.200} is not a job's id and status.") from None
    before: list[JobStatus] = []

    def change(job: Job) -> Job | None:
        before[:] = [job.status]
        status = latest_wins(job.status, reported)
        if status is not reported or status is job.status:
            return None
        return job.changed(
            status=status,
            reason=str(entry.get("reason") or ""),
            started_at=entry.get("started_at") or job.started_at,
            ended_at=(entry.get("ended_at") or now) if status.terminal else None,
            exit_codes=tuple(entry.get("exit_codes") or ()),
            failed_rank=entry.get("failed_rank"),
            due_at=None if status.terminal else job.due_at,
            expires_at=now + world.limits.retention_seconds if status.terminal else None,
        )

    job = update(world, Job, job_key(who.workspace, who.cluster_id, job_id), change)
    if job is None or not before:
        return
    if job.status.terminal and job.secrets_key:
        world.secrets.delete(
            job.secrets_key
        )  # also on a repeated report: the first may have been cut off here
    if job.status is before[0]:
        return
    world.wake.wake(job_topic(who.cluster_id, job.id))
    if job.status.terminal or job.status is JobStatus.RUNNING or worker_of(job.owner):
        nudge(world, who.workspace, job.owner)
    if job.status.terminal:
        detail = {"job": job.id, "status": str(job.status), "reason": job.reason}
        world.events.publish(Event("JobEnded", who.workspace, who.cluster_id, now, detail))


def commands(world: World, who: NodePrincipal, request: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """What a node is to do now: (answer, whether it says anything new).

    ``after`` acknowledges: those commands are on the node's disk and are deleted here. Raises ``GoneError``.
    """
    cluster = get_cluster(world, who.workspace, who.cluster_id)
    if cluster.ended:
        raise GoneError(f"Cluster {cluster.name} is gone.")
    now = world.clock.now()
    answer: dict[str, Any] = {
        "commands": [],
        "more": False,
        "peers_version": cluster.peers_version,
        "settings_version": cluster.settings_version,
        "poll_seconds": _poll_seconds(world, who),
    }
    answer["follow_version"], answer["follow"] = _followed(world, cluster, now)
    if request.get("peers_version") != cluster.peers_version:
        nodes = child_records(world, Node, who.workspace, who.cluster_id)
        joined = [node for node in nodes if node.peer_port]
        answer["peers"] = [{"rank": n.rank, "address": n.address, "port": n.peer_port} for n in joined]
    if request.get("settings_version") != cluster.settings_version:
        autostop = None if cluster.autostop is None else cluster.autostop.to_wire()
        wanted = str(cluster.wanted)
        answer["settings"] = {"autostop": autostop, "dead_man_seconds": _DEAD_MAN_SECONDS, "wanted": wanted}
        if cluster.hosts:
            answer["settings"]["hosts"] = cluster.hosts
    if request.get("access_version") is not None:  # An older agent knows nothing of logins.
        answer["access_version"], access = told_access(world, cluster, who.rank, request["access_version"])
        if access is not None:
            answer["access"] = access
    if cluster.owner == GATEWAYS_OWNER:
        answer["gateway"], view = told_view(world, cluster, str(request.get("gateway") or ""))
        if view is not None:
            answer["gateway_view"] = view
    if who.rank == 0 and world.gateways.nodes and request.get("tunnels") is not None:
        answer["tunnels_digest"], tunnels = told_routes(world, cluster, who.rank, str(request["tunnels"]))
        if tunnels is not None:
            answer["tunnels"] = tunnels
    if who.rank == 0 and cluster.takes_commands:
        answer["commands"], answer["more"] = _next_commands(world, cluster, int(request.get("after") or 0))
    told = ("peers", "settings", "access", "gateway_view", "tunnels")
    news = bool(answer["commands"]) or any(name in answer for name in told)
    news |= request.get("follow_version", answer["follow_version"]) != answer["follow_version"]
    return answer, news


def _next_commands(world: World, cluster: Cluster, after: int) -> tuple[list[dict[str, Any]], bool]:
    page = world.store.children(cluster.workspace, "command", cluster.id, limit=_BATCH)
    acknowledged = [item for item in page.items if int(item.key.id) <= after]
    if acknowledged:
        world.store.transact([Delete(item.key) for item in acknowledged])
    fresh = [item for item in page.items if int(item.key.id) > after]
    if not fresh and page.next is not None:
        return [], True
    keys = [
        job_key(cluster.workspace, cluster.id, int(i.body["job_id"]))
        for i in fresh
        if i.body["type"] == "run"
    ]
    jobs = {int(item.body["id"]): load(Job, item) for item in world.store.get_many(keys) if item is not None}
    built = [_command(world, cluster, item, jobs) for item in fresh]
    return [command for command in built if command is not None], page.next is not None


def _command(world: World, cluster: Cluster, item: Item, jobs: Mapping[int, Job]) -> dict[str, Any] | None:
    seq = int(item.key.id)
    if item.body["type"] != "run":
        return {"seq": seq, **item.body}
    job = jobs.get(int(item.body["job_id"]))
    if job is None or job.status.terminal:
        # Still numbered, so that the agent can acknowledge it.
        return {"seq": seq, "type": "skip", "job_id": item.body["job_id"]}
    return {"seq": seq, "type": "run", "job": _job_spec(world, cluster, job)}


def _job_spec(world: World, cluster: Cluster, job: Job) -> dict[str, Any]:
    document = _documents(job.spec_key)
    if document is None:
        document = world.objects.get(job.spec_key).decode()
        _keep_document(job.spec_key, document)
    spec = json.loads(document)
    return {
        "id": job.id,
        "name": job.name,
        "task_id": job.task_id,
        "user": job.user,
        "num_nodes": job.num_nodes,
        "setup": spec["setup"] if job.run_setup else None,
        "run": spec["run"],
        "envs": spec["envs"],
        "has_secrets": bool(job.secrets_key),
        "demand": job.demand.model_dump(),
        "workdir": spec["workdir"],
        "file_mounts": spec["file_mounts"],
        "container": _container(world, cluster, spec),
        "barrier_seconds": world.limits.barrier_seconds,
        "follow_until": job.follow_until,
        "submitted_at": job.submitted_at,
        **({"managed": job.managed} if job.managed else {}),
        **({"preemption": spec["preemption"]} if job.managed and spec.get("preemption") else {}),
        # With the settings' version: of what the agent hears of them on two ways the newer counts.
        **({"hosts": {"version": cluster.settings_version, "hosts": cluster.hosts}} if cluster.hosts else {}),
    }


def _container(world: World, cluster: Cluster, spec: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the agent runs the job in: the cluster's image, unless its machines are made from that."""
    offer = cluster.offer
    if offer is None or (offer.cloud in world.clouds and world.clouds[offer.cloud].runs_images):
        return None
    image = container_image(Resources.model_validate(cluster.requested).image_id, offer.region)
    return {"image": image, "run_options": spec.get("run_options") or []} if image else None


_cache: dict[str, str] = {}


def _documents(key: str) -> str | None:
    return _cache.get(key)


def _keep_document(key: str, document: str) -> None:
    """Documents are immutable; a few small ones are kept, since equal jobs come in series."""
    if len(document) > 16_384:
        return
    if len(_cache) >= 64:
        _cache.pop(next(iter(_cache)))
    _cache[key] = document


def _poll_seconds(world: World, who: NodePrincipal) -> int:
    """Polling is the fallback: rare while the node listens on the wake channel."""
    if world.wake_url and world.store.get(connection_key(who.cluster_id, who.rank)) is not None:
        return world.limits.woken_poll_seconds
    return world.limits.poll_seconds


def _followed(world: World, cluster: Cluster, now: float) -> tuple[int, list[dict[str, Any]]]:
    item = world.store.get(follow_key(cluster.workspace, cluster.id))
    if item is None:
        return 0, []
    until = {int(job): float(moment) for job, moment in item.body.items()}
    return item.version, [
        {"job": job, "until": moment} for job, moment in sorted(until.items()) if moment > now
    ]
