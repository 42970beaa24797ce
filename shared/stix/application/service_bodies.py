"""What people see of services: records of the table as the bodies of the API's answers."""

from __future__ import annotations

from typing import Any

from stix.application.gateway_nodes import gateway_addresses
from stix.application.ledger import cluster_cost
from stix.application.observe_run import cluster_and_job
from stix.application.records import child_records, cluster_key, cursor_of_request, load
from stix.application.service_draft import get_service
from stix.application.service_situation import metrics_of, read_figures
from stix.application.submit_service import find_replica
from stix.application.world import World
from stix.model.cluster import Cluster
from stix.model.errors import InvalidInputError, NotFoundError
from stix.model.job import Job
from stix.model.quantities import number_text
from stix.model.service_state import Replica, Service
from stix.model.status import ReplicaStatus

__all__ = [
    "accepted_body",
    "explain_service",
    "list_services",
    "replica_number",
    "replica_run",
    "service_body",
]

_MOST_SHOWN = 500


def accepted_body(world: World, workspace: str, answer: dict[str, Any]) -> dict[str, Any]:
    """The body of ``ServiceAccepted``."""
    service = get_service(world, workspace, answer["name"])
    endpoints = _endpoints(service, gateway_addresses(world, workspace))
    return {**answer, "endpoint": next(iter(endpoints), "")}


def list_services(world: World, workspace: str, *, after: str | None, limit: int) -> dict[str, Any]:
    """The body of ``ServiceList``."""
    with cursor_of_request(after):
        page = world.store.list(workspace, Service.kind, live=True, after=after, limit=limit)
    addresses = gateway_addresses(world, workspace) if page.items else []
    services = [_body(world, load(Service, item), addresses) for item in page.items]
    return {"services": services, "next": page.next}


def service_body(world: World, service: Service) -> dict[str, Any]:
    """The body of ``Service``."""
    return _body(world, service, gateway_addresses(world, service.workspace))


def _endpoints(service: Service, addresses: list[str]) -> list[str]:
    tls = any(one.tls_key for one in service.versions if one.number in (*service.serving, service.active))
    hosts = [f"[{address}]" if ":" in address else address for address in addresses]
    return [f"{'https' if tls else 'http'}://{host}:{service.port}" for host in hosts]


def _body(world: World, service: Service, addresses: list[str]) -> dict[str, Any]:
    replicas = [
        one for one in child_records(world, Replica, service.workspace, service.uid) if _is_shown(world, one)
    ]
    endpoints = _endpoints(service, addresses)
    version = service.version_of(service.active)
    spec = version.parsed()
    figures, until = read_figures(world, service.workspace, service.name)
    metrics = metrics_of(figures, until)
    return {
        "name": service.name,
        "user": service.user,
        "status": str(service.status),
        "reason": service.reason,
        "since": service.since,
        "created_at": service.created_at,
        "ready_at": service.ready_at,
        "endpoint": next(iter(endpoints), ""),
        "endpoints": endpoints,
        "port": service.port,
        "private": service.tokens is not None,
        "policy": policy_words(spec.replica_policy),
        "load_balancing_policy": spec.load_balancing_policy,
        "active_version": service.active,
        "serving": list(service.serving),
        "versions": [
            {
                "number": one.number,
                "created_at": one.created_at,
                "mode": "blue_green" if one.blue_green else "rolling",
                "resources": one.resources,
                "failed": one.failed,
            }
            for one in service.versions
        ],
        "target": service.memory.target,
        "ready_replicas": sum(one.status is ReplicaStatus.READY and one.ended_at is None for one in replicas),
        "replicas": [_replica(one) for one in replicas[-_MOST_SHOWN:]],
        "request_rate": None if metrics is None else metrics.request_rate,
        "queue_length": None if metrics is None else metrics.queue_length,
        "latency_p95": None if metrics is None else metrics.latency_p95,
        "figures_at": None if metrics is None else metrics.as_of,
        "problem": next((one.problem for one in figures if one.problem), ""),
        "item": service.version,
    }


def policy_words(policy: Any) -> str:
    """How many replicas, in words."""
    least, most = policy.min_replicas, policy.max_replicas
    words = [str(least) if most in (None, least) else f"{least} to {most}"]
    words.append("replica" if words[0] == "1" else "replicas")
    if policy.targets:
        words.append("by " + ", ".join(name.removeprefix("target_") for name in policy.targets))
    if policy.schedule:
        words.append("on a schedule")
    return " ".join(words)


def _is_shown(world: World, replica: Replica) -> bool:
    """What is there or going, and what failed or was lost within the hour."""
    if not replica.closed:
        return True
    over = replica.status.failed or replica.status is ReplicaStatus.PREEMPTED
    return over and world.clock.now() - (replica.ended_at or 0.0) < 3600.0


def _replica(replica: Replica) -> dict[str, Any]:
    offer = replica.offer
    accelerators = ""
    if offer.accelerator:
        accelerators = f"{offer.accelerator}:{number_text(offer.accelerator_count)}"
    return {
        "id": replica.id,
        "version": replica.service_version,
        "status": str(replica.status),
        "reason": replica.reason,
        "since": replica.since,
        "launched_at": replica.launched_at,
        "ready_at": replica.ready_at,
        "ended_at": replica.ended_at,
        "cluster": replica.cluster_name,
        "place": offer.place,
        "instance_type": offer.instance_type,
        "accelerators": accelerators,
        "spot": offer.spot,
        "price": offer.price,
        "address": f"{replica.address}:{replica.port}" if replica.address else "",
        "in_flight": replica.in_flight,
    }


def replica_number(text: str) -> int:
    """Raises ``InvalidInputError``."""
    if not (text.isascii() and text.isdigit() and len(text) <= 8):
        raise InvalidInputError(f"replica: {text!r:.40} is not a replica's number.", hint="Write 1, 2, ...")
    return int(text)


def replica_run(world: World, workspace: str, name: str, text: str) -> tuple[Cluster, Job]:
    """The cluster and the run of a replica, by its number. Raises ``NotFoundError``."""
    replica = find_replica(world, get_service(world, workspace, name), replica_number(text))
    cluster, run = cluster_and_job(world, workspace, replica.cluster_id, replica.cluster_job)
    if cluster is None or run is None:
        raise NotFoundError(
            f"The log of replica {replica.id} of service {name!r} is no longer kept.", code="job_not_found"
        )
    return cluster, run


def explain_service(world: World, service: Service) -> dict[str, Any]:
    """The body of ``ServiceExplanation``."""
    cost = 0.0
    for replica in child_records(world, Replica, service.workspace, service.uid):
        item = world.store.get(cluster_key(service.workspace, replica.cluster_id))
        if item is not None:
            cost += cluster_cost(world, load(Cluster, item))
    return {
        "service": service_body(world, service),
        "decisions": [one.model_dump(mode="json") for one in service.decisions],
        "cost": cost,
        "next_look_at": service.due_at,
    }
