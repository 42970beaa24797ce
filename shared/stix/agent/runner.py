"""One rank of one job on this node, from its files to its exit code: one thread, resumable at every step."""

from __future__ import annotations

import logging
import os
import threading
import time
from functools import partial
from typing import Callable, Dict, Optional

from . import statuses
from .checkpoints import Checkpoints, CheckpointThread, checkpoint_folder
from .environment import job_marker, task_environment
from .files import Json, read_json, write_json
from .job_log import JobLog
from .membership import GoneError, RefusedForGoodError, StoppedError
from .phase import Phase
from .preemption_hook import PreemptionHook
from .preparation import JobEndedError, Preparation
from .surroundings import Surroundings

log = logging.getLogger("stix.agent.runner")


class Runner:
    """Its ``state`` only moves forward; every move is told to ``notify``."""

    def __init__(
        self, folder: str, assignment: Json, around: Surroundings, notify: Callable[[Json], None]
    ) -> None:
        self.job_id = int(assignment["job"]["id"])
        self.folder = folder
        self.assignment = assignment
        self._around = around
        self._notify = notify
        self._go = threading.Event()
        self._cancelled = threading.Event()
        self._cancel_note = ""
        self._cancel_as = "CANCELLED"
        self._managed: Json = assignment["job"].get("managed") or {}
        self._grace: Optional[float] = self._managed.get("grace_seconds")
        self._checkpoints: Optional[Checkpoints] = None
        if self._managed:
            folder_of_job = checkpoint_folder(around.mounts.workdir, self._managed)
            timeout = around.config.tunables.transfer_timeout
            self._checkpoints = Checkpoints(
                around.membership, folder_of_job, self.job_id, int(assignment["rank"]), timeout
            )
        self._lock = threading.Lock()
        self._phase: Optional[Phase] = None
        self._hook: Optional[PreemptionHook] = None
        self._preparation = Preparation(
            assignment, around, self._checkpoints, self._cancelled, self._note, self._advance
        )
        self._marker = job_marker(str(around.membership.identity["cluster_id"]), self.job_id)
        self._state: Json = {"type": "state", "job": self.job_id, "state": statuses.PREPARING}
        self._log: Optional[JobLog] = None
        ended = read_json(os.path.join(folder, "outcome.json"))
        if ended is not None:
            self._state = ended

    @property
    def state(self) -> Json:
        return dict(self._state)

    @property
    def ended(self) -> bool:
        return bool(self._state["state"] == statuses.ENDED)

    def is_earlier_run(self, of: Runner) -> bool:
        """Whether both are runs of one task of a managed job, and this one is the older."""
        mine, other = self._managed, of._managed
        same = bool(mine) and all(mine.get(name) == other.get(name) for name in ("job", "task"))
        return same and int(mine["run"]) < int(other["run"])

    @property
    def _runs(self) -> bool:
        return bool(self._state["state"] == statuses.RUNNING)

    def begin(self) -> None:
        """Opens the log and, unless the job ended before a restart, starts the thread."""
        follow_until = float(self.assignment["job"].get("follow_until") or 0.0)
        self._log = self._around.shipping.open(
            self.folder, self.job_id, int(self.assignment["rank"]), follow_until
        )
        if self.ended:
            self._close_log()
            return
        script = self.assignment["job"].get("preemption")
        if script:
            self._hook = PreemptionHook(str(script), self._script_phase("preemption"), self._log.note)
        if len(self.assignment["peers"]) > 1:
            self._notify(self.state)
        threading.Thread(target=self._run, name=f"job-{self.job_id}", daemon=True).start()

    def start(self) -> None:
        """Every rank is ready: run."""
        self._go.set()

    def cancel(self, note: str, grace: Optional[float] = None) -> None:
        """Ends the job on this node, with ``grace`` seconds from TERM to KILL; returns at once."""
        self._end(note, grace, "CANCELLED")

    def preempt(self, note: str, grace: float) -> None:
        """The machine is about to be taken: a managed job's task is told, and stores what it has done. It did
        not end by itself, whatever its exit code says."""
        if self._managed:
            self._end(note, grace, "FAILED_DRIVER")

    def _end(self, note: str, grace: Optional[float], outcome: str) -> None:
        with self._lock:
            if self._cancelled.is_set() or self.ended:
                return
            self._grace = self._grace if grace is None else grace
            self._cancel_note, self._cancel_as = note, outcome
            phase, grace, hook = self._phase, self._grace, self._hook
            end = None if phase is None else partial(phase.end, grace)
            if phase is not None and hook is not None and outcome == "FAILED_DRIVER" and self._runs:
                hook.ended.clear()
                end = partial(hook.run, self._start_hook, phase, grace or 0.0)
            self._cancelled.set()
            self._go.set()
        if end is not None:
            threading.Thread(target=end, name=f"end-{self.job_id}", daemon=True).start()

    def _start_hook(self, phase: Phase) -> None:
        assert self._hook is not None
        seconds = {"STIX_PREEMPTION_SECONDS": f"{(self._grace or 0.0) / 2:.0f}"}
        self._start(phase, self._hook.script, {**self._environment(phase, "run"), **seconds})

    def _run(self) -> None:
        try:
            ended = self._all_steps()
        except JobEndedError as exc:
            ended = exc
        except (GoneError, StoppedError, RefusedForGoodError):
            return  # The agent ends; the job's folder tells the next one where to go on.
        except OSError as exc:
            log.exception("a job could not be carried out", extra={"job": self.job_id})
            ended = JobEndedError("FAILED_DRIVER", f"the node could not run the job: {exc}")
        if self._cancelled.is_set() and ended.outcome != "SUCCEEDED":
            ended = JobEndedError(self._cancel_as, self._cancel_note or ended.reason, ended.code)
        if (inside := self._preparation.inside) is not None:
            inside.give_back(self._around.mounts.workdir)
        self._record_end(ended)

    def _all_steps(self) -> JobEndedError:
        setup, run = self._script_phase("setup"), self._script_phase("run")
        job = self.assignment["job"]
        names: Json = job.get("hosts") or {}
        if names:
            self._around.hosts.update(int(names["version"]), names["hosts"])
        runs = self._takes_up(run)
        sets_up = not runs and self._takes_up(setup)
        if not runs and not (sets_up and setup.exit_code() is None):
            self._preparation.bring()
        inside = self._preparation.inside
        if names and inside is not None:
            self._around.hosts.enter(inside)
        if not runs:
            self._set_up(setup, begun=sets_up)
            self._await_start()
            if not job.get("run"):
                return JobEndedError("SUCCEEDED", code=0)
            self._launch(run, "run", job["run"])
        code = self._await_run(run)
        if code == 0:
            return JobEndedError("SUCCEEDED", code=0)
        return JobEndedError("FAILED", _exit_words("run", code), code)

    def _script_phase(self, name: str) -> Phase:
        return Phase(self.folder, name, self._marker, self._around.config.tunables)

    def _takes_up(self, phase: Phase) -> bool:
        """Whether an earlier agent began it; it goes on where it was."""
        if not (os.path.exists(phase.path("sh")) and phase.adopt()):
            return False
        self._preparation.recall()
        phase.inside = self._preparation.inside
        return True

    def _await_run(self, run: Phase) -> int:
        """The exit code of the run; a managed job's checkpoints are stored meanwhile, and at its end."""
        if self._checkpoints is None:
            return self._await_phase(run, statuses.RUNNING)
        started_at = os.stat(run.path("sh")).st_mtime
        seconds = float(self._managed.get("checkpoint_seconds") or 300.0)
        keeping = CheckpointThread(self._checkpoints, started_at, seconds)
        try:
            code = self._await_phase(run, statuses.RUNNING)
        except JobEndedError:
            keeping.finish(store=True)
            raise
        # Nobody goes on from a task that has succeeded; of a gang another rank may still fail.
        keeping.finish(store=code != 0 or len(self.assignment["peers"]) > 1)
        return code

    def _set_up(self, setup: Phase, *, begun: bool) -> None:
        script = self.assignment["job"].get("setup")
        if not script:
            return
        setup.inside = self._preparation.inside
        if not begun:
            self._launch(setup, "setup", script)
        code = self._await_phase(setup, statuses.SETTING_UP)
        if code != 0:
            raise JobEndedError("FAILED_SETUP", _exit_words("setup", code), code)

    def _await_start(self) -> None:
        self._advance(statuses.READY)
        self._go.wait()
        if self._cancelled.is_set():
            raise JobEndedError("CANCELLED")

    def _launch(self, phase: Phase, name: str, script: str) -> None:
        environment = self._environment(phase, name)
        with self._lock:
            if self._cancelled.is_set():
                raise JobEndedError("CANCELLED")
            self._start(phase, script, environment)

    def _start(self, phase: Phase, script: str, environment: Dict[str, str]) -> None:
        phase.start(script, self._around.mounts.workdir, environment, self._around.config.confine)

    def _environment(self, phase: Phase, name: str) -> Dict[str, str]:
        """Of a script of the job; the phase learns where it runs."""
        around = self._around
        secrets = self._preparation.secrets() if self.assignment["job"].get("has_secrets") else {}
        inside = phase.inside = self._preparation.inside
        assignment, home = self.assignment, around.config.home_dir
        if inside is not None:
            assignment = {**assignment, "gpus": inside.gpus.inside(assignment.get("gpus") or [])}
            home = inside.home
        environment = task_environment(
            assignment, around.membership.identity, home, name, secrets, contained=inside is not None
        )
        if self._managed:
            workdir = around.mounts.workdir if inside is None else inside.workdir
            environment.setdefault("STIX_CHECKPOINT_DIR", checkpoint_folder(workdir, self._managed))
        if assignment["job"].get("hosts") and inside is None:
            environment.setdefault("STIX_JOBGROUP_HOSTS", around.hosts.path)
            phase.prefix = around.hosts.prefix()
        return environment

    def _await_phase(self, phase: Phase, state: str) -> int:
        with self._lock:
            self._phase = phase
            cancelled = self._cancelled.is_set()
        if cancelled:  # The cancel came before the phase was known to it.
            phase.end(self._grace)
        self._advance(state)
        code = phase.wait()
        if state == statuses.RUNNING and not self._cancelled.is_set():
            phase.end_leftovers()
        if self._cancelled.is_set():
            if self._hook is not None:
                self._hook.ended.wait()  # It may go on though the task has ended, within its time.
            phase.end(self._grace)
            # Only the run has an exit code to tell: that of a setup that was broken off says nothing.
            raise JobEndedError("CANCELLED", code=code if state == statuses.RUNNING else None)
        with self._lock:
            self._phase = None
        return code

    def _advance(self, state: str) -> None:
        if state == statuses.RUNNING:
            started = os.stat(os.path.join(self.folder, "run.sh")).st_mtime
            self._state = {**self._state, "state": state, "started_at": started}
        else:
            self._state = {**self._state, "state": state}
        self._notify(self.state)

    def _record_end(self, ended: JobEndedError) -> None:
        if ended.reason and (ended.code is None or ended.outcome == "CANCELLED"):
            self._note(ended.reason)
        state = {
            **self._state,
            "state": statuses.ENDED,
            "outcome": ended.outcome,
            "reason": ended.reason,
            "code": ended.code,
            "ended_at": time.time(),
        }
        write_json(os.path.join(self.folder, "outcome.json"), state)
        self._state = state
        self._close_log()
        self._notify(self.state)

    def _note(self, line: str) -> None:
        assert self._log is not None
        self._log.note(line)

    def _close_log(self) -> None:
        assert self._log is not None
        self._log.closing = True
        self._around.shipping.poke()


def _exit_words(phase: str, code: int) -> str:
    if code > 128:
        return f"{phase} was killed by signal {code - 128} (exit code {code})"
    return f"{phase} exited with code {code}"
