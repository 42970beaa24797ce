"""All job ranks of this node: does what the head wants and tells it what is."""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Callable, Dict, List, Optional

from . import statuses
from .files import Json, read_json, write_json
from .phase import remove_folder
from .runner import Runner
from .surroundings import Surroundings

log = logging.getLogger("stix.agent.worker")

Listener = Callable[[Json], None]


class Worker:
    """Messages in: ``want`` (PREPARE, START, CANCEL, FORGET) and ``cluster``. Messages out: ``state``.

    All are idempotent, so that either side may repeat them after a lost connection.
    """

    def __init__(self, around: Surroundings, on_idle_change: Callable[[], None]) -> None:
        self._around = around
        self._on_idle_change = on_idle_change
        self._folder = os.path.join(around.config.state_dir, "jobs")
        self._lock = threading.Lock()
        self._runners: Dict[int, Runner] = {}
        self._listener: Optional[Listener] = None
        self._idle_since: Optional[float] = time.time()
        self._cluster_idle: Optional[float] = None
        self._cluster_known = False

    def resume(self) -> None:
        """Takes up what an earlier agent left; call once, before any message."""
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        for name in os.listdir(self._folder):
            folder = os.path.join(self._folder, name)
            assignment = read_json(os.path.join(folder, "assignment.json"))
            if assignment is None:
                remove_folder(folder)
                continue
            if os.path.exists(os.path.join(folder, "forgotten")):
                self._reopen_log(folder, assignment)
                continue
            runner = Runner(folder, assignment, self._around, self._on_state)
            self._runners[runner.job_id] = runner
        for runner in list(self._runners.values()):
            self._begin(runner)
        self._refresh_idle()
        self._retain()

    def attach(self, listener: Listener) -> None:
        """The head listens from now on; it hears the whole state first."""
        with self._lock:
            self._listener = listener
            states = [runner.state for runner in self._runners.values()]
        for state in states:
            listener(state)

    def detach(self, listener: Listener) -> None:
        with self._lock:
            if self._listener is listener:
                self._listener = None
                self._cluster_known = False

    def handle(self, message: Json) -> None:
        """Never blocks on a job."""
        if message.get("type") == "cluster":
            self._cluster_idle, self._cluster_known = message.get("idle_since"), True
            self._on_idle_change()
        elif message.get("type") == "want":
            self._want(int(message["job"]), str(message["want"]), message)

    def idle_since(self) -> Optional[float]:
        """None while a job is here or, as far as the head has said, anywhere on the cluster."""
        if self._idle_since is None or (self._cluster_known and self._cluster_idle is None):
            return None
        return max(self._idle_since, self._cluster_idle or 0.0) if self._cluster_known else self._idle_since

    def end_all(self, note: str) -> None:
        with self._lock:
            runners = list(self._runners.values())
        for runner in runners:
            runner.cancel(note)

    def preempt(self, note: str, grace: float) -> None:
        """The machine is about to be taken: the tasks of managed jobs are told, ``grace`` seconds ahead."""
        with self._lock:
            runners = list(self._runners.values())
        for runner in runners:
            runner.preempt(note, grace)

    def live_jobs(self) -> int:
        with self._lock:
            return sum(1 for runner in self._runners.values() if not runner.ended)

    def _want(self, job: int, want: str, message: Json) -> None:
        with self._lock:
            runner = self._runners.get(job)
        if runner is None:
            runner = self._unknown(job, want, message)
            if runner is None:
                return
        if want in ("PREPARE", "START") and message.get("go"):
            runner.start()
        elif want == "CANCEL":
            runner.cancel(str(message.get("note") or ""), message.get("grace"))
        elif want == "FORGET" and runner.ended:
            self._forget(runner)
            return
        if runner.ended:
            self._tell(runner.state)

    def _unknown(self, job: int, want: str, message: Json) -> Optional[Runner]:
        if want == "FORGET":
            return None
        if want == "CANCEL" or message.get("known"):
            # Never begun here, or begun and lost with the machine's disk cache: it cannot be begun again.
            lost = want != "CANCEL"
            self._tell(
                {
                    "type": "state",
                    "job": job,
                    "state": statuses.ENDED,
                    "outcome": "FAILED_DRIVER" if lost else "CANCELLED",
                    "reason": "the node restarted and lost the job" if lost else "",
                    "code": None,
                    "ended_at": time.time(),
                }
            )
            return None
        assignment: Json = message["assignment"]
        folder = os.path.join(self._folder, f"{job}-{assignment['rank']}")
        os.makedirs(folder, mode=0o700, exist_ok=True)
        write_json(os.path.join(folder, "assignment.json"), assignment)
        runner = Runner(folder, assignment, self._around, self._on_state)
        with self._lock:
            self._runners[job] = runner
        self._refresh_idle()
        self._begin(runner)
        return runner

    def _begin(self, runner: Runner) -> None:
        """A run of the same task that nobody could end, since its head was lost, ends first."""
        with self._lock:
            older = [one for one in self._runners.values() if one.is_earlier_run(runner) and not one.ended]
        if older:
            threading.Thread(target=self._begin_after, args=(runner, older), daemon=True).start()
        else:
            runner.begin()

    def _begin_after(self, runner: Runner, older: List[Runner]) -> None:
        for one in older:
            one.cancel("a newer run of the task begins")
        while not all(one.ended for one in older):
            time.sleep(self._around.config.tunables.probe_retry)
        runner.begin()

    def _forget(self, runner: Runner) -> None:
        _touch(os.path.join(runner.folder, "forgotten"))
        with self._lock:
            self._runners.pop(runner.job_id, None)
            due = len(self._runners) == 0 or runner.job_id % 25 == 0
        if due:
            self._retain()

    def write_log(self, spec: Json, text: str) -> None:
        """The log of a job that no node ran: one note saying why."""
        folder = os.path.join(self._folder, f"{spec['id']}-0")
        os.makedirs(folder, mode=0o700, exist_ok=True)
        assignment: Json = {"job": spec, "rank": 0, "peers": [], "ips": [], "gpus": []}
        write_json(os.path.join(folder, "assignment.json"), assignment)
        _touch(os.path.join(folder, "forgotten"))
        opened = self._around.shipping.open(folder, int(spec["id"]), 0)
        opened.note(text)
        opened.closing = True
        self._around.shipping.poke()

    def _reopen_log(self, folder: str, assignment: Json) -> None:
        opened = self._around.shipping.open(folder, int(assignment["job"]["id"]), int(assignment["rank"]))
        opened.closing = True
        self._around.shipping.poke()

    def _retain(self) -> None:
        """Keeps the folders of the last jobs, of live ones, and of those whose log is still on its way."""
        names = sorted(os.listdir(self._folder), key=lambda name: -int(name.split("-")[0]))
        for name in names[self._around.config.tunables.kept_jobs :]:
            folder = os.path.join(self._folder, name)
            record = read_json(os.path.join(folder, "log.json")) or {}
            if record.get("acknowledged") and os.path.exists(os.path.join(folder, "forgotten")):
                remove_folder(folder)

    def _on_state(self, state: Json) -> None:
        if state["state"] == statuses.ENDED:
            self._refresh_idle()
        self._tell(state)

    def _tell(self, state: Json) -> None:
        with self._lock:
            listener = self._listener
        if listener is not None:
            listener(state)

    def _refresh_idle(self) -> None:
        busy = self.live_jobs() > 0
        if busy == (self._idle_since is None):
            return
        self._idle_since = None if busy else time.time()
        self._on_idle_change()


def _touch(path: str) -> None:
    with open(path, "w", encoding="ascii"):
        pass
