"""Calls of the ``Compute`` port as JSON: the worker that decides is one function, a cloud's SDK another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from stix.model import errors
from stix.model.errors import Blocks, ProviderError, StixError, ThrottledError
from stix.model.offer import Offer
from stix.ports.compute import (
    AgentSource,
    Compute,
    DiscoversOffers,
    GangRequest,
    HoldsMore,
    Machine,
    MachineState,
    Place,
    Quota,
    Refusal,
    ReportsQuotas,
    StopsMachines,
)

__all__ = ["answer_call", "error_from", "machine_from", "request_to", "result_of"]


def request_to(request: GangRequest) -> dict[str, Any]:
    """A gang's request as JSON."""
    body = asdict(request)
    body["offer"] = request.offer.model_dump(mode="json")
    return body


def _request_from(body: Mapping[str, Any]) -> GangRequest:
    agent = body["agent"]
    return GangRequest(
        **{
            **body,
            "offer": Offer.model_validate(body["offer"]),
            "ports": tuple(body["ports"]),
            "agent": None if agent is None else AgentSource(**agent),
        }
    )


def _machine_to(machine: Machine) -> dict[str, Any]:
    # Only what the control plane reads of a machine's tags: a list of thousands must fit one answer.
    tags = {
        name: value for name, value in machine.tags.items() if name.startswith("stix-") or name == "protected"
    }
    return {**asdict(machine), "tags": tags}


def machine_from(body: Mapping[str, Any]) -> Machine:
    told = body.get("refusal")
    refusal = None if told is None else Refusal(told["code"], Blocks(told["blocks"]))
    return Machine(**{**body, "state": MachineState(body["state"]), "refusal": refusal})


def answer_call(compute: Compute, call: Mapping[str, Any]) -> dict[str, Any]:
    """Make the call ``{"call": name, ...}`` and give ``{"result": ...}``, or ``{"error": ...}`` for every
    refusal of the provider. Raises ``ValueError`` for a call that is not one."""
    make = _CALLS.get(str(call.get("call")))
    if make is None:
        raise ValueError(f"call {call.get('call')!r} is not one of {', '.join(sorted(_CALLS))}")
    try:
        return {"result": make(compute, call)}
    except StixError as error:
        return {"error": _error_to(error)}


def result_of(answer: Mapping[str, Any]) -> Any:
    """The result of an answered call. Raises the provider's refusal as the class that it was."""
    if "error" in answer:
        raise error_from(answer["error"])
    return answer["result"]


def _error_to(error: StixError) -> dict[str, Any]:
    body: dict[str, Any] = {
        "class": type(error).__name__,
        "message": error.message,
        "hint": error.hint,
        "code": error.code,
        "details": error.details,
    }
    if isinstance(error, ProviderError):
        body |= {"blocks": error.blocks, "provider_code": error.provider_code}
    if isinstance(error, ThrottledError):
        body["retry_after"] = error.retry_after
    return body


def error_from(body: Mapping[str, Any]) -> StixError:
    """The exception of an ``error`` body; an unknown class becomes the base, ``StixError``."""
    kind = getattr(errors, str(body["class"]), StixError)
    if not (isinstance(kind, type) and issubclass(kind, StixError)):
        kind = StixError
    make: Callable[..., StixError] = kind
    words: dict[str, Any] = {"hint": body.get("hint", "")}
    if issubclass(kind, ThrottledError):
        words |= {"retry_after": body["retry_after"], "provider_code": body.get("provider_code", "")}
        return make(body["message"], **words)
    words |= {"code": body.get("code", ""), "details": body.get("details") or {}}
    if issubclass(kind, ProviderError):
        words |= {"blocks": Blocks(body["blocks"]), "provider_code": body.get("provider_code", "")}
    return make(body["message"], **words)


def _place(call: Mapping[str, Any]) -> Place:
    return Place(**call["place"])


def _describe(compute: Compute, call: Mapping[str, Any]) -> Any:
    return [_machine_to(machine) for machine in compute.describe(_place(call), call["ids"])]


def _list(compute: Compute, call: Mapping[str, Any]) -> Any:
    return [_machine_to(machine) for machine in compute.list_tagged(_place(call), call["deployment"])]


def _stop(compute: Compute, call: Mapping[str, Any]) -> None:
    if isinstance(compute, StopsMachines):
        compute.stop(_place(call), call["ids"])


def _start(compute: Compute, call: Mapping[str, Any]) -> None:
    if isinstance(compute, StopsMachines):
        compute.start(_place(call), call["ids"])


def _release(compute: Compute, call: Mapping[str, Any]) -> None:
    if isinstance(compute, HoldsMore):
        compute.release(_place(call), call["token"])


def _quotas(compute: Compute, call: Mapping[str, Any]) -> list[dict[str, Any]]:
    quotas: list[Quota] = compute.quotas(_place(call)) if isinstance(compute, ReportsQuotas) else []
    return [asdict(quota) for quota in quotas]


def _offers(compute: Compute, _call: Mapping[str, Any]) -> list[dict[str, Any]]:
    offers = compute.offers() if isinstance(compute, DiscoversOffers) else []
    return [offer.model_dump(mode="json") for offer in offers]


_CALLS: dict[str, Callable[[Compute, Mapping[str, Any]], Any]] = {
    "create": lambda compute, call: compute.create(_request_from(call["request"])),
    "describe": _describe,
    "terminate": lambda compute, call: compute.terminate(_place(call), call["ids"]),
    "list_tagged": _list,
    "identity": lambda compute, _call: compute.identity(),
    "stop": _stop,
    "start": _start,
    "release": _release,
    "quotas": _quotas,
    "offers": _offers,
}
