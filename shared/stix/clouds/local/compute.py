"""``LocalCompute``: the cloud ``local``."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from stix.clouds.local.cgroups import Groups
from stix.clouds.local.claims import Claims, Holder, Ledger, default_claims_folder
from stix.clouds.local.host import Gpu, Host, discover_host
from stix.clouds.local.launcher import Launch, await_started, written_pid
from stix.clouds.local.lifecycle import Wanted
from stix.clouds.local.node import Nodes, is_alive
from stix.clouds.local.processes import start_mark
from stix.clouds.local.reconcile import DEPLOYMENT_TAG, Reconciler
from stix.clouds.local.records import MachineFolders, MachineRecord
from stix.model.errors import (
    InvalidRequestError,
    NoCapacityError,
    NotYetTerminatedError,
    ThrottledError,
)
from stix.model.offer import Offer
from stix.ports.compute import GangRequest, Machine, MachineState, Place
from stix.ports.surroundings import Clock

__all__ = ["CLOUD", "REGION", "LocalCompute"]

CLOUD = "local"
REGION = "local"
_GRACE_SECONDS = 8.0
_STALE_SECONDS = 3600.0


class LocalCompute:
    """Machines are detached process trees with a folder each, under ``root``.

    Implements ``Compute``, ``StopsMachines`` and ``DiscoversOffers``. All is read from the disk and the
    process table: any number of control planes, one after the other or at once, see the same machines.
    ``GangRequest.api_url`` is not used: agents follow ``api_url_file``, because the embedded server may move.
    Ports need no opening here, and ``boot_seconds`` is the control plane's to watch.
    """

    cloud = CLOUD

    def __init__(
        self,
        root: Path,
        *,
        deployment: str,
        archive: Callable[[], Path],
        api_url_file: Path,
        clock: Clock,
        host: Callable[[], Host] = discover_host,
        groups: Callable[[], Groups] = Groups,
        claims_folder: Path | None = None,
        agent_settings: Mapping[str, Any] | None = None,
        grace_seconds: float = _GRACE_SECONDS,
    ) -> None:
        """``grace_seconds``: how long an ending machine may take before it is killed."""
        self._deployment = deployment
        self._clock = clock
        self._folders = MachineFolders(root.resolve())
        self._claims = Claims(claims_folder or default_claims_folder())
        self._host = cache(host)
        self._groups = cache(groups)
        self._nodes = Nodes(archive, api_url_file.resolve(), self._groups, agent_settings=agent_settings)
        self._reconciler = Reconciler(
            self._folders,
            self._claims,
            self._groups,
            clock,
            deployment=deployment,
            grace_seconds=grace_seconds,
        )

    # --- Compute ---

    def create(self, request: GangRequest) -> list[str]:
        self._check(request)
        ids = [self._machine_id(request.token, index) for index in range(request.count)]
        with self._reconciler.changing():
            self._refuse_other_use(request, ids)
            try:
                self._place(request, ids)
                self._run(ids, request.join_token)
            except BaseException:
                self._undo(ids)
                raise
        return ids

    def describe(self, place: Place, machine_ids: Sequence[str]) -> list[Machine]:
        return [self._reconciler.describe(machine_id) for machine_id in machine_ids]

    def terminate(self, place: Place, machine_ids: Sequence[str]) -> None:
        for machine_id in machine_ids:
            with self._reconciler.changing():
                self._reconciler.end(machine_id, Wanted.TERMINATED)

    def list_tagged(self, place: Place, deployment: str) -> Iterator[Machine]:
        """A machine whose record is unreadable is listed under this deployment, whose folder it lies in."""
        for machine_id in self._folders.ids():
            machine = self._reconciler.describe(machine_id)
            if (
                machine.state is not MachineState.TERMINATED
                and machine.tags.get(DEPLOYMENT_TAG) == deployment
            ):
                yield machine

    def identity(self) -> str:
        return "this computer"

    # --- StopsMachines ---

    def stop(self, place: Place, machine_ids: Sequence[str]) -> None:
        for machine_id in machine_ids:
            with self._reconciler.changing():
                self._reconciler.end(machine_id, Wanted.STOPPED)

    def start(self, place: Place, machine_ids: Sequence[str]) -> None:
        """A running machine is success. Raises ``NotYetTerminatedError`` while one is still stopping."""
        for machine_id in machine_ids:
            with self._reconciler.changing():
                self._start_again(machine_id)

    # --- DiscoversOffers ---

    def offers(self) -> list[Offer]:
        """This whole computer, at no charge: once without GPUs, and once more for each kind of GPU it has."""
        host = self._host()
        size = f"{host.cpus:g}cpu-{math.floor(host.memory_gib)}gib"
        kinds = {gpu.name: sum(each.name == gpu.name for each in host.gpus) for gpu in host.gpus}
        now = self._clock.now()
        return [
            Offer(
                cloud=CLOUD,
                region=REGION,
                instance_type=f"{size}-{kind.lower()}:{count}" if kind else size,
                vcpus=host.cpus,
                memory_gib=host.memory_gib,
                accelerator=kind,
                accelerator_count=count,
                price=0,
                price_as_of=now,
                elastic=True,
            )
            for kind, count in {"": 0, **kinds}.items()
        ]

    # --- creating ---

    def _check(self, request: GangRequest) -> None:
        offer, host = request.offer, self._host()
        if offer.cloud != CLOUD or request.count < 1:
            raise InvalidRequestError(
                f"{request.count} machines of {offer.place!r} cannot be made by {CLOUD!r}."
            )
        have = sum(gpu.name == offer.accelerator for gpu in host.gpus)
        for asked, there, what in (
            (offer.vcpus, host.cpus, "CPUs"),
            (offer.memory_gib, host.memory_gib, "GiB of memory"),
            (_gpus_asked(offer), have, f"{offer.accelerator} GPUs"),
        ):
            if asked > there:
                raise NoCapacityError(
                    f"A local node with {asked:g} {what} was asked for; this machine has {there:g}.",
                    hint="Ask for less, or name another cloud in 'infra'.",
                )

    def _refuse_other_use(self, request: GangRequest, ids: Sequence[str]) -> None:
        for machine_id in ids:
            record = self._folders.read(machine_id)
            if record is not None and record.wanted is not Wanted.RUNNING:
                self._reconciler.settle(machine_id)
                record = self._folders.read(machine_id)
            if record is None:
                continue
            if record.wanted is not Wanted.RUNNING:
                raise ThrottledError(
                    f"Local machine {machine_id} of an earlier attempt is ending.", retry_after=1.0
                )
            offer = request.offer
            asked = (request.count, offer.vcpus, offer.memory_gib, offer.accelerator, offer.accelerator_count)
            made = (
                record.count,
                record.cpus,
                record.memory_gib,
                record.accelerator,
                record.accelerator_count,
            )
            if asked != made:
                raise InvalidRequestError(
                    f"The token {request.token!r} was used before for another gang of local machines.",
                    hint="Every attempt needs a token of its own.",
                )

    def _place(self, request: GangRequest, ids: Sequence[str]) -> None:
        """Writes down all machines of the gang before the first process starts."""
        with self._claims.locked() as ledger:
            self._groups().remove_unknown(ledger.machine_ids(), before=self._clock.now() - _STALE_SECONDS)
            self._folders.empty_aside()
            for index, machine_id in enumerate(ids):
                if self._folders.read(machine_id) is not None:
                    continue
                holder = Holder(str(self._folders.folder(machine_id)), request.tags.get("stix-cluster", ""))
                gpus = self._take_gpus(ledger, request.offer.accelerator, _gpus_asked(request.offer), holder)
                address = ledger.take_address(request.token, index, holder)
                self._folders.place(
                    MachineRecord(
                        machine_id,
                        token=request.token,
                        index=index,
                        count=request.count,
                        tags=dict(request.tags),
                        labels=dict(request.labels),
                        created_at=self._clock.now(),
                        address=address,
                        cpus=request.offer.vcpus,
                        memory_gib=request.offer.memory_gib,
                        accelerator=request.offer.accelerator,
                        accelerator_count=request.offer.accelerator_count,
                        gpus=tuple(gpu.facts() for gpu in gpus),
                        limits=self._nodes.limits(address),
                        cgroups=self._groups().paths(machine_id),
                    )
                )

    def _take_gpus(self, ledger: Ledger, kind: str, count: int, holder: Holder) -> list[Gpu]:
        ours = {gpu.index: gpu for gpu in self._host().gpus if gpu.name == kind}
        chosen = ledger.take_gpus(list(ours), count, holder)
        if len(chosen) < count:
            held = ", ".join(
                f"GPU {index} by {other.cluster or other.machine_id}"
                for index, other in ledger.gpu_holders(list(ours)).items()
            )
            raise NoCapacityError(
                f"{count} {kind} GPUs were asked for; {len(chosen)} of {len(ours)} are free. Held: {held}.",
                hint="Stop or end one of these clusters, or name another cloud in 'infra'.",
            )
        return [ours[index] for index in chosen]

    def _run(self, ids: Sequence[str], join_token: str | None) -> None:
        """Starts those of the machines that do not run and were never started; each at most once."""
        launches: dict[str, Launch] = {}
        folders = {machine_id: self._folders.folder(machine_id) for machine_id in ids}
        for machine_id, folder in folders.items():
            record = self._folders.read(machine_id)
            if record is None or record.launched:
                continue
            pid = written_pid(folder)
            if not is_alive(folder, record):
                prepared = self._nodes.prepare(folder, record, join_token)
                if prepared != record:
                    self._folders.write(prepared)
                record = prepared
                started = self._nodes.start(folder, record)
                if started is None:
                    raise ThrottledError(
                        f"Processes of local machine {machine_id} still hold it.", retry_after=1.0
                    )
                launches[machine_id] = started
                pid = started.pid
            self._folders.write(record.changed(launched=True, pid=pid, start_mark=start_mark(pid)))
        await_started(launches, folders)

    def _undo(self, ids: Sequence[str]) -> None:
        for machine_id in ids:
            self._reconciler.end(machine_id, Wanted.TERMINATED, at_once=True)

    def _start_again(self, machine_id: str) -> None:
        verdict = self._reconciler.settle(machine_id)
        record = self._folders.read(machine_id)
        if record is None or record.wanted is Wanted.TERMINATED:
            raise InvalidRequestError(f"Local machine {machine_id} cannot be started: it was ended.")
        if verdict.state is MachineState.STOPPING:
            raise NotYetTerminatedError(
                f"Local machine {machine_id} cannot be started yet: it is still stopping."
            )
        if verdict.state is MachineState.RUNNING:
            return
        folder = self._folders.folder(machine_id)
        with self._claims.locked() as ledger:
            holder = Holder(str(folder), record.tags.get("stix-cluster", ""))
            gpus = self._take_gpus(ledger, record.accelerator, math.ceil(record.accelerator_count), holder)
        self._folders.write(
            record.changed(
                wanted=Wanted.RUNNING,
                launched=False,
                pid=0,
                start_mark="",
                holds=True,
                escalate_at=None,
                gpus=tuple(gpu.facts() for gpu in gpus),
            )
        )
        self._run([machine_id], None)

    def _machine_id(self, token: str, index: int) -> str:
        # The root is part of it, because ids mark processes and control groups of the whole computer.
        digest = hashlib.sha256(
            "\0".join([str(self._folders.root), self._deployment, token]).encode()
        ).hexdigest()
        return f"local-{digest[:12]}-{index}"


def _gpus_asked(offer: Offer) -> int:
    return math.ceil(offer.accelerator_count) if offer.accelerator else 0
