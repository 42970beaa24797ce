"""Accepting managed jobs, and cancelling them."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

from stix.api.v1 import TaskRequest
from stix.api.v1_jobs import JobsCancelRequest, JobsLaunchRequest
from stix.application.budgets import check_budget
from stix.application.idempotency import Once
from stix.application.job_copies import make_copies
from stix.application.job_costs import check_limits
from stix.application.job_draft import Draft, get_job
from stix.application.job_groups import check_regions
from stix.application.job_terms import JobTerms, job_terms
from stix.application.jobs import counter_key
from stix.application.kept_requests import keep_request
from stix.application.nudge_job import ask_to_end, start_job_run
from stix.application.planning import plan
from stix.application.pool_needs import needs_of_tasks
from stix.application.records import load
from stix.application.runs import RUN_BEGINS_SECONDS
from stix.application.submit import read_task
from stix.application.tokens import UserPrincipal
from stix.application.world import World
from stix.model.dag import Dag
from stix.model.errors import ConflictError, InvalidInputError, TaskError
from stix.model.managed_job import JobTask, ManagedJob
from stix.model.task import Task
from stix.ports.state_store import SHARDS, Item, Put, VersionConflictError

__all__ = ["cancel_jobs", "submit"]

_TRIES = 50
_COUNTER = "managed-jobs"
_PAGE = 200
_TURNS = tuple(threading.RLock() for _ in range(SHARDS))
"""Who takes a number of a workspace waits for the others of this process, who would all but one be refused by
the store and do it again. That no number is given twice is up to the store alone."""


def submit(world: World, who: UserPrincipal, request: JobsLaunchRequest, key: str | None) -> dict[str, Any]:
    """Accept a managed job: the body of ``ManagedJobAccepted``. Idempotent by ``key``; durable before the
    answer.

    Raises ``ForbiddenError`` (the month's budget is spent), ``TaskError``, ``NoOfferError`` (a task that fits
    nowhere), ``InvalidInputError`` (an upload that is not there, a deadline that cannot be met for certain).
    """
    once = Once(world, who.workspace, key, "jobs launch", request)
    earlier = once.answer()
    if earlier is not None:
        return earlier
    tasks = [read_task(one, managed=True) for one in request.tasks]
    dag = _dag(request, tasks)
    check_budget(world, who.workspace)
    now = world.clock.now()
    terms = job_terms(dag, tasks, now)
    parallel = dag.execution == "parallel"
    connected = parallel and dag.inter_connection
    needs = needs_of_tasks(world, who.workspace, request, dag, tasks)
    for task in () if request.pool else tasks:
        plan(world, task)
    if connected:
        check_regions(world, dag, tasks)
    limited = dag.max_cost is not None or any(task.max_cost is not None for task in tasks)
    if limited and request.pool:
        raise InvalidInputError("max_cost: a pool's workers are not paid by the job.", hint="Remove it.")
    if limited:
        check_limits(world, dag, tasks)
    uid = world.ids.new("mj")
    name = request.name or dag.name or tasks[0].name or "job"
    kept = [
        _task(world, who.workspace, f"{uid}/{index}", dag, index, task, body, terms, name)
        for index, (task, body) in enumerate(zip(tasks, request.tasks, strict=True))
    ]
    kept = [one.model_copy(update=held) for one, held in zip(kept, needs, strict=True)]
    job = ManagedJob(
        workspace=who.workspace,
        id=0,
        uid=uid,
        name=name,
        user=who.user,
        since=now,
        created_at=now,
        due_at=now + RUN_BEGINS_SECONDS,
        deadline_at=terms.deadline_at,
        pool=request.pool or "",
        num_jobs=request.num_jobs,
        group=name if parallel else "",
        connected=connected,
        max_cost=dag.max_cost,
        tasks=tuple(kept),
    )
    for _ in range(_TRIES):
        answer: dict[str, Any] = {"job_id": 0, "name": name}
        if request.pool:
            answer["num_jobs"] = request.num_jobs
        try:
            draft = _write(world, job, once, answer)
        except VersionConflictError:
            earlier = once.answer()
            if earlier is None:
                continue
            _forget(world, kept)
            return earlier
        draft.announce()
        accepted = draft.job.changed(version=1)
        if request.num_jobs > 1:
            with suppress(VersionConflictError):  # a step of the first has begun, and makes them
                make_copies(world, accepted)
            accepted = get_job(world, who.workspace, accepted.id)
        start_job_run(world, accepted)
        return answer
    _forget(world, kept)
    raise ConflictError("Too many jobs are being submitted at once.", hint="Try again.", code="busy")


def _write(world: World, job: ManagedJob, once: Once, answer: dict[str, Any]) -> Draft:
    """Write ``job`` under the next number of its workspace, which is put into ``answer`` too; not announced
    yet. Raises ``VersionConflictError``: others took that number."""
    key = counter_key(job.workspace, _COUNTER)
    with _TURNS[key.shard]:
        counter = world.store.get(key)
        answer["job_id"] = 1 if counter is None else int(counter.body["job"]) + 1
        draft = Draft(world, job.changed(id=answer["job_id"]))
        draft.say("ManagedJobSubmitted", _submitted(job))
        draft.look_at(job.created_at + RUN_BEGINS_SECONDS)
        taken = {"job": answer["job_id"] + job.num_jobs - 1}
        counting = Put(Item(key, taken, version=0 if counter is None else counter.version))
        world.store.transact([*draft.writes(), counting, *once.record(answer)])
    return draft


def _forget(world: World, tasks: list[JobTask]) -> None:
    for task in tasks:
        if task.secrets_key:
            world.secrets.delete(task.secrets_key)


def _dag(request: JobsLaunchRequest, tasks: list[Task]) -> Dag:
    """The order of the tasks. Raises ``TaskError``."""
    if not request.header and len(tasks) == 1:
        if tasks[0].depends_on:
            raise TaskError("depends_on: there is no other task.", hint="Remove it.")
        alone = Dag()
        alone.add(tasks[0])
        return alone
    dag = Dag.from_yaml_configs(
        [*([request.header] if request.header else []), *(one.task for one in request.tasks)]
    )
    if len(dag) != len(request.tasks):
        raise InvalidInputError(
            f"header: it is read as {len(dag)} tasks beside {len(request.tasks)}.",
            hint="Send the first document there, and only where it is no task.",
        )
    if dag.optimize != "cost":
        raise TaskError("optimize is not supported by `jobs launch` yet.", hint="Remove it.")
    return dag


def _task(
    world: World,
    workspace: str,
    name: str,
    dag: Dag,
    index: int,
    task: Task,
    request: TaskRequest,
    terms: JobTerms,
    job_name: str,
) -> JobTask:
    """The task as it is kept; its documents and secrets are stored. ``name``: unique in the workspace."""
    recovery = task.resources.job_recovery
    own = terms.tasks[index]
    secrets_key = f"managed/{workspace}/{name}" if task.secret_values() else ""
    document = keep_request(world, workspace, request)
    if secrets_key:
        world.secrets.put(secrets_key, task.secret_values())
    stamp = world.ids.new("t").partition("-")[2]
    return JobTask(
        index=index,
        name=task.name or "",
        parents=tuple(edge.parent for edge in dag.parents(index)),
        since=world.clock.now(),
        request_key=document,
        secrets_key=secrets_key,
        task_id=f"stix-managed-{stamp}_{task.name or job_name}_{index}",
        num_nodes=task.num_nodes,
        resources=task.resources.to_text(),
        policy=own.policy,
        work=own.work,
        deadline_at=own.deadline_at,
        changeover=own.changeover,
        checkpoint_seconds=own.checkpoint_seconds,
        max_restarts=0 if recovery is None else recovery.max_restarts_on_errors,
        restart_codes=() if recovery is None else recovery.recover_on_exit_codes,
        primary=not dag.primary_tasks or task.name in dag.primary_tasks,
        delay=float(dag.termination_delay(task.name or "")),
        max_cost=task.max_cost,
        replaces_failed=recovery is not None and recovery.replace == "failed",
    )


def _submitted(job: ManagedJob) -> str:
    count = len(job.tasks)
    return f"{job.name}: {count} task{'s' * (count != 1)}, {job.tasks[0].policy}"


def cancel_jobs(world: World, who: UserPrincipal, request: JobsCancelRequest) -> list[ManagedJob]:
    """Ask for the end of managed jobs; those that are being cancelled. One that has ended is left out.

    Raises ``NotFoundError`` for an unknown number.
    """
    if sum(map(bool, (request.all, request.job_ids, request.pool))) != 1:
        raise InvalidInputError(
            "Give either job ids, `pool` or `all`.", hint="`stix jobs cancel 1 2`, or `stix jobs cancel -a`."
        )
    numbers = sorted(set(request.job_ids))
    jobs = [get_job(world, who.workspace, number) for number in numbers]
    if request.all:
        jobs = [job for job in _live(world, who.workspace) if job.user == who.user]
    if request.pool:
        jobs = [job for job in _live(world, who.workspace) if job.pool == request.pool]
    found = []
    for job in jobs:
        asked = ask_to_end(world, job.workspace, job.id, grace=request.grace_seconds)
        if asked is not None:
            found.append(asked)
    return found


def _live(world: World, workspace: str) -> list[ManagedJob]:
    found: list[ManagedJob] = []
    after: str | None = None
    while True:
        page = world.store.list(workspace, ManagedJob.kind, live=True, after=after, limit=_PAGE)
        found += [load(ManagedJob, item) for item in page.items]
        after = page.next
        if after is None:
            return found
