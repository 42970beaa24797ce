"""One step of a pool: what it changes is collected, and written in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stix.application.nudge_pool import find_pool, pool_topic
from stix.application.records import put
from stix.application.world import World
from stix.model.pool import Decided, JobPool, PoolWorker
from stix.ports.state_store import VersionConflictError, Write
from stix.ports.surroundings import Event

__all__ = ["PoolDraft"]

_CHECK_SECONDS = 3600.0
"""How often a pool to which nothing happens is looked at."""
_TRIES = 10
_KEPT, _PAST = 60, 20


class PoolDraft:
    """A pool as it was claimed, and as it will be. Times are those of its making."""

    def __init__(self, world: World, pool: JobPool) -> None:
        self.world = world
        self.now = world.clock.now()
        self.pool = pool
        self._said: list[Event] = []
        self._due_at = self.now + _CHECK_SECONDS

    def change(self, **changes: Any) -> None:
        self.pool = self.pool.changed(**changes)

    def change_worker(self, number: int, **changes: Any) -> None:
        """A new status begins now."""
        found = []
        for worker in self.pool.workers:
            if worker.number == number:
                if changes.get("status", worker.status) is not worker.status:
                    changes.setdefault("since", self.now)
                worker = worker.model_copy(update=changes)
            found.append(worker)
        self.change(workers=tuple(found))

    def drop_worker(self, worker: PoolWorker) -> None:
        """It is to go, and the table says so."""
        left = tuple(one for one in self.pool.workers if one.number != worker.number)
        self.change(workers=left, past=(*self.pool.past, worker)[-_PAST:])

    def look_at(self, moment: float) -> None:
        """Somebody must look by then."""
        self._due_at = min(self._due_at, moment)

    def say(self, name: str, message: str, **detail: Any) -> None:
        """Keep a decision for people, and publish it once the step is written."""
        decisions = (*self.pool.decisions, Decided(at=self.now, message=message))
        self.change(decisions=decisions[-_KEPT:])
        told = {"reason": message, **detail}
        self._said.append(Event(name, self.pool.workspace, self.pool.name, self.now, told))

    @property
    def due_at(self) -> float:
        return max(self._due_at, self.now + 1.0)

    def commit(self, also: Sequence[Write] = ()) -> None:
        """Raises ``VersionConflictError``: somebody else decided, and the step is to be taken again."""
        self.write(lambda pool: self.world.store.transact([put(pool), *also]))

    def write(self, act: Callable[[JobPool], Any]) -> None:
        """Let ``act`` write the pool it is given, with what else must be true at once. Where the pool was
        only nudged since it was read, what was decided still holds, and the nudge is kept."""
        due_at = None if self.pool.ended else self.due_at
        for left in reversed(range(_TRIES)):
            pool = self.pool.changed(due_at=due_at, failures=0)
            try:
                act(pool)
            except VersionConflictError:
                if not left or not self._only_nudged():
                    raise
                continue
            self.change(version=self.pool.version + 1)
            break
        for event in self._said:
            self.world.events.publish(event)
        self._said = []
        self.world.wake.wake(pool_topic(self.pool.workspace, self.pool.name))

    def _only_nudged(self) -> bool:
        """Whether nobody decided since; then the draft goes on from what is stored."""
        stored = find_pool(self.world, self.pool.workspace, self.pool.name)
        if stored is None or stored.steps != self.pool.steps or stored.version == self.pool.version:
            return False
        suspects = stored.suspects if stored.asked else ()
        self.change(version=stored.version, asked=stored.asked, suspects=suspects)
        return True
