"""``KubernetesCompute``: the cloud ``kubernetes``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from stix.catalog.fetchers.kubernetes import accelerator_of, is_spot, rows_of, usable
from stix.clouds.kubernetes.contexts import Contexts, ask
from stix.clouds.kubernetes.errors import refusal, refusal_of, translated
from stix.clouds.kubernetes.manifests import (
    ASKED,
    DEPLOYMENT,
    INTENT,
    asked,
    gang_name,
    label_value,
    pod,
    pod_names,
    ports_of,
    secret,
    service,
    token_of,
)
from stix.clouds.kubernetes.reading import TAKINGS, is_unschedulable, machine_of, scale_up_of, taken_of
from stix.clouds.kubernetes.settings import KubernetesCloud, from_config
from stix.model.errors import (
    CredentialsError,
    InvalidRequestError,
    NotYetTerminatedError,
    ProviderError,
    StixError,
    ThrottledError,
    UnavailableError,
)
from stix.model.offer import Offer
from stix.ports.compute import GangRequest, Machine, MachineState, Place
from stix.ports.surroundings import Clock

__all__ = ["KubernetesCompute", "connect"]

_PAGE = 200
_MISMATCH = "TokenMismatch"


def connect(config: Mapping[str, Any], *, deployment: str, clock: Clock) -> KubernetesCompute:
    """No request is sent."""
    return KubernetesCompute(from_config(config), deployment=deployment, clock=clock)


class KubernetesCompute:
    """Implements ``Compute``, ``DiscoversOffers`` and ``HoldsMore``. A machine is a pod, a region a context.

    The names of a gang's pods, secret and service are made from its token: they are its idempotency.
    """

    cloud = "kubernetes"

    def __init__(self, settings: KubernetesCloud, *, deployment: str, clock: Clock) -> None:
        self._settings = settings
        self._deployment = deployment
        self._clock = clock
        self._contexts = Contexts(settings)

    # --- Compute ---

    def create(self, request: GangRequest) -> list[str]:
        offer = request.offer
        if offer.cloud != self.cloud or request.count < 1:
            raise InvalidRequestError(
                f"{request.count} machines of {offer.place!r} cannot be made by kubernetes."
            )
        ports_of(request.ports)
        place = Place(self.cloud, offer.region)
        try:
            pods = self._make(place.region, request)
            refused = next((m for m in self._machines(place.region, pods) if _is_refused(m)), None)
            if refused is not None:
                raise refusal_of(refused.reason)
        except (ThrottledError, UnavailableError):
            raise  # Nobody knows what was made, or it goes on: the same call again finds it.
        except ProviderError as error:
            if error.provider_code == _MISMATCH:
                raise  # The token's first gang lives.
            # Refused: all or nothing.
            with suppress(StixError):
                self._remove(place.region, request.token)
            raise
        return pod_names(request)

    def describe(self, place: Place, machine_ids: Sequence[str]) -> list[Machine]:
        tokens = sorted({token_of(one) for one in machine_ids} - {""})
        known: dict[str, Machine] = {}
        for start in range(0, len(tokens), 20):
            chosen = f"{INTENT} in ({','.join(tokens[start : start + 20])})"
            for machine in self._machines(place.region, self._pods(place.region, chosen)):
                known[machine.id] = machine
        found = [
            known.get(one) or Machine(one, MachineState.TERMINATED, {}, reason="the cluster does not know it")
            for one in machine_ids
        ]
        if not any(map(_may_be_taken, found)):
            return found
        taken = taken_of(self._events_of_takings(place.region))
        return [
            replace(one, preempted=True, reason=taken[one.id])
            if _may_be_taken(one) and one.id in taken
            else one
            for one in found
        ]

    def terminate(self, place: Place, machine_ids: Sequence[str]) -> None:
        core, namespace = self._contexts.core(place.region)
        for name in machine_ids:
            if token_of(name):
                with translated("NotFound"):
                    ask(core.delete_namespaced_pod, name, namespace)

    def list_tagged(self, place: Place, deployment: str) -> Iterator[Machine]:
        for machine in self._machines(place.region, self._pods(place.region, _of(deployment))):
            if machine.state is not MachineState.TERMINATED:
                yield machine

    def identity(self) -> str:
        """Whether pods may be made, in each context."""
        import kubernetes.client as sdk

        told = []
        for context in self._contexts.names():
            core, namespace = self._contexts.core(context)
            asked = {"namespace": namespace, "verb": "create", "resource": "pods"}
            with translated():
                review = ask(
                    sdk.AuthorizationV1Api(core.api_client).create_self_subject_access_review,
                    sdk.V1SelfSubjectAccessReview.model_validate({"spec": {"resourceAttributes": asked}}),
                )
            if not (review.get("status") or {}).get("allowed"):
                raise CredentialsError(
                    f"Pods may not be made in the namespace {namespace} of {context}.",
                    hint="Give the role in docs/clouds/kubernetes.md.",
                    provider_code="Forbidden",
                )
            told.append(f"{context} (namespace {namespace})")
        return ", ".join(told)

    # --- DiscoversOffers ---

    def offers(self) -> list[Offer]:
        """What single nodes can give, each up to its size. A context that does not answer has none; where
        none answers the first error is raised."""
        found: list[Offer] = []
        first: StixError | None = None
        contexts = self._contexts.names()
        for context in contexts:
            try:
                found += self._offers(context)
            except StixError as error:
                first = first or error
        if first is not None and not found:
            raise first
        return found

    def _offers(self, context: str) -> Iterator[Offer]:
        now = self._clock.now()
        nodes = self._nodes(context)
        for spot in (False, True):
            for row in rows_of([node for node in nodes if is_spot(node) is spot], context, now).rows:
                yield Offer(
                    cloud=self.cloud,
                    region=context,
                    zone=row.zone,
                    instance_type=row.instance_type,
                    spot=spot,
                    vcpus=row.vcpus,
                    memory_gib=row.memory_gib,
                    accelerator=row.accelerator,
                    accelerator_count=row.accelerator_count,
                    price=0,
                    price_as_of=now,
                    elastic=True,
                )

    # --- HoldsMore ---

    def release(self, place: Place, token: str) -> None:
        if self._remove(place.region, token):
            raise NotYetTerminatedError(f"Pods of {gang_name(token)} are still ending.")

    # --- parts of a gang ---

    def _make(self, context: str, request: GangRequest) -> list[Mapping[str, Any]]:
        """Everything of the gang, made or found; its pods."""
        import kubernetes.client as sdk

        core, namespace = self._contexts.core(context)
        gpu, models = self._models(context, request.offer)
        with translated("AlreadyExists"):
            script = sdk.V1Secret.model_validate(secret(request, self.cloud))
            ask(core.create_namespaced_secret, namespace, script)
        self._check_token(context, request)
        for name in pod_names(request):
            manifest = sdk.V1Pod.model_validate(pod(request, name, self._settings, gpu=gpu, models=models))
            with translated("AlreadyExists"):
                ask(core.create_namespaced_pod, namespace, manifest)
        pods = list(self._pods(context, f"{INTENT}={request.token}"))
        if request.ports:
            uids = {str(one["metadata"]["name"]): str(one["metadata"]["uid"]) for one in pods}
            opened = sdk.V1Service.model_validate(service(request, self._settings.service_type, uids))
            with translated("AlreadyExists"):
                ask(core.create_namespaced_service, namespace, opened)
        return pods

    def _check_token(self, context: str, request: GangRequest) -> None:
        core, namespace = self._contexts.core(context)
        with translated():
            found = ask(core.read_namespaced_secret, gang_name(request.token), namespace)
        if (found["metadata"].get("annotations") or {}).get(ASKED) != asked(request):
            raise InvalidRequestError(
                f"The token {request.token} was used for another gang.",
                hint="Every attempt needs a token of its own.",
                provider_code=_MISMATCH,
            )

    def _remove(self, context: str, token: str) -> bool:
        """Delete all of a gang; whether pods of it are still there."""
        core, namespace = self._contexts.core(context)
        name = gang_name(token)
        for delete in (core.delete_namespaced_service, core.delete_namespaced_secret):
            with translated("NotFound"):
                ask(delete, name, namespace)
        pods = list(self._pods(context, f"{INTENT}={token}"))
        for one in pods:
            if not one["metadata"].get("deletionTimestamp"):
                with translated("NotFound"):
                    ask(core.delete_namespaced_pod, one["metadata"]["name"], namespace)
        return bool(pods)

    def _models(self, context: str, offer: Offer) -> tuple[str, dict[str, list[str]]]:
        """The resource that pods ask for to get the offer's accelerator, and how its nodes are labelled."""
        resource, models = "", dict[str, list[str]]()
        if not offer.accelerator:
            return resource, models
        for node in self._nodes(context):
            found = accelerator_of(node) if usable(node) else None
            if found is not None and found.name == offer.accelerator and found.label:
                resource = found.resource
                values = models.setdefault(found.label, [])
                if found.told not in values:
                    values.append(found.told)
        if not models:
            raise refusal("Unschedulable", f"no node of {context} has {offer.accelerator} any more")
        return resource, models

    # --- reading ---

    def _machines(self, context: str, pods: Iterable[Mapping[str, Any]]) -> Iterator[Machine]:
        now = self._clock.now()
        for one in pods:
            scale_up = self._scale_up(context, one) if is_unschedulable(one) else ""
            yield machine_of(one, now=now, patience=self._settings.pending_seconds, scale_up=scale_up)

    def _scale_up(self, context: str, pod: Mapping[str, Any]) -> str:
        core, namespace = self._contexts.core(context)
        chosen = f"involvedObject.uid={pod['metadata']['uid']}"
        return scale_up_of(self._pages(core.list_namespaced_event, namespace, field_selector=chosen))

    def _events_of_takings(self, context: str) -> Iterator[Mapping[str, Any]]:
        core, namespace = self._contexts.core(context)
        for reason in TAKINGS:
            chosen = f"involvedObject.kind=Pod,reason={reason}"
            yield from self._pages(core.list_namespaced_event, namespace, field_selector=chosen)

    def _pods(self, context: str, chosen: str) -> Iterator[Mapping[str, Any]]:
        core, namespace = self._contexts.core(context)
        return self._pages(core.list_namespaced_pod, namespace, label_selector=chosen)

    def _nodes(self, context: str) -> list[Mapping[str, Any]]:
        core, _ = self._contexts.core(context)
        return list(self._pages(core.list_node))

    def _pages(
        self, call: Callable[..., Any], *arguments: str, **options: Any
    ) -> Iterator[Mapping[str, Any]]:
        following: str | None = None
        while True:
            with translated():
                page = ask(call, *arguments, **options, limit=_PAGE, _continue=following)
            yield from page.get("items") or ()
            following = (page.get("metadata") or {}).get("continue") or None
            if following is None:
                return


def _of(deployment: str) -> str:
    return f"{DEPLOYMENT}={label_value(deployment)}"


def _is_refused(machine: Machine) -> bool:
    gone = (MachineState.TERMINATING, MachineState.TERMINATED)
    return machine.state in gone and bool(machine.reason) and not machine.preempted


def _may_be_taken(machine: Machine) -> bool:
    """It ends or has ended, and its pod does not say whether somebody else put an end to it."""
    gone = machine.state in (MachineState.TERMINATING, MachineState.TERMINATED)
    return gone and not machine.preempted and bool(token_of(machine.id))
