"""What people see: records of the table as the bodies of the API's answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from stix.application.planning import accelerators_text
from stix.application.records import (
    child_records,
    cluster_by_name,
    cursor_of_request,
    job_key,
    load,
    node_key,
)
from stix.application.world import World
from stix.lifecycle.cluster import autostop_at
from stix.model.cluster import Cluster, ClusterSummary, Heartbeat, Node
from stix.model.errors import NotFoundError, StixError
from stix.model.job import Job
from stix.model.offer import Offer
from stix.model.operation import Operation
from stix.model.status import ClusterStatus
from stix.optimizer.rank import RankedOffer
from stix.ports.cloud_facts import CloudFacts
from stix.ports.compute import DiscoversOffers
from stix.ports.state_store import Item

__all__ = [
    "cloud_checks",
    "cluster_view",
    "find_job",
    "job_view",
    "list_clusters",
    "list_jobs",
    "operation_view",
    "plan_view",
]

C = TypeVar("C", bound=ClusterSummary)

_PAGE = 100
_SHORT_PAGE = 250
"""Of clusters without their nodes."""


def list_clusters(
    world: World,
    workspace: str,
    *,
    names: Sequence[str] = (),
    after: str | None = None,
    verbose: bool = False,
) -> dict[str, Any]:
    """The body of ``ClusterList``: live clusters, newest first; or those of ``names`` that exist. Without
    ``verbose`` a page is one read of the table, so that no cluster's ``autostop_at`` is in it, and of the
    addresses only the head node's."""
    named = _named(world, workspace, names) if names else None
    if verbose:
        whole, following = _page(world, Cluster, workspace, after, _PAGE) if named is None else (named, None)
        return {"clusters": [cluster_view(world, one, verbose=True) for one in whole], "next": following}
    clusters: Sequence[ClusterSummary]
    if named is None:
        clusters, following = _page(world, ClusterSummary, workspace, after, _SHORT_PAGE)
    else:
        clusters, following = named, None
    # Clusters that joined under an earlier release do not have their head's address themselves.
    unknown = [one for one in clusters if _has_head(one) and not one.head_address]
    heads: dict[str, str] = {}
    for start in range(0, len(unknown), _PAGE):
        keys = [node_key(one.workspace, one.id, 0) for one in unknown[start : start + _PAGE]]
        nodes = [load(Node, item) for item in world.store.get_many(keys) if item is not None]
        heads |= {node.cluster_id: node.address for node in nodes}
    views = []
    for one in clusters:
        address = (one.head_address or heads.get(one.id)) if _has_head(one) else ""
        views.append(_cluster_view(one, [address] if address else []))
    return {"clusters": views, "next": following}


def _named(world: World, workspace: str, names: Sequence[str]) -> list[Cluster]:
    found = [cluster_by_name(world, workspace, name) for name in dict.fromkeys(names)]
    return [cluster for cluster in found if cluster is not None and not cluster.ended]


def _page(
    world: World, model: type[C], workspace: str, after: str | None, limit: int
) -> tuple[list[C], str | None]:
    with cursor_of_request(after):
        page = world.store.list(workspace, model.kind, live=True, after=after, limit=limit)
    return [_listed(model, item) for item in page.items], page.next


def _listed(model: type[C], item: Item) -> C:
    """Of a cluster that a newer release wrote at least name and status: one item must not end the list."""
    if item.schema_version <= model.schema_version:
        return load(model, item)
    known = {"name": "", "since": 0.0, "created_at": 0.0, "num_nodes": 0, "user": ""}
    found = {name: item.body.get(name, default) for name, default in known.items()}
    return model(
        workspace=item.key.workspace,
        id=item.key.id,
        status=ClusterStatus(item.status) if item.status in set(ClusterStatus) else ClusterStatus.INIT,
        reason="A newer release wrote it: update this one.",
        **found,
    )


def _has_head(cluster: ClusterSummary) -> bool:
    """Whether its head node has joined; while a cluster starts, an address may be of an earlier machine."""
    return cluster.offer is not None and cluster.status is not ClusterStatus.INIT


def cluster_view(world: World, cluster: Cluster, *, verbose: bool = False) -> dict[str, Any]:
    """The body of ``Cluster``."""
    nodes = child_records(world, Node, cluster.workspace, cluster.id) if verbose or cluster.offer else []
    beats: dict[int, Heartbeat] = {}
    if verbose or cluster.autostop is not None:
        beats = {beat.rank: beat for beat in child_records(world, Heartbeat, cluster.workspace, cluster.id)}
    addresses = [node.address for node in nodes if node.address]
    view = _cluster_view(cluster, addresses)
    if 0 in beats and cluster.status is ClusterStatus.UP:
        view["autostop_at"] = autostop_at(cluster.autostop, beats[0].idle_since)
    if verbose:
        view["nodes"] = [_node_view(node, beats.get(node.rank)) for node in nodes]
        view["attempts"] = [attempt.model_dump(mode="json") for attempt in cluster.attempts]
    return view


def _cluster_view(cluster: ClusterSummary, addresses: Sequence[str]) -> dict[str, Any]:
    """What the cluster's own item says."""
    offer = cluster.offer
    up = cluster.status in (ClusterStatus.INIT, ClusterStatus.UP, ClusterStatus.AUTOSTOPPING)
    return {
        "name": cluster.name,
        "id": cluster.id,
        "status": str(cluster.status),
        "reason": cluster.reason,
        "since": cluster.since,
        "created_at": cluster.created_at,
        "last_use": cluster.last_use,
        "num_nodes": cluster.num_nodes,
        "cloud": offer.cloud if offer else "",
        "region": offer.region if offer else "",
        "zone": offer.zone if offer else "",
        "instance_type": offer.instance_type if offer else "",
        "vcpus": offer.vcpus if offer else None,
        "memory_gib": offer.memory_gib if offer else None,
        "accelerators": accelerators_text(offer) if offer else "",
        "spot": offer.spot if offer else False,
        "hourly_price": (offer.price * cluster.num_nodes if up else 0.0) if offer else None,
        "autostop": cluster.autostop.to_wire() if cluster.autostop else None,
        "autostop_at": None,
        "user": cluster.user,
        "owner": cluster.owner,
        "labels": cluster.labels,
        "ports": list(cluster.ports),
        "addresses": list(addresses),
        "nodes": None,
        "attempts": None,
    }


def _node_view(node: Node, beat: Heartbeat | None) -> dict[str, Any]:
    facts = node.facts
    return {
        "rank": node.rank,
        "status": str(node.status),
        "reason": node.reason,
        "address": node.address,
        "public_address": node.public_address,
        "machine_id": node.machine_id,
        "vcpus": facts.get("cpus"),
        "memory_gib": facts.get("memory_gib"),
        "gpus": [str(gpu.get("name", "GPU")) for gpu in facts.get("gpus") or ()],
        "limits": dict(facts.get("limits") or {}),
        "last_seen": None if beat is None else beat.last_seen,
        "idle_since": None if beat is None else beat.idle_since,
    }


def job_view(job: Job) -> dict[str, Any]:
    """The body of ``Job``."""
    return {
        "id": job.id,
        "name": job.name,
        "cluster": job.cluster_name,
        "status": str(job.status),
        "reason": job.reason,
        "user": job.user,
        "num_nodes": job.num_nodes,
        "resources": job.resources,
        "submitted_at": job.submitted_at,
        "started_at": job.started_at,
        "ended_at": job.ended_at,
        "exit_codes": list(job.exit_codes),
        "exit_code": job.exit_code,
        "task_id": job.task_id,
    }


def find_job(world: World, cluster: Cluster, job_id: str) -> Job:
    """A job by number or ``latest``. Raises ``NotFoundError``."""
    if job_id == "latest":
        page = world.store.children(cluster.workspace, Job.kind, cluster.id, limit=1, newest_first=True)
        if page.items:
            return load(Job, page.items[0])
        raise NotFoundError(
            f"Cluster {cluster.name!r} has run no job yet.",
            hint=f"`stix exec {cluster.name} COMMAND` runs one.",
            code="job_not_found",
        )
    number = int(job_id) if job_id.isascii() and job_id.isdigit() and len(job_id) <= 10 else 0
    item = world.store.get(job_key(cluster.workspace, cluster.id, number))
    if item is None:
        raise NotFoundError(
            f"Cluster {cluster.name!r} has no job {job_id!r}.",
            hint=f"`stix queue {cluster.name}` lists its jobs.",
            code="job_not_found",
        )
    return load(Job, item)


def list_jobs(
    world: World,
    cluster: Cluster,
    *,
    skip_finished: bool = False,
    after: str | None = None,
    limit: int = _PAGE,
) -> dict[str, Any]:
    """The body of ``JobList``, newest first. ``skip_finished`` filters the page that was read."""
    with cursor_of_request(after):
        page = world.store.children(
            cluster.workspace, Job.kind, cluster.id, after=after, limit=limit, newest_first=True
        )
    jobs = [load(Job, item) for item in page.items]
    shown = [job_view(job) for job in jobs if not (skip_finished and job.status.terminal)]
    return {"jobs": shown, "next": page.next}


def operation_view(operation: Operation) -> dict[str, Any]:
    """The body of ``Operation``."""
    return {
        "id": operation.id,
        "kind": operation.verb,
        "cluster": operation.cluster_name,
        "status": str(operation.status),
        "created_at": operation.created_at,
        "ended_at": operation.ended_at,
        "job_id": operation.job_id,
        "progress": [line.model_dump() for line in operation.progress],
        "error": operation.error,
    }


def plan_view(ranked: Sequence[RankedOffer], num_nodes: int) -> dict[str, Any]:
    """The body of ``Plan``."""
    return {
        "offers": [
            {
                "rank": rank,
                "cloud": entry.offer.cloud,
                "region": entry.offer.region,
                "zone": entry.offer.zone,
                "instance_type": entry.offer.instance_type,
                "vcpus": entry.offer.vcpus,
                "memory_gib": entry.offer.memory_gib,
                "accelerators": accelerators_text(entry.offer),
                "spot": entry.offer.spot,
                "num_nodes": num_nodes,
                "hourly_price": entry.offer.price * num_nodes,
                "price_as_of": entry.offer.price_as_of,
                "reason": entry.reason,
            }
            for rank, entry in enumerate(ranked, start=1)
        ]
    }


def cloud_checks(world: World) -> dict[str, Any]:
    """The body of ``CloudChecks``: every known cloud, whether this deployment can use it, and why not."""
    found = {name: _check(world, about) for name, about in world.clouds.items()}
    for name, problem in world.unusable.items():
        found[name] = _cloud(name, enabled=False, reason=problem.reason, hint=problem.hint)
    return {"clouds": [found[name] for name in sorted(found)]}


def _check(world: World, about: CloudFacts) -> dict[str, Any]:
    """Asks the cloud where this process may call it."""
    provider = world.compute.get(about.name)
    if provider is None:
        return _cloud(about.name)
    try:
        details = {"account": provider.identity()}
        if about.discovers and isinstance(provider, DiscoversOffers):
            offers = provider.offers()
            details |= {offer.instance_type: _size(offer) for offer in offers}
            if not offers:
                return _cloud(about.name, enabled=False, reason="it offers no machine", details=details)
    except StixError as error:
        return _cloud(about.name, enabled=False, reason=error.message, hint=error.hint)
    return _cloud(about.name, details=details)


def _size(offer: Offer) -> str:
    accelerators = f", {accelerators_text(offer)}" if offer.accelerator_count else ""
    return f"{offer.vcpus:g} CPU, {offer.memory_gib:.1f} GiB{accelerators}"


def _cloud(
    name: str,
    *,
    enabled: bool = True,
    reason: str = "",
    hint: str = "",
    details: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    return {"cloud": name, "enabled": enabled, "reason": reason, "hint": hint, "details": dict(details or {})}
