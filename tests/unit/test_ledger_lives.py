"""The ledger equals the machines' time, whatever people, clouds and deaths of the control plane do."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

from stix.application import want
from stix.application.ledger import entries_since
from stix.application.records import child_records
from stix.model.cluster import Intent
from stix.model.errors import NoCapacityError, StixError, UnavailableError
from stix.model.offer import Offer
from stix.ports.compute import GangRequest, MachineState, Place
from tests.unit.crashing import CrashPoints, MortalControlPlane
from tests.unit.fake_compute import FakeClock, FakeCompute
from tests.unit.world import ANN, WORKSPACE

T = TypeVar("T")

STEPS = 40
TOGETHER = 60.0
"""Machines that end within so many seconds are entered as if they had ended at once."""


class SeldomDeaths(CrashPoints):
    """The process dies at one moment in a hundred, while ``on``."""

    def __init__(self, chance: random.Random):
        super().__init__()
        self.on = True
        self._chance = chance

    def pass_by(self, where: str) -> None:
        self.at = self.passed if self.on and self._chance.random() < 0.01 else None
        super().pass_by(where)


class TimedCompute(FakeCompute):
    """Knows how long each machine ran, and says in whole seconds since when it does not.

    While there is ``trouble``, that share of the calls fails, half of them after their effect, or after part
    of it.
    """

    def __init__(self, clock: FakeClock, offers: Sequence[Offer]):
        super().__init__(clock, offers)
        self.chance = random.Random()
        self.trouble = 0.0
        self.seconds: dict[str, float] = defaultdict(float)
        self.ended_by_themselves: set[str] = set()
        self.history: dict[str, list[tuple[float, str]]] = defaultdict(list)
        self._since: dict[str, float] = {}

    def create(self, request: GangRequest) -> list[str]:
        return self._troubled(lambda: self._created(request))

    def _created(self, request: GangRequest) -> list[str]:
        made = super().create(request)
        for machine in made:
            if machine not in self._since and machine not in self.seconds:
                self._since[machine] = self._clock.now()
                self.history[machine].append((self._clock.now(), "made"))
        return made

    def terminate(self, place: Place, machine_ids: Sequence[str]) -> None:
        self._troubled(lambda: FakeCompute.terminate(self, place, machine_ids))

    def stop(self, place: Place, machine_ids: Sequence[str]) -> None:
        self._troubled(lambda: FakeCompute.stop(self, place, machine_ids))

    def start(self, place: Place, machine_ids: Sequence[str]) -> None:
        if not self.start_refusals and self.chance.random() < self.trouble / 2:
            FakeCompute.start(self, place, machine_ids[:1])
            raise UnavailableError("Only one was started.")
        self._troubled(lambda: FakeCompute.start(self, place, machine_ids))

    def end(self, machine_id: str, state: MachineState) -> None:
        """It ends by itself, or its cloud takes it."""
        self._account([machine_id], state)
        self.ended_by_themselves.add(machine_id)
        self.become(machine_id, state, "by itself", ended_at=self.machines[machine_id].ended_at)

    def running(self) -> list[str]:
        return list(self._since)

    def _troubled(self, work: Callable[[], T]) -> T:
        if self.chance.random() < self.trouble / 2:
            raise UnavailableError("Too many requests.")
        answer = work()
        if self.chance.random() < self.trouble / 2:
            raise UnavailableError("The answer was lost.")
        return answer

    def _move(self, machine_ids: Sequence[str], through: MachineState, target: MachineState) -> None:
        self._account(machine_ids, target)
        super()._move(machine_ids, through, target)

    def _account(self, machine_ids: Sequence[str], target: MachineState) -> None:
        now = self._clock.now()
        for machine_id in machine_ids:
            machine = self.machines[machine_id]
            if machine.target in (target, MachineState.TERMINATED):
                continue
            self.history[machine_id].append((now, str(target)))
            if target is MachineState.RUNNING:
                self._since[machine_id] = now
                machine.ended_at = 0.0
                continue
            machine.ended_at = math.floor(now)
            if machine_id in self._since:
                self.seconds[machine_id] += now - self._since.pop(machine_id)


class TimedControlPlane(MortalControlPlane):
    cloud_type = TimedCompute
    compute: TimedCompute


class Life:
    """What happens, of which a control plane makes what it can, to one cluster after the other."""

    def __init__(self, folder: Path, seed: int):
        self.chance = random.Random(seed)
        self.points = SeldomDeaths(self.chance)
        self.plane = TimedControlPlane(folder, self.points)
        self.cloud = self.plane.compute
        self.cloud.chance = self.chance
        self.happened: Counter[str] = Counter()

    def live(self) -> None:
        things = {
            self.launch: 3,
            self.stop: 3,
            self.start: 4,
            self.down: 1,
            self.machine_stops: 1,
            self.machine_goes: 1,
            self.starts_are_refused: 2,
            self.calls_fail: 2,
            self.nobody_is_there: 2,
        }
        for _ in range(STEPS):
            [thing] = self.chance.choices(list(things), list(things.values()))
            self.happened[thing.__name__] += 1
            thing()
            for _ in range(self.chance.choice((0, 1, 5, 20))):
                self.plane.beat()
        self.points.on = False
        self.cloud.trouble = 0.0
        self.cloud.start_refusals.clear()
        self.down()
        self.plane.until(lambda: not self.cloud.running())
        self.plane.until(lambda: not self.plane.live(), hours=12)

    def launch(self) -> None:
        number = self.chance.randint(1, 3)
        self._ask(lambda key: self.plane.launch(key=key, task={"num_nodes": number}))

    def stop(self) -> None:
        self._ask(lambda key: want.stop_cluster(self.plane.world, ANN, "train", key=key))

    def start(self) -> None:
        self._ask(lambda key: want.start_cluster(self.plane.world, ANN, "train", None, key=key))

    def down(self) -> None:
        self._ask(lambda key: want.take_down(self.plane.world, ANN, "train", purge=False, key=key))

    def machine_stops(self) -> None:
        if running := self.cloud.running():
            self.cloud.end(self.chance.choice(running), MachineState.STOPPED)

    def machine_goes(self) -> None:
        if running := self.cloud.running():
            self.cloud.end(self.chance.choice(running), MachineState.TERMINATED)

    def starts_are_refused(self) -> None:
        number = self.chance.choice((1, 3, 10))
        self.cloud.start_refusals = [NoCapacityError("No such machine is free.") for _ in range(number)]

    def calls_fail(self) -> None:
        self.cloud.trouble = self.chance.choice((0.0, 0.1, 0.5))

    def nobody_is_there(self) -> None:
        self.plane.pass_time(self.chance.choice((30.0, 700.0, 5000.0)))

    def _ask(self, ask: Callable[[str], Any]) -> None:
        key = f"request-{self.happened.total()}"
        try:
            self.plane.survive(lambda: ask(key))
        except StixError:
            self.happened["refused"] += 1

    def wrong(self) -> list[str]:
        """Creations whose machines ran longer or shorter than the ledger says.

        Where the answer of the call that made them was lost, they began at some moment until it was repeated;
        and where none ever came, nobody knows those that ended by themselves.
        """
        entered: dict[str, float] = defaultdict(float)
        said: dict[str, list[str]] = defaultdict(list)
        for entry in entries_since(self.plane.reading, WORKSPACE, 0.0):
            assert entry.ended_at is not None
            entered[entry.token] += entry.count * (entry.ended_at - entry.started_at)
            said[entry.token].append(f"{entry.count}: {entry.started_at} to {entry.ended_at} {entry.reason}")
        wrong = []
        for token, machines in self.cloud.gangs.items():
            ran = sum(self.cloud.seconds[one] for one in machines)
            intent = self._intent(token)
            if not intent.accepted_at and self.cloud.ended_by_themselves & set(machines):
                continue
            unknown = max(0.0, intent.accepted_at - intent.created_at)
            if abs(entered[token] - ran) > (TOGETHER + unknown) * len(machines):
                story = [self.cloud.history[one] for one in machines]
                wrong.append(f"{token}: {entered[token]} s entered, {ran} s seen; {said[token]}; {story}")
        return wrong

    def _intent(self, token: str) -> Intent:
        clusters = {one.tags["stix-cluster"] for one in self.cloud.machines.values()}
        found = (child_records(self.plane.reading, Intent, WORKSPACE, one) for one in clusters)
        return next(one for intents in found for one in intents if one.token == token)


SEEDS = [*range(6), *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(6, 300))]


@pytest.mark.parametrize("seed", SEEDS)
def test_ledger_equals_the_machines_time_and_nothing_is_left(seed: int, tmp_path: Path) -> None:
    life = Life(tmp_path, seed)
    try:
        life.live()
        print(f"{life.plane.deaths} deaths, {dict(life.happened)}")
        assert life.wrong() == []
        assert life.cloud.alive() == []
        assert life.cloud.held == set()
    finally:
        life.plane.close()
