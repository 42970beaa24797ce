"""Looks at a machine, says its state, and does the one step that the state asks for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from stix.clouds.local.cgroups import Groups
from stix.clouds.local.claims import Claims
from stix.clouds.local.launcher import last_words
from stix.clouds.local.lifecycle import Step, Verdict, Wanted, judge
from stix.clouds.local.locking import exclusive
from stix.clouds.local.node import kill_all, look, own_processes, tell_to_end
from stix.clouds.local.records import MachineFolders, MachineRecord, RecordError
from stix.model.errors import ProviderError
from stix.ports.compute import Machine, MachineState
from stix.ports.surroundings import Clock

__all__ = ["DEPLOYMENT_TAG", "Reconciler"]

DEPLOYMENT_TAG = "stix-deployment"
_log = logging.getLogger(__name__)


class Reconciler:
    """Moves machines towards what is wanted, one bounded step a call; nothing waits for a process to end.

    ``settle`` and ``end`` belong inside ``changing``; ``describe`` enters it by itself when it has to act.
    """

    def __init__(
        self,
        folders: MachineFolders,
        claims: Claims,
        groups: Callable[[], Groups],
        clock: Clock,
        *,
        deployment: str,
        grace_seconds: float,
    ) -> None:
        self._folders = folders
        self._claims = claims
        self._groups = groups
        self._clock = clock
        self._deployment = deployment
        self._grace_seconds = grace_seconds

    @contextmanager
    def changing(self) -> Iterator[None]:
        """One change at a time over all control planes. Raises ``ProviderError`` when the disk fails."""
        try:
            with exclusive(self._folders.lock):
                yield
            self._folders.empty_trash()
        except (OSError, RecordError) as exc:
            raise ProviderError(
                f"The local machines below {self._folders.root} could not be changed: {exc}.",
                hint="Look at the folder's free space and permissions.",
            ) from exc

    def describe(self, machine_id: str) -> Machine:
        try:
            record = self._folders.read(machine_id)
        except RecordError as exc:
            return self._describe_unreadable(machine_id, exc)
        if record is None:
            return Machine(machine_id, MachineState.TERMINATED, {})
        verdict = self._judge(record)
        if verdict.step is not Step.NOTHING:
            with self.changing():
                verdict = self.settle(machine_id)
        return Machine(machine_id, verdict.state, dict(record.tags), record.address, verdict.reason)

    def settle(self, machine_id: str) -> Verdict:
        """Raises ``RecordError``."""
        record = self._folders.read(machine_id)
        if record is None:
            return Verdict(MachineState.TERMINATED)
        verdict = self._judge(record)
        self._act(record, verdict.step)
        return verdict

    def end(self, machine_id: str, wanted: Wanted, *, at_once: bool = False) -> None:
        """Asks the machine to end by itself, or kills it ``at_once``. Asked again, kills it when time is up.

        An unreadable record stops nobody from ending the machine: its id finds its processes.
        """
        record = self._read_or_guess(machine_id)
        if record is None:
            return
        if record.wanted is Wanted.RUNNING or (
            wanted is Wanted.TERMINATED and record.wanted is Wanted.STOPPED
        ):
            grace = 0.0 if at_once else self._grace_seconds
            record = record.changed(wanted=wanted, escalate_at=self._clock.now() + grace)
            verdict = self._judge(record)
            if verdict.step is not Step.REMOVE:
                # Removing needs no record: it must also work on a full disk.
                self._folders.write(record)
            if not at_once:
                tell_to_end(self._folders.folder(machine_id), record)
        else:
            verdict = self._judge(record)
        self._act(record, verdict.step)

    def _act(self, record: MachineRecord, step: Step) -> None:
        folder = self._folders.folder(record.id)
        match step:
            case Step.NOTHING:
                return
            case Step.KILL:
                kill_all(folder, record)
            case Step.RELEASE:
                self._release(folder, record, only_gpus=True)
                self._folders.write(record.changed(holds=False, launched=True, pid=0, start_mark=""))
            case Step.REMOVE:
                self._release(folder, record, only_gpus=False)
                self._folders.remove(record.id)

    def _release(self, folder: Path, record: MachineRecord, *, only_gpus: bool) -> None:
        self._groups().remove(record.cgroups)
        with self._claims.locked() as ledger:
            ledger.release(folder, only_gpus=only_gpus)

    def _judge(self, record: MachineRecord) -> Verdict:
        folder = self._folders.folder(record.id)
        seen = look(folder, record)
        now = self._clock.now()
        verdict = judge(
            record.wanted, launched=record.launched, seen=seen, escalate_at=record.escalate_at, now=now
        )
        if verdict.step is Step.RELEASE and not record.holds:
            verdict = Verdict(verdict.state, Step.NOTHING, verdict.reason)
        if verdict.state is MachineState.STOPPED and verdict.reason and (words := last_words(folder)):
            verdict = Verdict(verdict.state, verdict.step, f"{verdict.reason}: {words}")
        return verdict

    def _describe_unreadable(self, machine_id: str, error: RecordError) -> Machine:
        _log.warning(
            "A local machine's record is unreadable", extra={"machine_id": machine_id, "error": str(error)}
        )
        record = self._guess(machine_id)
        runs = own_processes(self._folders.folder(machine_id), record)
        state = MachineState.RUNNING if runs else MachineState.STOPPED
        return Machine(machine_id, state, {DEPLOYMENT_TAG: self._deployment}, reason=str(error))

    def _read_or_guess(self, machine_id: str) -> MachineRecord | None:
        try:
            return self._folders.read(machine_id)
        except RecordError:
            return self._guess(machine_id)

    def _guess(self, machine_id: str) -> MachineRecord:
        return MachineRecord(machine_id, launched=True, cgroups=self._groups().paths(machine_id))
