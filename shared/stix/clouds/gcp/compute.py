"""``GcpCompute``: the cloud ``gcp``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from stix.clouds.gcp.errors import translated
from stix.clouds.gcp.names import deployment_label, machine_names, request_id, token_of
from stix.clouds.gcp.network import close_ports, network_of, open_ports
from stix.clouds.gcp.operations import GangOperations, failure, operations_of
from stix.clouds.gcp.quotas import quotas_of
from stix.clouds.gcp.session import Session
from stix.clouds.gcp.settings import GcpCloud, from_config
from stix.clouds.gcp.shapes import bulk, machine_of
from stix.model.errors import (
    InvalidRequestError,
    NotYetTerminatedError,
    ProviderError,
    StixError,
    ThrottledError,
)
from stix.ports.compute import GangRequest, Machine, MachineState, Place, Quota, Refusal
from stix.ports.surroundings import Clock

__all__ = ["GcpCompute", "connect"]

_PAGE = 500
_TOKENS_A_CALL = 20
_AT_ONCE = 8
_ALIVE = (MachineState.PENDING, MachineState.RUNNING)


def connect(config: Mapping[str, Any], *, deployment: str, clock: Clock) -> GcpCompute:
    """No request is sent, and the SDK is not imported yet."""
    return GcpCompute(from_config(config), deployment=deployment)


class GcpCompute:
    """Implements ``Compute``, ``StopsMachines``, ``HoldsMore`` and ``ReportsQuotas``. A gang is one bulk
    insertion, in the zone that the offer names or in any one of the region's.

    Google accepts it before it knows whether there is room: no machine of a refused one stays, its ids are
    TERMINATED with the reason, and ``create`` with the same token raises it. The idempotency key makes the
    operation findable for as long as Google keeps operations (two weeks and more).
    """

    cloud = "gcp"

    def __init__(self, settings: GcpCloud, *, deployment: str) -> None:
        self._settings = settings
        self._deployment = deployment
        self._session = Session(settings)
        self._lock = threading.Lock()
        self._network = ""

    # --- Compute ---

    def create(self, request: GangRequest) -> list[str]:
        offer = request.offer
        if offer.cloud != self.cloud or request.count < 1:
            raise InvalidRequestError(f"{request.count} machines of {offer.place!r} cannot be made by gcp.")
        place = Place(self.cloud, offer.region)
        earlier = operations_of(self._session, [request.token])[request.token].creation
        try:
            if earlier is not None:
                self._check_size(request, place)
                return _accepted(earlier, request)
            network = self._ready_network()
            open_ports(self._session, network, request.token, request.ports)
            return _accepted(self._insert(request, network), request)
        except ThrottledError:
            raise
        except ProviderError as error:
            if error.provider_code == "TokenReused":
                raise  # The token's first gang lives.
            # Refused: the attempt is over. A rule that cannot be deleted yet costs nothing.
            with suppress(StixError):
                self.release(place, request.token)
            raise

    def describe(self, place: Place, machine_ids: Sequence[str]) -> list[Machine]:
        instances = self._by_name(place, machine_ids)
        unsure = {token_of(one) for one in machine_ids if one not in instances or _ambiguous(instances[one])}
        operations = operations_of(self._session, unsure - {""})
        return [_describe(one, instances.get(one), operations.get(token_of(one))) for one in machine_ids]

    def terminate(self, place: Place, machine_ids: Sequence[str]) -> None:
        # One that is being deleted is not ready for another deletion.
        self._each(
            list(self._by_name(place, machine_ids).values()), "delete_unary", "notFound", "resourceNotReady"
        )

    def list_tagged(self, place: Place, deployment: str) -> Iterator[Machine]:
        wanted = f'labels.stix-deployment = "{deployment_label(deployment)}"'
        for instances in self._pages(place, wanted):
            unsure = {token_of(one.name) for one in instances if _ambiguous(one)}
            operations = operations_of(self._session, unsure - {""})
            for instance in instances:
                machine = _describe(instance.name, instance, operations.get(token_of(instance.name)))
                if machine.tags.get("stix-deployment") == deployment:
                    yield machine

    def identity(self) -> str:
        project = self._session.call("Projects", "get")
        return f"{self._session.account} in project {project.name}"

    # --- StopsMachines ---

    def stop(self, place: Place, machine_ids: Sequence[str]) -> None:
        """A local SSD's content does not outlive it."""
        found = self._by_name(place, machine_ids)
        ids = [one.id for one in self._described(found) if one.state in _ALIVE]
        scratch = {name for name in ids if any(disk.type_ == "SCRATCH" for disk in found[name].disks)}
        self._each([found[name] for name in ids if name not in scratch], "stop_unary")
        self._each([found[name] for name in ids if name in scratch], "stop_unary", discard_local_ssd=True)

    def start(self, place: Place, machine_ids: Sequence[str]) -> None:
        """A running machine is success. Raises ``NotYetTerminatedError`` while one is still stopping."""
        found = self._by_name(place, machine_ids)
        for name in machine_ids:
            if name not in found:
                raise InvalidRequestError(f"{name} cannot be started: it was terminated.")
        stopped = []
        for machine in self._described(found):
            if machine.state in (MachineState.TERMINATING, MachineState.TERMINATED):
                raise InvalidRequestError(f"{machine.id} cannot be started: it was terminated.")
            if machine.state is MachineState.STOPPING:
                raise NotYetTerminatedError(f"{machine.id} cannot be started yet: it is still stopping.")
            if machine.state is MachineState.STOPPED:
                stopped.append(found[machine.id])
        self._each(stopped, "start_unary")

    # --- HoldsMore, ReportsQuotas ---

    def release(self, place: Place, token: str) -> None:
        if operations_of(self._session, [token])[token].creating:
            raise NotYetTerminatedError("The gang's machines are still being made.")
        close_ports(self._session, token)

    def quotas(self, place: Place) -> list[Quota]:
        return quotas_of(self._session.call("Regions", "get", region=place.region).quotas)

    # --- parts ---

    def _insert(self, request: GangRequest, network: str) -> Any:
        offer = request.offer
        where = {"zone": offer.zone} if offer.zone else {"region": offer.region}
        return self._session.call(
            "Instances" if offer.zone else "RegionInstances",
            "bulk_insert_unary",
            **where,
            request_id=request_id(request.token),
            bulk_insert_instance_resource_resource=bulk(
                request,
                self._settings,
                network=f"projects/{self._session.project}/global/networks/{network}",
                deployment=self._deployment,
            ),
        )

    def _check_size(self, request: GangRequest, place: Place) -> None:
        for instances in self._pages(place, f'labels.stix-token = "{request.token}"'):
            for instance in instances:
                size = instance.labels.get("stix-size")
                if size != str(request.count):
                    raise InvalidRequestError(
                        f"The token has a gang of {size} machines, not of {request.count}.",
                        hint="Every attempt needs a token of its own.",
                        provider_code="TokenReused",
                    )

    def _ready_network(self) -> str:
        with self._lock:
            name = self._network
        if not name:
            name = network_of(self._session, self._settings, deployment=self._deployment)
            with self._lock:
                self._network = name
        return name

    def _described(self, found: Mapping[str, Any]) -> list[Machine]:
        tokens = {token_of(name) for name, instance in found.items() if _ambiguous(instance)}
        operations = operations_of(self._session, tokens - {""})
        return [_describe(name, one, operations.get(token_of(name))) for name, one in found.items()]

    def _by_name(self, place: Place, machine_ids: Sequence[str]) -> dict[str, Any]:
        asked = set(machine_ids)
        tokens = sorted({token_of(one) for one in asked} - {""})
        found: dict[str, Any] = {}
        for start in range(0, len(tokens), _TOKENS_A_CALL):
            some = tokens[start : start + _TOKENS_A_CALL]
            wanted = " OR ".join(f'(labels.stix-token = "{token}")' for token in some)
            for instances in self._pages(place, wanted):
                found |= {one.name: one for one in instances if one.name in asked}
        return found

    def _pages(self, place: Place, wanted: str) -> Iterator[list[Any]]:
        """Instances of the region's zones, by page. A list that is not whole is no list (the SDK cannot ask
        for a partial one): a machine that is not listed would count as ended."""
        with translated():
            found = self._session.client("Instances").aggregated_list(
                request={
                    "project": self._session.project,
                    "filter": wanted,
                    "max_results": _PAGE,
                },
                retry=None,
            )
            for page in found.pages:
                yield [
                    instance
                    for zone, scope in page.items.items()
                    if zone.startswith(f"zones/{place.region}-")
                    for instance in scope.instances
                ]

    def _each(self, instances: Sequence[Any], method: str, *absent: str, **more: Any) -> None:
        def call(instance: Any) -> None:
            zone = str(instance.zone).rpartition("/")[2]
            self._session.call("Instances", method, *absent, zone=zone, instance=instance.name, **more)

        _at_once(call, instances)


def _at_once(call: Callable[[Any], None], instances: Sequence[Any]) -> None:
    """Every call is made, whatever becomes of the others; the first error is raised at the end."""
    if len(instances) < 2:
        for instance in instances:
            call(instance)
        return
    with ThreadPoolExecutor(min(_AT_ONCE, len(instances))) as pool:
        running = [pool.submit(call, instance) for instance in instances]
    for future in running:
        future.result()


def _accepted(operation: Any, request: GangRequest) -> list[str]:
    """The names of the machines that the operation makes. Raises why it failed, where that is known."""
    error = failure(operation)
    if error is not None:
        raise error
    return machine_names(request.token, request.count)


def _ambiguous(instance: Any) -> bool:
    """A machine that is being deleted, or was taken, looks like one that is being stopped."""
    return str(instance.status) not in ("PENDING", "PROVISIONING", "STAGING", "RUNNING", "REPAIRING")


def _describe(name: str, instance: Any, operations: GangOperations | None) -> Machine:
    gang = operations or GangOperations()
    error = gang.error
    taken = gang.preempted.get(name, "")
    if instance is not None:
        reason = taken or ("" if error is None else error.message)
        return machine_of(instance, deleting=name in gang.deleted, preempted=bool(taken), reason=reason)
    if gang.creating and name not in gang.deleted:
        return Machine(name, MachineState.PENDING, {})
    if error is not None:
        return Machine(name, MachineState.TERMINATED, {}, reason=error.message, refusal=Refusal.of(error))
    reason = taken or "Compute Engine does not know it"
    return Machine(name, MachineState.TERMINATED, {}, reason=reason, preempted=bool(taken))
