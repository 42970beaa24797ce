"""What the tasks of a job need of a pool's workers, and whether workers of its template can have that."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from stix.api.v1_jobs import JobsLaunchRequest
from stix.application.nudge_pool import find_pool
from stix.application.world import World
from stix.model.dag import Dag
from stix.model.errors import ConflictError, InvalidInputError, NotFoundError, TaskError
from stix.model.pool import JobPool, Needs
from stix.model.resources import Resources
from stix.model.runnable import check_replaced_whole
from stix.model.task import Task

__all__ = ["live_pool", "needs_of_tasks"]


def live_pool(world: World, workspace: str, name: str) -> JobPool:
    """A pool that takes jobs. Raises ``NotFoundError``; ``ConflictError`` for one that goes down."""
    pool = find_pool(world, workspace, name)
    if pool is None or pool.ended:
        raise NotFoundError(
            f"There is no pool {name!r}.",
            hint="`stix jobs pool status` lists them; `stix jobs pool apply -p NAME pool.yaml` makes one.",
            code="pool_not_found",
            details={"pool": name},
        )
    if pool.leaving:
        raise ConflictError(
            f"Pool {name!r} is going down.", hint="Wait until it is gone, or use another.", code="pool_going"
        )
    return pool


def needs_of_tasks(
    world: World, workspace: str, request: JobsLaunchRequest, dag: Dag, tasks: Sequence[Task]
) -> list[dict[str, Any]]:
    """What is kept of each task for the pool that the request names; nothing where it names none.

    Raises ``NotFoundError`` and ``ConflictError`` for the pool, ``InvalidInputError`` for what no worker has.
    """
    if not request.pool:
        if request.num_jobs > 1:
            raise InvalidInputError(
                f"num_jobs: {request.num_jobs} jobs were asked, and no pool.",
                hint="Name the pool whose workers run them (`--pool NAME`).",
                details={"field": "num_jobs", "value": request.num_jobs},
            )
        return [{} for _ in tasks]
    pool = live_pool(world, workspace, request.pool)
    if dag.execution == "parallel":
        raise TaskError(
            "execution: a job group (parallel) has no place in a pool.",
            hint="Launch it without --pool, or its tasks as jobs of their own.",
        )
    template = Task.from_yaml_config(json.loads(world.objects.get(pool.template.request_key))["task"])
    found = []
    for index, task in enumerate(tasks):
        if dag.deadline is not None or task.deadline is not None:
            raise InvalidInputError(
                "deadline: a job in a pool has no say in where its workers are.",
                hint="Remove it, or launch without --pool.",
                details={"field": "deadline"},
            )
        check_replaced_whole(task, "jobs launch --pool")
        needs = _needs(pool, template, task, dag.label(index))
        found.append({"needs": needs, "priority": task.resources.priority or 0})
    return found


def _needs(pool: JobPool, template: Task, task: Task, label: str) -> Needs:
    """Of the first alternative that a worker can have."""
    if task.num_nodes > template.num_nodes:
        raise _unfit(pool, label, "num_nodes", task.num_nodes, f"{template.num_nodes} a worker")
    wrong: ConflictError | None = None
    for one in task.resources.alternatives():
        problems = [_problem(pool, label, one, there) for there in template.resources.alternatives()]
        if None in problems:
            return _held(task, one)
        wrong = wrong or problems[0]
    assert wrong is not None
    raise wrong


def _held(task: Task, asked: Resources) -> Needs:
    accelerator = asked.accelerator
    cpus = 0.0 if asked.cpus is None else asked.cpus.value
    memory = 0.0
    if asked.memory is not None:
        memory = asked.memory.gib * (cpus if asked.memory.per_vcpu else 1.0)
    named = bool(accelerator or cpus or memory)
    return Needs(
        num_nodes=task.num_nodes,
        whole=not named or task.num_nodes > 1,
        cpus=cpus,
        memory_gib=memory,
        gpus=0.0 if accelerator is None else accelerator.count,
        gpu_name="" if accelerator is None else accelerator.name,
    )


def _problem(pool: JobPool, label: str, asked: Resources, there: Resources) -> ConflictError | None:
    """What the job asks for and a worker cannot have, as far as its template says; None where it fits."""
    wanted, has = asked.accelerator, there.accelerator
    if wanted is not None:
        fits = has is not None and has.name.upper() == wanted.name.upper() and wanted.count <= has.count
        if not fits:
            return _unfit(pool, label, "resources.accelerators", wanted, has or "no accelerator")
    exact = None if there.cpus is None or there.cpus.at_least else there.cpus.value
    if asked.cpus is not None and exact is not None and asked.cpus.value > exact:
        return _unfit(pool, label, "resources.cpus", asked.cpus, there.cpus)
    if asked.instance_type and asked.instance_type != there.instance_type:
        return _unfit(pool, label, "resources.instance_type", asked.instance_type, there.instance_type)
    pairs = ((asked.cloud, there.cloud), (asked.region, there.region), (asked.zone, there.zone))
    if any(one is not None and one != other for one, other in pairs):
        return _unfit(pool, label, "resources.infra", asked.infra, there.infra or "any place")
    if asked.image_id is not None and asked.image_id != there.image_id:
        return _unfit(pool, label, "resources.image_id", asked.image_id, there.image_id or "no image")
    return None


def _unfit(pool: JobPool, label: str, field: str, asked: object, there: object) -> ConflictError:
    return ConflictError(
        f"{label}: {field}: {asked} was asked, pool {pool.name!r} has {there or 'any'}.",
        hint="Ask for what its workers have, or `stix jobs pool apply` other ones.",
        code="does_not_fit",
        details={"field": field, "value": str(asked), "pool": pool.name},
    )
