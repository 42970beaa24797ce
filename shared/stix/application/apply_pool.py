"""What people ask of a pool: that there is one with such workers, and that there is none."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from stix.api.v1 import TaskRequest
from stix.api.v1_pools import PoolApplyRequest
from stix.application.budgets import check_budget
from stix.application.idempotency import Once
from stix.application.kept_requests import keep_request
from stix.application.nudge_pool import find_pool, nudge_pool
from stix.application.planning import plan
from stix.application.pool_needs import live_pool
from stix.application.records import put
from stix.application.runs import RUN_BEGINS_SECONDS
from stix.application.submit import read_task
from stix.application.tokens import UserPrincipal
from stix.application.world import World
from stix.model.errors import ConflictError, InvalidInputError, NotFoundError
from stix.model.names import CLUSTER_NAME, MAX_NAME
from stix.model.pool import MOST_WORKERS, Decided, JobPool, PoolTemplate
from stix.model.runnable import check_replaced_whole
from stix.model.service import Pool
from stix.model.status import PoolStatus
from stix.model.task import Task
from stix.ports.state_store import VersionConflictError
from stix.ports.surroundings import Event
from stix.recovery.situation import Policy

__all__ = ["apply_pool", "take_pool_down"]

_TRIES = 20


def apply_pool(
    world: World, who: UserPrincipal, name: str, request: PoolApplyRequest, key: str | None
) -> dict[str, Any]:
    """Make a pool, or make it other: the body of ``PoolAccepted``. Idempotent, also without ``key``: a task
    that is the same makes no new version.

    Raises ``TaskError``, ``InvalidInputError``, ``NoOfferError`` (no place has such workers),
    ``NotFoundError`` (no task, and no pool), ``ConflictError`` for one that goes down.
    """
    if len(name) > MAX_NAME or not CLUSTER_NAME.fullmatch(name):
        raise InvalidInputError(
            f"name: {name!r:.80} is not a pool's name.",
            hint=f"Write letters, digits and - _ . after a letter, at most {MAX_NAME}.",
            details={"field": "name", "value": name[:80]},
        )
    once = Once(world, who.workspace, key, f"pool apply {name}", request.model_dump(mode="json"))
    return once.run(lambda: _apply(world, who, name, request))


def _apply(world: World, who: UserPrincipal, name: str, request: PoolApplyRequest) -> dict[str, Any]:
    if request.task is None and request.workers is None:
        raise InvalidInputError(
            "Neither a task nor `workers` was given.",
            hint="`stix jobs pool apply -p NAME pool.yaml`, or `... -p NAME --workers 3`.",
        )
    for _ in range(_TRIES):
        now = world.clock.now()
        stored = find_pool(world, who.workspace, name)
        if request.task is None or (stored is not None and not stored.ended):
            stored = live_pool(world, who.workspace, name)
        fresh = stored is None or stored.ended
        wanted = _wanted(request)
        template = None
        if request.task is not None:
            template = _template(world, who, request.task, None if fresh else stored, now)
        if stored is None or stored.ended:
            assert template is not None
            pool = JobPool(
                workspace=who.workspace,
                name=name,
                uid=world.ids.new("pool"),
                user=who.user,
                since=now,
                created_at=now,
                version=0 if stored is None else stored.version,
                template=template,
                mode=request.mode,
                **wanted,
            )
            said = f"made: {template.resources or 'any machines'}"
        else:
            pool = stored.changed(**wanted, mode=request.mode)
            said = f"{pool.least} to {pool.most} workers"
            if template is not None and template.version != stored.template.version:
                said = f"version {template.version} ({request.mode}), {said}"
                stale = filter(None, [*stored.stale_secrets, stored.template.secrets_key])
                pool = pool.changed(
                    template=template, stale_secrets=tuple(stale), troubles=0, refusals=0, not_before=0.0
                )
        decided = Decided(at=now, message=f"Applied by {who.user}: {said}")
        pool = pool.changed(
            decisions=(*pool.decisions, decided)[-60:],
            steps=pool.steps + 1,
            due_at=now + RUN_BEGINS_SECONDS,
            asked=False,
        )
        try:
            world.store.transact([put(pool)])
        except VersionConflictError:
            continue
        nudge_pool(world, who.workspace, name)
        world.events.publish(Event("PoolApplied", who.workspace, name, now, {"reason": said}))
        return {"name": name, "version": pool.template.version, "created": fresh}
    raise _busy(name)


def _wanted(request: PoolApplyRequest) -> dict[str, Any]:
    """How many workers, as the fields of a pool. Raises ``TaskError`` and ``InvalidInputError``."""
    if request.workers is not None:
        return {"least": request.workers, "most": request.workers}
    assert request.task is not None
    spec = Task.from_yaml_config(request.task.task).pool
    if spec is None:
        raise InvalidInputError(
            "pool: it is not said how many workers there are to be.",
            hint="Add pool: {workers: 2} to the YAML, or --workers 2.",
            details={"field": "pool"},
        )
    most = spec.workers if spec.workers is not None else spec.max_workers or 0
    if most > MOST_WORKERS:
        raise InvalidInputError(
            f"pool: {most} workers are more than one pool has.",
            hint=f"Write {MOST_WORKERS} or less, or make several pools.",
            details={"field": "pool.max_workers", "value": most},
        )
    least = most if spec.workers is not None else spec.min_workers or 0
    return {"least": least, "most": most, **_delays(spec)}


def _delays(spec: Pool) -> dict[str, Any]:
    given = {
        "threshold": spec.queue_length_threshold,
        "upscale_delay": spec.upscale_delay_seconds,
        "downscale_delay": spec.downscale_delay_seconds,
    }
    return {name: value for name, value in given.items() if value is not None}


def _template(
    world: World, who: UserPrincipal, request: TaskRequest, stored: JobPool | None, now: float
) -> PoolTemplate:
    """What workers are made from: the stored one where it is the same. Its documents and secrets are kept."""
    document = {name: value for name, value in request.task.items() if name not in ("pool", "run")}
    if isinstance(document.get("service"), dict):
        del document["service"]  # as SkyPilot's own tools write a pool
    request = request.model_copy(update={"task": document})
    task = read_task(request)
    check_replaced_whole(task, "jobs pool apply")
    recovery = task.resources.job_recovery
    strategy = Policy.EAGER_NEXT_REGION
    if recovery is not None and recovery.strategy == Policy.FAILOVER:
        strategy = Policy.FAILOVER
    secrets = task.secret_values()
    request_key = keep_request(world, who.workspace, request)
    text = json.dumps([request_key, secrets, task.num_nodes], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    if stored is not None and stored.template.digest == digest:
        return stored.template
    check_budget(world, who.workspace)
    plan(world, task)
    version = 1 if stored is None else stored.template.version + 1
    secrets_key = f"pools/{who.workspace}/{world.ids.new('ps')}" if secrets else ""
    if secrets_key:
        world.secrets.put(secrets_key, secrets)
    return PoolTemplate(
        version=version,
        digest=digest,
        request_key=request_key,
        secrets_key=secrets_key,
        num_nodes=task.num_nodes,
        resources=task.resources.to_text(),
        strategy=str(strategy),
        applied_at=now,
    )


def take_pool_down(
    world: World, who: UserPrincipal, name: str, *, drain: bool, key: str | None
) -> dict[str, Any]:
    """End a pool: its jobs are cancelled or, with ``drain``, end first; then its workers go. The body of
    ``PoolDownAccepted``. Raises ``NotFoundError``."""
    once = Once(world, who.workspace, key, f"pool down {name}", {"drain": drain})

    def effect() -> dict[str, Any]:
        for _ in range(_TRIES):
            now = world.clock.now()
            pool = find_pool(world, who.workspace, name)
            if pool is None or pool.ended:
                raise NotFoundError(
                    f"There is no pool {name!r}.",
                    hint="`stix jobs pool status` lists them.",
                    code="pool_not_found",
                    details={"pool": name},
                )
            how = "its jobs may end first" if drain else "its jobs are cancelled"
            decided = Decided(at=now, message=f"Taken down by {who.user}: {how}")
            changed = pool.changed(
                leaving=True,
                drain=drain and (pool.drain or not pool.leaving),
                status=PoolStatus.SHUTTING_DOWN,
                since=pool.since if pool.leaving else now,
                decisions=(*pool.decisions, decided)[-60:],
                steps=pool.steps + 1,
                due_at=now + RUN_BEGINS_SECONDS,
                asked=False,
            )
            try:
                world.store.transact([put(changed)])
            except VersionConflictError:
                continue
            nudge_pool(world, who.workspace, name)
            return {"name": name}
        raise _busy(name)

    return once.run(effect)


def _busy(name: str) -> ConflictError:
    return ConflictError(f"Pool {name!r} is being changed too often.", hint="Try again.", code="busy")
