"""One task of a managed job in one step: what became of its run, and what comes next."""

from __future__ import annotations

from typing import Any

from stix.application.budgets import check_budget
from stix.application.cancel_jobs import cancel
from stix.application.job_costs import STORE_SECONDS, affordable
from stix.application.job_draft import Draft
from stix.application.job_groups import in_one_region
from stix.application.job_offers import candidates, launch_order, observations, terms_of, work_done
from stix.application.job_plan import with_history
from stix.application.observe_run import Finding, Seen, cluster_and_job, observe
from stix.application.pool_seats import take_seat
from stix.application.replace_ranks import Standing, judge, replace, standing
from stix.application.run_task import STARTING_SECONDS, launch_run, read_request, repeat_run
from stix.application.spot_history import remember_end
from stix.application.submit import read_task
from stix.lifecycle.managed_job import MOST_TROUBLES, may_begin, refusal_pause, restart_pause, restarts
from stix.model.cluster import Cluster
from stix.model.errors import ForbiddenError
from stix.model.job import Job
from stix.model.managed_job import JobTask, Leaving
from stix.model.status import ClusterStatus, ManagedJobStatus, Wanted
from stix.recovery.decide import decide
from stix.recovery.replacement import Replacement, ranks_text
from stix.recovery.situation import Candidate, Decision, Verb

__all__ = ["advance_task", "end_held", "take_late_success"]

_LOG_SECONDS = 60.0
"""How long a cluster whose run has ended is kept for the rest of its log."""
_MOVE_SECONDS = 90.0
"""How long a run that is given up for a better place has to store its work."""
_DECISION_LEAD = 90.0
"""A decision is due so long before the policy's last moment: the sweep comes every minute."""
_BUDGET_SECONDS = 900.0
"""How often a job that waits for a budget looks."""
_PLACES_KEPT = 50


def advance_task(draft: Draft, index: int) -> bool:
    """True where it launched or ran the task again: then the whole step is written. Raises
    ``VersionConflictError``."""
    task = draft.task(index)
    if task.status.terminal or not may_begin(draft.job.tasks, task):
        return False
    if task.began_at is None:
        draft.change_task(index, began_at=draft.now)
    if task.cluster_id and task.cluster_job:
        seen = observe(draft.world, draft.job.workspace, task)
        if not task.replace_by or seen.finding is Finding.SUCCEEDED:
            _take_in(draft, index, seen)
    task = draft.task(index)
    if task.status.terminal:
        return False
    if task.replace_by:
        begun = replace(draft, index)
        if not isinstance(begun, str):
            return begun
        _move_whole(draft, index, begun)
    if draft.now < task.not_before:
        draft.look_at(task.not_before)
        return False
    if task.cluster_id and not task.cluster_job:
        cluster, _ = cluster_and_job(draft.world, draft.job.workspace, task.cluster_id, 1)
        if cluster is not None and cluster.status is ClusterStatus.UP and cluster.wanted is Wanted.UP:
            return repeat_run(draft, index, cluster)
        _lost(draft, index, Seen(Finding.LOST, "its cluster is not up any more", task.place))
    if draft.job.pool:
        return take_seat(draft, index)
    return _decide(draft, index)


def let_go(draft: Draft, index: int, reason: str, *, seconds: float, lost: bool = False) -> None:
    """Give the held cluster up; it is taken down once its run has ended, within ``seconds`` in any case.
    ``lost``: its machines were taken or died."""
    task = draft.task(index)
    if not task.cluster_id:
        return
    if task.spot:
        remember_end(draft.world, draft.job.workspace, task, lost=lost)
    leaving = Leaving(
        cluster_id=task.cluster_id,
        cluster_job=task.cluster_job,
        until=draft.now + seconds,
        reason=reason,
        kept=bool(draft.job.pool),
        task=index,
    )
    draft.change(leaving=(*draft.job.leaving, leaving))
    draft.look_at(leaving.until)
    draft.change_task(
        index, cluster_id="", cluster_name="", cluster_job=0, settled=False, replacing=(), replace_by=0.0
    )


def end_held(draft: Draft, index: int, reason: str, *, seconds: float | None = None) -> None:
    """Ask the agent to end the run that the task holds, with its grace, and let its cluster go: at the latest
    in ``seconds``, which are else what its grace and the storing of its work may take."""
    task = draft.task(index)
    if not task.cluster_id:
        return
    cluster, run = cluster_and_job(draft.world, draft.job.workspace, task.cluster_id, task.cluster_job)
    up = cluster is not None and cluster.takes_commands
    if cluster is not None and up and run is not None:
        end_run(draft, cluster, run)
    most = draft.job.cancel_grace + STORE_SECONDS if seconds is None else seconds
    let_go(draft, index, reason, seconds=most if up else 0.0)


def take_late_success(draft: Draft, index: int) -> None:
    """A run that the task had moved on from, as one whose machine was about to be taken, got done after all:
    the task has, and what it holds meanwhile ends."""
    if draft.task(index).status.terminal:
        return
    end_held(draft, index, "an earlier run has succeeded")
    draft.change_task(index, exit_code=0)
    draft.end_task(index, ManagedJobStatus.SUCCEEDED, "")


def end_run(draft: Draft, cluster: Cluster, run: Job) -> None:
    """Ask the agent to end a run: it tells the task, waits for its grace, stores its work."""
    if not (run.status.terminal or run.cancel_requested):
        cancel(draft.world, cluster, [run.id], every=False, grace=draft.job.cancel_grace)


def _take_in(draft: Draft, index: int, seen: Seen) -> None:
    """What the run's state means for the task."""
    task = draft.task(index)
    where = {"place": seen.place, "spot": seen.spot}
    match seen.finding:
        case Finding.STARTS:
            draft.change_task(index, reason=seen.reason, **where)
            draft.look_at(draft.now + STARTING_SECONDS)
        case Finding.RUNS:
            _runs(draft, index, seen)
        case Finding.SUCCEEDED:
            draft.change_task(index, exit_code=0, started_at=_started_at(task, seen), **where)
            let_go(draft, index, "its job has ended", seconds=_LOG_SECONDS)
            draft.end_task(index, ManagedJobStatus.SUCCEEDED, "")
        case Finding.FAILED:
            _failed(draft, index, seen)
        case Finding.LOST:
            _lost(draft, index, seen)
        case Finding.REFUSED | Finding.HOPELESS if task.replacing:
            _move_whole(draft, index, seen.reason)
        case Finding.REFUSED:
            pause = refusal_pause(task)
            let_go(draft, index, seen.reason, seconds=0.0)
            draft.change_task(
                index, refusals=task.refusals + 1, not_before=draft.now + pause, reason=seen.reason
            )
            draft.say("JobLaunchRefused", seen.reason, task=index)
        case Finding.HOPELESS:
            let_go(draft, index, seen.reason, seconds=0.0)
            draft.end_task(index, ManagedJobStatus.FAILED_PRECHECKS, seen.reason)
        case Finding.TROUBLE:
            _trouble(draft, index, seen)


def _started_at(task: JobTask, seen: Seen) -> float | None:
    """When the task first ran; a short run is over before anybody looked at it."""
    return task.started_at or (None if seen.job is None else seen.job.started_at)


def _runs(draft: Draft, index: int, seen: Seen) -> None:
    task = draft.task(index)
    if task.settled:
        return
    draft.change_task(
        index,
        status=ManagedJobStatus.RUNNING,
        reason="",
        place=seen.place,
        spot=seen.spot,
        settled=True,
        replacing=(),
        lost=False,
        refusals=0,
        started_at=_started_at(task, seen) or draft.now,
    )
    market = "spot" if seen.spot else "on-demand"
    name = "JobStarted" if task.started_at is None else "JobRecovered"
    replaced = f"replaced {ranks_text(task.replacing)} in {seen.place}; " if task.replacing else ""
    draft.say(name, f"{replaced}it runs on {market} machines", task=index, place=seen.place)


def _failed(draft: Draft, index: int, seen: Seen) -> None:
    """An error of the task's own: repeated on the same machines where that was asked for."""
    task, run = draft.task(index), seen.job
    assert run is not None
    code = run.exit_code
    again, counts = restarts(task, code)
    words = seen.reason or f"exit code {code}"
    if not again:
        started_at = _started_at(task, seen)
        draft.change_task(index, exit_code=code, started_at=started_at, place=seen.place, spot=seen.spot)
        let_go(draft, index, "its job has failed", seconds=_LOG_SECONDS)
        draft.end_task(index, ManagedJobStatus(str(run.status)), words)
        return
    pause = restart_pause(task, (run.ended_at or draft.now) - (run.started_at or draft.now))
    draft.change_task(
        index,
        status=ManagedJobStatus.RECOVERING,
        reason=f"{words}; it is run again",
        cluster_job=0,
        settled=False,
        replacing=(),
        restarts=task.restarts + 1,
        errors=task.errors + counts,
        not_before=draft.now + pause,
        exit_code=code,
    )
    draft.say("JobRestarting", f"{words}; it is run again", task=index, place=seen.place)


def _lost(draft: Draft, index: int, seen: Seen) -> None:
    """Its machines are gone, or go soon: the job moves on at once, or has those replaced that are lost."""
    task = draft.task(index)
    gang = None if task.replacing else standing(draft, index)
    verdict = None if gang is None else judge(draft, index, gang)
    if task.replacing:
        verdict = Replacement(f"a machine was lost while {ranks_text(task.replacing)} had to be replaced")
    place = seen.place or task.place
    lost_at = {**task.lost_at, place: draft.now}
    newest = dict(sorted(lost_at.items(), key=lambda entry: -entry[1])[:_PLACES_KEPT])
    grace = 0.0 if seen.goes_at is None else max(seen.goes_at - draft.now, 1.0)
    if verdict is None or not verdict.ranks:
        let_go(draft, index, seen.reason, seconds=grace, lost=True)
    draft.change_task(
        index,
        status=ManagedJobStatus.RECOVERING,
        reason=seen.reason,
        lost=True,
        last_place=place,
        lost_at=newest,
        recoveries=task.recoveries + 1,
        troubles=0,
    )
    draft.say("JobPreempted", seen.reason, task=index, place=place)
    if gang is not None and verdict is not None and verdict.ranks:
        _end_for_replacement(draft, index, verdict, gang, within=grace)
    elif verdict is not None:
        _say_moves_whole(draft, index, verdict.reason, place)


def _end_for_replacement(
    draft: Draft, index: int, verdict: Replacement, gang: Standing, *, within: float
) -> None:
    """The run ends on all machines of the gang, ``within`` seconds; then the lost ones are replaced."""
    task = draft.task(index)
    if task.spot:
        remember_end(draft.world, draft.job.workspace, task, lost=True)
    if gang.cluster.takes_commands:
        end_run(draft, gang.cluster, gang.run)
    draft.change_task(
        index,
        reason=verdict.reason,
        decision=verdict.reason,
        decided_at=draft.now,
        replacing=verdict.ranks,
        replace_by=draft.now + within,
        held_since=draft.now,
        settled=False,
    )
    draft.say("JobRecovering", verdict.reason, task=index, place=task.place)


def _move_whole(draft: Draft, index: int, reason: str) -> None:
    """Lost ranks could not be replaced: the gang gives up what it has left, and goes on as after any loss."""
    task = draft.task(index)
    let_go(draft, index, reason, seconds=0.0)
    draft.change_task(index, reason=reason)
    _say_moves_whole(draft, index, reason, task.place)


def _say_moves_whole(draft: Draft, index: int, reason: str, place: str) -> None:
    draft.say("JobMoving", f"{reason}: the gang moves whole", task=index, place=place)


def _trouble(draft: Draft, index: int, seen: Seen) -> None:
    """Machines that run did not carry the task out: other machines may, but not for ever."""
    task = draft.task(index)
    let_go(draft, index, seen.reason, seconds=0.0)
    if task.troubles + 1 >= MOST_TROUBLES:
        draft.end_task(index, ManagedJobStatus.FAILED_CONTROLLER, seen.reason)
        return
    draft.change_task(
        index,
        status=ManagedJobStatus.RECOVERING,
        reason=seen.reason,
        troubles=task.troubles + 1,
        recoveries=task.recoveries + 1,
        not_before=draft.now + refusal_pause(task.model_copy(update={"refusals": task.troubles})),
    )
    draft.say("JobRecovering", seen.reason, task=index, place=seen.place)


def _decide(draft: Draft, index: int) -> bool:
    """Ask the policy and do what it says. True where that launched."""
    task = draft.task(index)
    if task.cluster_id and task.deadline_at is None:
        return False  # without a deadline nothing is given up that works
    if task.ends_at is not None and not task.cluster_id:
        draft.look_at(draft.now)
        return False  # what it served has ended
    world, job = draft.world, draft.job
    asked = read_task(read_request(world, job, task), managed=True, uploaded=False)
    offers = candidates(world, asked, task)
    if job.connected and not task.cluster_id:
        offers = _with_group(draft, index, offers)
    terms = terms_of(task)
    done = 0.0 if task.deadline_at is None else work_done(world, job.workspace, job.id, task)
    seen = with_history(draft, index, terms, offers, observations(task, done))
    decision = decide(terms, seen, offers, draft.now)
    draft.change_task(index, decided_at=draft.now, **_line(decision))
    if decision.reason != task.decision:
        draft.change_task(index, decision=decision.reason)
    if decision.look_again_at is not None:
        lead = _DECISION_LEAD if task.deadline_at is not None else 0.0
        draft.look_at(max(decision.look_again_at - lead, draft.now + 5.0))
    match decision.action:
        case Verb.KEEP | Verb.FINISH:
            return False
        case Verb.WAIT:
            _give_up_machines(draft, index, decision.reason)
            status = ManagedJobStatus.PENDING if task.started_at is None else ManagedJobStatus.RECOVERING
            draft.change_task(index, status=status, reason=decision.reason)
            return False
        case Verb.GIVE_UP:
            let_go(draft, index, decision.reason, seconds=0.0)
            draft.end_task(index, ManagedJobStatus.FAILED_NO_RESOURCE, decision.reason)
            return False
        case Verb.LAUNCH:
            spent = _budget_spent(draft)
            if spent:
                status = ManagedJobStatus.PENDING if task.started_at is None else ManagedJobStatus.RECOVERING
                if not task.cluster_id:
                    draft.change_task(index, status=status, reason=spent)
                draft.look_at(draft.now + _BUDGET_SECONDS)
                return False
            ranked = affordable(draft, index, launch_order(terms, seen, offers, decision, draft.now))
            if not ranked:
                return False
            _give_up_machines(draft, index, decision.reason)
            return launch_run(draft, index, ranked)


def _with_group(draft: Draft, index: int, offers: list[Candidate]) -> list[Candidate]:
    """The offers in the region of its group. Where all go to another one, what others have is let go."""
    there, leaving = in_one_region(draft, index, offers)
    for other in leaving:
        reason = "the group goes where all of its tasks find a place"
        let_go(draft, other.index, reason, seconds=0.0)
        draft.change_task(other.index, status=ManagedJobStatus.PENDING, reason=reason)
        draft.say("JobMoving", reason, task=other.index, place=other.place)
    return there


def _budget_spent(draft: Draft) -> str:
    """Why nothing new may be started this month; empty where it may. What runs goes on."""
    try:
        check_budget(draft.world, draft.job.workspace)
    except ForbiddenError as error:
        return error.message
    return ""


def _line(decision: Decision) -> dict[str, Any]:
    if decision.line is None:
        return {}
    return {"line_at": decision.line.at, "line_done": decision.line.done}


def _give_up_machines(draft: Draft, index: int, reason: str) -> None:
    """What is held is given up for a better place, or for none: its run stores its work and ends."""
    task: JobTask = draft.task(index)
    if not task.cluster_id:
        return
    end_held(draft, index, reason, seconds=_MOVE_SECONDS)
    draft.change_task(index, last_place=task.place, lost=False, reason=reason)
    draft.say("JobMoving", reason, task=index, place=task.place)
