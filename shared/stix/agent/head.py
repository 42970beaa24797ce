"""Rank 0's part: owns the queue, places jobs on nodes, holds gangs together, ends what must end.

One thread owns all jobs. Everything that happens comes in through ``deliver``; what follows is kept on disk
first and then said to the ranks. Ranks are told what is wanted, never what to do next, so all is repeatable.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from typing import Callable, Dict, List, Optional, Protocol, Tuple

from . import statuses
from .files import Json
from .job_table import JobTable
from .plan import Gpu, Room, impossible, plan
from .queued_job import QueuedJob
from .tunables import Tunables

log = logging.getLogger("stix.agent.head")


class Line(Protocol):
    """To one rank; a message may be lost while the line is down."""

    def send(self, message: Json) -> None: ...


class Head:
    """``lines`` makes the line to a rank; ``write_log`` keeps a note as the log of a job that no rank ran."""

    def __init__(
        self,
        table: JobTable,
        num_nodes: int,
        facts: Json,
        line: Callable[[int], Optional[Line]],
        address: Callable[[int], Json],
        write_log: Callable[[Json, str], None],
        on_change: Callable[[], None],
        tunables: Tunables,
        idle_since: float,
    ) -> None:
        self._table = table
        self._num_nodes = num_nodes
        self._facts: Dict[int, Json] = {0: facts}
        self._lost_at: Dict[int, float] = {rank: time.monotonic() for rank in range(num_nodes)}
        self._line, self._address = line, address
        self._write_log = write_log
        self._on_change = on_change
        self._tunables = tunables
        self._events: queue.SimpleQueue[Tuple[str, int, Json]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._jobs: Dict[int, QueuedJob] = {}
        self._dirty: Dict[int, QueuedJob] = {}
        self._outbox: List[Tuple[int, Json]] = []
        self._idle_since: Optional[float] = idle_since
        self._told_idle: object = ()
        for seq, spec, state in table.load():
            job = QueuedJob(seq, spec, state)
            self._jobs[job.id] = job
            if job.placed and not job.ended:
                self._arm(job)

    def deliver(self, kind: str, rank: int, message: Json) -> None:
        """From any thread: "connected", "state" or "lost" of a rank, "told" by the reporter, "stop"."""
        self._events.put((kind, rank, message))

    def accept(self, commands: List[Json]) -> int:
        """Keeps the commands durably, then acts on them; the cursor to acknowledge."""
        now = time.time()
        after = max(int(c["seq"]) for c in commands)
        commands = [c for c in commands if int(c["seq"]) > self._table.after]
        jobs = [(int(c["seq"]), c["job"], {"accepted_at": now}) for c in commands if c.get("type") == "run"]
        graces = {int(c["job_id"]): c.get("grace") for c in commands if c.get("type") == "cancel"}
        cancels = list(graces)
        known = {int(spec["id"]) for _, spec, _ in jobs} | set(self._jobs)
        marked = []
        with self._lock:
            for job_id in cancels:
                job = self._jobs.get(job_id)
                if job is not None and not job.ended:
                    marked.append((job_id, {**job.state(), "cancelled": True}))
                elif job is None and job_id in known:
                    marked.append((job_id, {"accepted_at": now, "cancelled": True}))
        new = self._table.accept(jobs, marked, after)
        for seq, spec, state in jobs:
            if int(spec["id"]) in new:
                self._events.put(("run", seq, {"spec": spec, "state": state}))
        for job_id in cancels:
            self._events.put(("cancel", job_id, {"grace": graces[job_id]}))
        return after

    @property
    def idle_since(self) -> Optional[float]:
        return self._idle_since

    def unreported(self) -> List[Tuple[int, int, Json]]:
        """(job, version, entry) of what the control plane does not know yet."""
        with self._lock:
            return [
                (job.id, job.version, job.report()) for job in self._jobs.values() if job.version > job.told
            ]

    def run(self) -> None:
        """Until "stop" is delivered."""
        wait: Optional[float] = 0.0
        while True:
            events = self._next_events(wait)
            with self._lock:
                for event in events:
                    if event[0] == "stop":
                        return
                    self._take(*event)
                wait = self._advance()
                changed = bool(self._dirty)
                self._keep()
                outbox, self._outbox = self._outbox, []
            for rank, message in outbox:
                line = self._line(rank)
                if line is not None:
                    line.send(message)
            if changed:
                self._on_change()

    def _next_events(self, wait: Optional[float]) -> List[Tuple[str, int, Json]]:
        events = []
        try:
            events.append(self._events.get(timeout=wait) if wait else self._events.get(block=wait is None))
            while True:
                events.append(self._events.get_nowait())
        except queue.Empty:
            return events

    def _take(self, kind: str, number: int, message: Json) -> None:
        if kind == "run":
            job = QueuedJob(number, message["spec"], message["state"])
            self._jobs[job.id] = job
            self._refuse_impossible(job)
        elif kind == "cancel":
            self._cancel(number, message.get("grace"))
        elif kind == "state":
            self._hear(number, message)
        elif kind == "connected":
            self._lost_at.pop(number, None)
            self._facts[number] = message.get("facts") or self._facts.get(number) or {}
            self._say_all(number)
        elif kind == "lost":
            self._lost_at[number] = time.monotonic()
        elif kind == "told":
            job_told = self._jobs.get(number)
            if job_told is not None:
                job_told.told = max(job_told.told, int(message["version"]))
                self._dirty[number] = job_told

    def _refuse_impossible(self, job: QueuedJob) -> None:
        why = impossible(job.demand(time.time()), self._whole_rooms(), self._num_nodes)
        if why:
            self._end_unplaced(job, "FAILED_DRIVER", f"The job can never start: {why}.")

    def _end_unplaced(self, job: QueuedJob, status: str, reason: str) -> None:
        job.end(status, reason, time.time())
        self._dirty[job.id] = job
        if status != "CANCELLED":
            self._write_log(job.spec, reason)

    def _cancel(self, job_id: int, grace: Optional[float]) -> None:
        job = self._jobs.get(job_id)
        if job is None or job.ended or job.cancelled:
            return
        job.cancelled, job.grace = True, grace
        self._dirty[job.id] = job
        if not job.placed:
            self._end_unplaced(job, "CANCELLED", "cancelled before it started")
        elif job.failure is None:
            self._end_ranks(job, "cancelled")

    def _end_ranks(self, job: QueuedJob, note: str) -> None:
        job.ending_at = time.monotonic() + self._tunables.cancel_answer_seconds
        for node in job.waiting_ranks():
            if node in self._lost_at and node not in job.begun:
                job.give_up_on(node)
            else:
                want = {"type": "want", "job": job.id, "want": "CANCEL", "note": note, "grace": job.grace}
                self._outbox.append((node, want))

    def _hear(self, node: int, message: Json) -> None:
        if message.get("type") != "state":
            return
        job = self._jobs.get(int(message["job"]))
        if job is None or job.ended or node not in job.ranks:
            want = "FORGET" if message["state"] == statuses.ENDED else "CANCEL"
            self._outbox.append((node, {"type": "want", "job": message["job"], "want": want, "note": ""}))
            return
        was_ending = job.ending
        if not job.hear(node, message):
            return
        self._dirty[job.id] = job
        if job.ending and not was_ending:
            assert job.failure is not None
            self._end_ranks(job, f"cancelled because {job.failure[1] or 'another rank failed'}")

    def _say_all(self, rank: int) -> None:
        """A rank's line is up: everything that is wanted of it."""
        self._outbox.append((rank, {"type": "cluster", "idle_since": self._idle_since}))
        for job in self._jobs.values():
            if job.placed and not job.ended and job.ranks.get(rank, statuses.ENDED) != statuses.ENDED:
                self._say(job, rank)

    def _say(self, job: QueuedJob, node: int) -> None:
        if job.ending:
            note = job.failure[1] if job.failure else "cancelled"
            self._outbox.append((node, {"type": "want", "job": job.id, "want": "CANCEL", "note": note}))
            return
        addresses = [self._address(other) for other in job.nodes]
        position = job.nodes.index(node)
        assignment = {
            "job": job.spec,
            "rank": position,
            "ips": [str(entry.get("address", "")) for entry in addresses],
            "peers": [{**entry, "rank": i, "node": job.nodes[i]} for i, entry in enumerate(addresses)],
            "gpus": job.gpus[position],
        }
        message = {"type": "want", "job": job.id, "want": "PREPARE", "go": job.go, "assignment": assignment}
        self._outbox.append((node, {**message, "known": node in job.begun}))

    def _advance(self) -> Optional[float]:
        """Whatever is due; seconds until the next moment at which something may be."""
        now = time.monotonic()
        next_at: List[float] = []
        live = [job for job in self._jobs.values() if job.placed and not job.ended]
        for job in live:
            self._advance_placed(job, now, next_at)
        self._schedule()
        self._refresh_idle()
        return max(0.01, min(next_at) - now) if next_at else None

    def _advance_placed(self, job: QueuedJob, now: float, next_at: List[float]) -> None:
        if not job.ending:
            self._check_barrier(job, now, next_at)
            self._check_lost(job, now, next_at)
        if job.ending and job.waiting_ranks():
            if job.ending_at == 0.0:  # The cancel came before a restart.
                self._end_ranks(job, "cancelled")
            for node in job.waiting_ranks():
                due = job.ending_at
                if node in job.begun and node not in self._lost_at:
                    due += self._tunables.lost_rank_seconds  # Its processes may need long to end.
                if now >= due:
                    job.give_up_on(node)
                else:
                    next_at.append(due)
        if not job.waiting_ranks():
            job.settle(time.time())
            self._dirty[job.id] = job
            if job.failure is not None and job.nodes[0] not in job.heard:
                self._write_log(job.spec, job.reason)
            self._outbox += [(node, {"type": "want", "job": job.id, "want": "FORGET"}) for node in job.nodes]
        elif not job.go and not job.ending and job.all_ready():
            job.go = True
            self._dirty[job.id] = job
            start = {"type": "want", "job": job.id, "want": "START", "go": True, "known": True}
            self._outbox += [(node, start) for node in job.nodes]

    def _check_barrier(self, job: QueuedJob, now: float, next_at: List[float]) -> None:
        late = [node for node in job.nodes if node not in job.begun]
        if not late:
            return
        if now < job.barrier_at:
            next_at.append(job.barrier_at)
            return
        # An agent may be stuck though its line is up: the kernel keeps that open.
        silent = [node for node in late if node in self._lost_at or node not in job.heard]
        names = ", ".join(self._name(job, node) for node in silent or late)
        problem = "did not answer" if silent else "did not reach the other ranks"
        seconds = float(job.spec.get("barrier_seconds") or 0)
        self._fail(job, f"{names} {problem} within {seconds:g} s, so the job did not start on any node")
        for node in silent:
            job.give_up_on(node)

    def _check_lost(self, job: QueuedJob, now: float, next_at: List[float]) -> None:
        for node in job.waiting_ranks():
            if node not in self._lost_at or node not in job.begun:
                continue
            due = self._lost_at[node] + self._tunables.lost_rank_seconds
            if now < due:
                next_at.append(due)
                continue
            job.give_up_on(node)
            self._fail(job, f"{self._name(job, node)} has not answered for {now - self._lost_at[node]:.0f} s")
            return

    def _fail(self, job: QueuedJob, reason: str) -> None:
        job.failure = ("FAILED_DRIVER", reason)
        self._dirty[job.id] = job
        self._end_ranks(job, reason)

    def _name(self, job: QueuedJob, node: int) -> str:
        entry = self._address(node)
        place = (
            f"{entry['address']}:{entry['port']}" if entry.get("address") else "it has not joined the cluster"
        )
        return f"rank {job.nodes.index(node)} ({place})"

    def _schedule(self) -> None:
        now = time.time()
        queued = sorted(
            (job for job in self._jobs.values() if not job.placed and not job.ended),
            key=lambda j: (j.seq, j.id),
        )
        if not queued:
            return
        demands = [job.demand(now) for job in queued]
        for assignment in plan(demands, self._free_rooms(), self._tunables.queue_patience):
            job = self._jobs[assignment.job]
            job.place(assignment)
            self._arm(job)
            self._dirty[job.id] = job
            for node in job.nodes:
                self._say(job, node)

    def _arm(self, job: QueuedJob) -> None:
        barrier = job.spec.get("barrier_seconds")
        job.barrier_at = time.monotonic() + float(600.0 if barrier is None else barrier)

    def _whole_rooms(self) -> List[Room]:
        return [_room(rank, facts, rank not in self._lost_at) for rank, facts in self._facts.items()]

    def _free_rooms(self) -> List[Room]:
        rooms = {
            rank: _room(rank, self._facts.get(rank) or self._facts[0], rank not in self._lost_at)
            for rank in range(self._num_nodes)
        }
        for job in self._jobs.values():
            if not job.placed or job.ended:
                continue
            demand = job.demand(0.0)
            for position, node in enumerate(job.nodes):
                if job.ranks[node] != statuses.ENDED:
                    rooms[node] = _less(rooms[node], demand.cpus, min(demand.gpus, 1.0), job.gpus[position])
        return list(rooms.values())

    def _refresh_idle(self) -> None:
        busy = any(not job.ended for job in self._jobs.values())
        if busy:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = time.time()
        if self._told_idle != self._idle_since:
            self._told_idle = self._idle_since
            message = {"type": "cluster", "idle_since": self._idle_since}
            self._outbox += [(rank, message) for rank in range(self._num_nodes)]

    def _keep(self) -> None:
        """Writes what changed, before anyone is told; ended and reported jobs leave the memory."""
        if not self._dirty:
            return
        self._table.save(
            (job.id, job.state(), job.ended and job.told >= job.version) for job in self._dirty.values()
        )
        for job in self._dirty.values():
            if job.ended and job.told >= job.version:
                del self._jobs[job.id]
        self._dirty.clear()


def _room(rank: int, facts: Json, answers: bool) -> Room:
    gpus = tuple(Gpu(int(gpu["index"]), str(gpu.get("name", ""))) for gpu in facts.get("gpus") or [])
    return Room(rank, float(facts.get("cpus") or 0.0), gpus, answers)


def _less(room: Room, cpus: float, share: float, indices: List[int]) -> Room:
    gpus = tuple(Gpu(g.index, g.name, g.free - share) if g.index in indices else g for g in room.gpus)
    return Room(room.rank, room.cpus - cpus, gpus, room.answers)
