"""What people ask of services: up, update, down, the end of one replica."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stix.api.v1 import TaskRequest
from stix.api.v1_services import ServiceUpdateRequest, ServiceUpRequest, TlsFiles
from stix.application.budgets import check_budget
from stix.application.gateway_feed import wake_gateways
from stix.application.gateway_nodes import keep_gateways
from stix.application.idempotency import Once
from stix.application.kept_requests import keep_request
from stix.application.nudge_service import nudge_service, start_service_run
from stix.application.planning import plan
from stix.application.records import child_records, cluster_key, load, put
from stix.application.runs import RUN_BEGINS_SECONDS
from stix.application.service_draft import find_service, get_service
from stix.application.service_ports import take_port
from stix.application.submit import read_task
from stix.application.tokens import UserPrincipal
from stix.application.want import begin, forget
from stix.application.world import World
from stix.model.cluster import Cluster
from stix.model.errors import ConflictError, InvalidInputError, NotFoundError
from stix.model.problems import Problem, task_error
from stix.model.runnable import unsupported
from stix.model.service import ServiceSpec
from stix.model.service_state import Replica, Service, ServiceVersion
from stix.model.status import ServiceStatus, Wanted
from stix.model.task import Task
from stix.ports.state_store import VersionConflictError
from stix.ports.surroundings import Event

__all__ = ["down", "find_replica", "terminate_replica", "up", "update"]

_TRIES = 20
_VERB = "serve up"


def up(world: World, who: UserPrincipal, request: ServiceUpRequest, key: str | None) -> dict[str, Any]:
    """Accept a service: the body of ``ServiceAccepted``, without its endpoint. Idempotent by ``key``.

    Raises ``ForbiddenError`` (the month's budget is spent), ``TaskError``, ``NoOfferError``,
    ``InvalidInputError`` and ``ConflictError`` (the name is taken).
    """
    once = Once(world, who.workspace, key, "serve up", request.model_dump(mode="json"))
    earlier = once.answer()
    if earlier is not None:
        return earlier
    task, spec = _read(request)
    _check_gateway(world)
    check_budget(world, who.workspace)
    plan(world, task)
    name = request.name or task.name or f"service-{world.ids.new('n')[-6:]}"
    uid = world.ids.new("svc")
    version = _version(world, who.workspace, uid, 1, request, task, spec, request.tls)
    for _ in range(_TRIES):
        before = find_service(world, who.workspace, name)
        if before is not None and before.ended_at is None:
            _forget_secrets(world, version)
            raise ConflictError(
                f"There is a service {name!r} already.",
                hint=f"`stix serve update {name} task.yaml` gives it a new version.",
                code="name_taken",
            )
        now = world.clock.now()
        port, taking = take_port(world, who.workspace, uid)
        service = Service(
            workspace=who.workspace,
            name=name,
            uid=uid,
            user=who.user,
            status=ServiceStatus.NO_REPLICA,
            since=now,
            created_at=now,
            due_at=now + RUN_BEGINS_SECONDS,
            port=port,
            tokens=None if request.tokens is None else tuple(request.tokens),
            versions=(version,),
            serving=(1,),
            # Numbers of replicas go on under a name: a gateway may still speak of the service before.
            replicas=0 if before is None else before.replicas,
            version=0 if before is None else before.version,
        )
        answer = {"name": name, "version": 1, "port": port}
        try:
            stored = world.store.transact([put(service), taking, *once.record(answer)])[0]
        except VersionConflictError:
            earlier = once.answer()
            if earlier is None:
                continue
            _forget_secrets(world, version)
            return earlier
        start_service_run(world, service.changed(version=stored.version))
        detail = {"user": who.user, "port": port}
        world.events.publish(Event("ServiceRequested", who.workspace, name, now, detail))
        keep_gateways(world, who.workspace, asked=True)
        wake_gateways(world, who.workspace)
        return answer
    _forget_secrets(world, version)
    raise _busy(name)


def _check_gateway(world: World) -> None:
    missing = "" if world.gateways.nodes else world.gateways.missing()
    if missing:
        what, _, hint = missing.partition(". ")
        raise InvalidInputError(f"{what}.", hint=hint, code="no_gateway")


def update(
    world: World, who: UserPrincipal, name: str, request: ServiceUpdateRequest, key: str | None
) -> dict[str, Any]:
    """Accept a new version of a service: the body of ``ServiceAccepted``. Raises as ``up``, and
    ``NotFoundError``."""
    once = Once(world, who.workspace, key, f"serve update {name}", request.model_dump(mode="json"))
    earlier = once.answer()
    if earlier is not None:
        return earlier
    service = _standing(world, who.workspace, name)
    task, spec = _read(request)
    check_budget(world, who.workspace)
    plan(world, task)
    blue_green = request.mode == "blue_green"
    for _ in range(_TRIES):
        service = _standing(world, who.workspace, name)
        number = service.newest.number + 1
        version = _version(world, who.workspace, service.uid, number, request, task, spec, request.tls)
        version = version.model_copy(update={"blue_green": blue_green})
        changed = service.changed(
            versions=(*_still_needed(world, service), version),
            active=number,
            due_at=world.clock.now() + RUN_BEGINS_SECONDS,
            nudges=service.nudges + 1,
            refusals=0,
            launch_after=0.0,
        )
        answer = {"name": name, "version": number, "port": service.port}
        try:
            stored = world.store.transact([put(changed), *once.record(answer)])[0]
        except VersionConflictError:
            _forget_secrets(world, version)
            earlier = once.answer()
            if earlier is not None:
                return earlier
            continue
        kept = {one.number for one in changed.versions}
        for one in service.versions:
            if one.number not in kept:
                _forget_secrets(world, one)
        start_service_run(world, changed.changed(version=stored.version))
        detail = {"user": who.user, "version": number, "mode": request.mode}
        world.events.publish(Event("ServiceUpdated", who.workspace, name, world.clock.now(), detail))
        return answer
    raise _busy(name)


def down(world: World, who: UserPrincipal, name: str, *, purge: bool) -> Service:
    """Ask for the end of a service; asking again is no error. ``purge`` does not wait for its clouds: what
    its clusters may have left is watched, and ended, until their providers have said that nothing lives.

    Raises ``NotFoundError``.
    """
    get_service(world, who.workspace, name)

    def change(service: Service) -> Service:
        return service.changed(down=True, terminate=())

    asked = nudge_service(world, who.workspace, name, change=change)
    assert asked is not None
    if purge:
        for replica in child_records(world, Replica, who.workspace, asked.uid):
            _forget_cluster(world, replica)
        nudge_service(world, who.workspace, name)
    return asked


def terminate_replica(world: World, who: UserPrincipal, name: str, number: int, *, purge: bool) -> Service:
    """Ask for the end of one replica; the policy replaces it where it is wanted. What serves drains first,
    with ``purge`` nothing is waited for. Raises ``NotFoundError``."""
    service = _standing(world, who.workspace, name)
    replica = find_replica(world, service, number)
    if replica.closed:
        raise NotFoundError(
            f"Replica {number} of service {name!r} is gone already.",
            hint=f"`stix serve status {name}` lists its replicas.",
            code="replica_not_found",
        )
    if purge:
        _forget_cluster(world, replica)

    def change(current: Service) -> Service:
        return current.changed(terminate=tuple(sorted({*current.terminate, number})))

    asked = nudge_service(world, who.workspace, name, change=change)
    assert asked is not None
    return asked


def find_replica(world: World, service: Service, number: int) -> Replica:
    """Also one that is gone, for some hours. Raises ``NotFoundError``."""
    for replica in child_records(world, Replica, service.workspace, service.uid):
        if replica.id == number:
            return replica
    raise NotFoundError(
        f"Service {service.name!r} has no replica {number}.",
        hint=f"`stix serve status {service.name}` lists its replicas.",
        code="replica_not_found",
    )


def _standing(world: World, workspace: str, name: str) -> Service:
    """A service that is not wanted to end. Raises ``NotFoundError`` and ``ConflictError``."""
    service = get_service(world, workspace, name)
    if service.down:
        raise ConflictError(
            f"Service {name!r} is going down.",
            hint="Wait until it is gone (`stix serve status`), then bring it up again.",
            code="service_going_down",
        )
    return service


def _read(request: TaskRequest) -> tuple[Task, ServiceSpec]:
    """The task without its service, and the service. Raises ``TaskError`` and ``InvalidInputError``."""
    bare = Task.from_yaml_config(request.task).with_envs(secrets=request.secrets)
    spec = bare.service
    bare.set_service(None)
    problems = unsupported(bare, managed=True, verb=_VERB)
    if spec is None:
        text = "there is none, and a service needs it."
        problems.append(Problem(("service",), text, "Add service: with readiness_probe: and replicas:."))
    for field in ("depends_on", "deadline"):
        if getattr(bare, field):
            problems.append(Problem((field,), "a service has none.", "Remove it."))
    if bare.resources.autostop is not None:
        problems.append(Problem(("resources", "autostop"), "replicas are never idle.", "Remove it."))
    if spec is not None and spec.ports is None and _only_port(bare) is None:
        hint = "Add service.ports:, or exactly one port to resources.ports."
        problems.append(Problem(("service", "ports"), "where replicas listen is not said.", hint))
    if problems or spec is None:
        raise task_error(problems)
    return read_task(_bare_request(request, bare), managed=True), spec


def _bare_request(request: TaskRequest, bare: Task) -> TaskRequest:
    return TaskRequest(
        task=bare.to_yaml_config(),
        secrets=request.secrets,
        workdir=request.workdir,
        file_mounts=request.file_mounts,
    )


def _only_port(task: Task) -> int | None:
    ports = task.resources.ports
    return int(ports[0]) if len(ports) == 1 and ports[0].isdigit() else None


def _version(
    world: World,
    workspace: str,
    uid: str,
    number: int,
    request: TaskRequest,
    task: Task,
    spec: ServiceSpec,
    tls: TlsFiles | None,
) -> ServiceVersion:
    """The version as it is kept; its documents and secrets are stored."""
    if (spec.tls is None) is not (tls is None):
        given = (
            "service.tls names files that were not sent" if tls is None else "tls: service.tls is not given"
        )
        raise InvalidInputError(
            f"{given}.", hint="Send the PEM texts of the certificate and key that service.tls names."
        )
    resources = task.resources
    stamp = world.ids.new("v")
    port = spec.ports or _only_port(task)
    assert port is not None
    version = ServiceVersion(
        number=number,
        created_at=world.clock.now(),
        spec=spec.to_config(),
        request_key=keep_request(world, workspace, _bare_request(request, task)),
        secrets_key=f"services/{workspace}/{uid}/{stamp}" if task.secret_values() else "",
        tls_key=f"services/{workspace}/{uid}/{stamp}-tls" if tls is not None else "",
        port=port,
        spot=any(one.use_spot for one in resources.alternatives()),
        num_nodes=task.num_nodes,
        resources=resources.to_text(),
    )
    if version.secrets_key:
        world.secrets.put(version.secrets_key, task.secret_values())
    if tls is not None:
        world.secrets.put(version.tls_key, {"certificate": tls.certificate, "key": tls.key})
    return version


def _still_needed(world: World, service: Service) -> Sequence[ServiceVersion]:
    """Versions that a replica runs, that requests go to, or that is gone back to where a newer one fails."""
    replicas = child_records(world, Replica, service.workspace, service.uid)
    needed = {one.service_version for one in replicas if not one.closed}
    needed |= {service.active, service.memory.ready_version, *service.serving}
    return [one for one in service.versions if one.number in needed]


def _forget_secrets(world: World, version: ServiceVersion) -> None:
    for key in filter(None, (version.secrets_key, version.tls_key)):
        world.secrets.delete(key)


def _forget_cluster(world: World, replica: Replica) -> None:
    item = world.store.get(cluster_key(replica.workspace, replica.cluster_id))
    cluster = None if item is None else load(Cluster, item)
    if cluster is None or cluster.ended:
        return
    begin(world, cluster, "down", Wanted.ABSENT, "forgotten (--purge)")
    forget(world, cluster)


def _busy(name: str) -> ConflictError:
    return ConflictError(
        f"Service {name!r} is being changed by others too often.", hint="Try again.", code="busy"
    )
