"""A cloud of machines that change their state by a clock which a test moves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stix.model.errors import NoCapacityError, UnavailableError
from stix.model.offer import Offer
from stix.ports.compute import GangRequest, Machine, MachineState, Place

START = 1_800_000_000.0


class FakeClock:
    def __init__(self) -> None:
        self.moment = START

    def now(self) -> float:
        return self.moment


@dataclass
class FakeMachine:
    """A machine on its way from ``state`` to ``target``, where it arrives at ``arrives_at``."""

    id: str
    tags: dict[str, str]
    join_token: str
    state: MachineState
    target: MachineState
    arrives_at: float
    reason: str = ""
    ended_at: float = 0.0


class FakeCompute:
    """A cloud that holds real machine state. ``refusals`` are raised by the next creations, one each, and
    ``start_refusals`` by the next starts; zones that are ``full`` refuse always.

    ``lag`` is how long a change of state takes, in seconds of the fake clock.
    """

    cloud = "fake"

    def __init__(self, clock: FakeClock, offers: Sequence[Offer]):
        self.machines: dict[str, FakeMachine] = {}
        self.gangs: dict[str, list[str]] = {}
        self.requests: list[GangRequest] = []
        self.refusals: list[Exception] = []
        self.start_refusals: list[Exception] = []
        self.full: set[str] = set()
        self.lost_answers = 0
        self.held: set[str] = set()
        self.lag = 0.0
        self.calls: list[str] = []
        self._clock = clock
        self._offers = list(offers)

    def offers(self) -> list[Offer]:
        return list(self._offers)

    def create(self, request: GangRequest) -> list[str]:
        self.calls.append("create")
        if request.token in self.gangs:
            if self.lost_answers:
                self.lost_answers -= 1
                raise UnavailableError("The answer was lost.")
            return list(self.gangs[request.token])
        if self.refusals:
            raise self.refusals.pop(0)
        if request.offer.zone in self.full:
            raise NoCapacityError("full")
        self.requests.append(request)
        ids = [f"m-{len(self.machines) + n}" for n in range(request.count)]
        for machine_id in ids:
            self.machines[machine_id] = FakeMachine(
                machine_id,
                dict(request.tags),
                request.join_token,
                MachineState.PENDING,
                MachineState.RUNNING,
                self._clock.now() + self.lag,
            )
        self.gangs[request.token] = ids
        self.held.add(request.token)
        if self.lost_answers:
            self.lost_answers -= 1
            raise UnavailableError("The answer was lost.")
        return list(ids)

    def describe(self, place: Place, machine_ids: Sequence[str]) -> list[Machine]:
        self.calls.append("describe")
        return [self._seen(machine_id) for machine_id in machine_ids]

    def terminate(self, place: Place, machine_ids: Sequence[str]) -> None:
        self.calls.append("terminate")
        self._move(machine_ids, MachineState.TERMINATING, MachineState.TERMINATED)

    def list_tagged(self, place: Place, deployment: str) -> Iterator[Machine]:
        self.calls.append("list_tagged")
        for machine_id in list(self.machines):
            seen = self._seen(machine_id)
            if seen.tags["stix-deployment"] == deployment and seen.state is not MachineState.TERMINATED:
                yield seen

    def release(self, place: Place, token: str) -> None:
        self.calls.append("release")
        self.held.discard(token)

    def identity(self) -> str:
        return "fake account"

    def stop(self, place: Place, machine_ids: Sequence[str]) -> None:
        self.calls.append("stop")
        self._move(machine_ids, MachineState.STOPPING, MachineState.STOPPED)

    def start(self, place: Place, machine_ids: Sequence[str]) -> None:
        self.calls.append("start")
        if self.start_refusals:
            raise self.start_refusals.pop(0)
        self._move(machine_ids, MachineState.PENDING, MachineState.RUNNING)

    def alive(self) -> list[str]:
        return [m for m in self.machines if self._seen(m).state is not MachineState.TERMINATED]

    def state(self, machine_id: str) -> MachineState:
        return self._seen(machine_id).state

    def become(
        self, machine_id: str, state: MachineState, reason: str = "", *, ended_at: float = 0.0
    ) -> None:
        """Something outside the control plane changed a machine; ``ended_at``: where this cloud says when."""
        machine = self.machines[machine_id]
        machine.state = machine.target = state
        machine.reason, machine.ended_at = reason, ended_at

    def _move(self, machine_ids: Sequence[str], through: MachineState, target: MachineState) -> None:
        for machine_id in machine_ids:
            machine = self.machines.get(machine_id)
            if machine is None or self._seen(machine_id).state is MachineState.TERMINATED:
                continue
            if machine.target is not target:
                machine.state, machine.target = through, target
                machine.arrives_at = self._clock.now() + self.lag

    def _seen(self, machine_id: str) -> Machine:
        machine = self.machines.get(machine_id)
        if machine is None:
            return Machine(machine_id, MachineState.TERMINATED, {})
        if machine.arrives_at <= self._clock.now():
            machine.state = machine.target
        return Machine(
            machine_id,
            machine.state,
            dict(machine.tags),
            reason=machine.reason,
            ended_at=machine.ended_at,
        )
