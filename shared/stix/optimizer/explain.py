"""Why no plan was found, and what would help."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from difflib import get_close_matches

from stix.model.errors import NoOfferError
from stix.optimizer.catalog import Catalog
from stix.optimizer.request import Alternative, Limits, TaskRequest

__all__ = ["machine_text", "nothing_fits", "nothing_within"]

_RELAXED: dict[str, dict[str, object]] = {
    "accelerators": {"accelerator": "", "accelerator_by_memory": None},
    "instance_type": {"instance_type": ""},
    "cpus": {"vcpus": None},
    "memory": {"memory_gib": None},
    "zone": {"zone": ""},
    "region": {"region": "", "zone": ""},
    "infra": {"cloud": "", "region": "", "zone": ""},
    "arch": {"arch": ""},
    "local_disk": {"local_disk_gib": 0.0},
}


def machine_text(alternative: Alternative) -> str:
    """``A100:8, 8+ vCPUs, 64+ GiB, spot, in aws/us-east-1``."""
    machine = alternative.machine
    parts = [machine.instance_type]
    if machine.accelerator or machine.accelerator_by_memory is not None:
        size = machine.accelerator_by_memory
        by_memory = (
            f"{machine.manufacturer} {size or 0:g}GB{'+' * machine.accelerator_memory_at_least}".strip()
        )
        parts.append(f"{machine.accelerator or by_memory}:{machine.accelerator_count:g}")
    if machine.vcpus is not None:
        parts.append(f"{machine.vcpus:g}{'+' * machine.vcpus_at_least} vCPUs")
    if machine.memory_gib is not None:
        each = " for each vCPU" if machine.memory_per_vcpu else ""
        parts.append(f"{machine.memory_gib:g}{'+' * machine.memory_at_least} GiB{each}")
    parts += [machine.arch, "spot" if alternative.spot else ""]
    if alternative.max_hourly_cost is not None:
        parts.append(f"at most ${alternative.max_hourly_cost:g} an hour")
    place = "/".join(part or "*" for part in (machine.cloud, machine.region, machine.zone)).rstrip("/*")
    parts.append(f"in {place}" if place else "")
    return ", ".join(part for part in parts if part) or "any machine"


def nothing_fits(task: TaskRequest, catalog: Catalog, clouds: frozenset[str] | None = None) -> NoOfferError:
    """The error for a task without any offer; it says which single condition stands in the way."""
    asked = " or ".join(machine_text(one) for one in task.alternatives)
    name = f" of task {task.name}" if task.name else ""
    message = f"resources{name}: no offer in the catalog fits {asked}."
    alternative = task.alternatives[0]
    return NoOfferError(message, hint=_hint(alternative, catalog, clouds))


def _hint(alternative: Alternative, catalog: Catalog, clouds: frozenset[str] | None) -> str:
    machine = alternative.machine
    for asked, known, what in (
        (machine.accelerator, catalog.accelerator_memory(), "accelerator"),
        (machine.cloud, {place[0] for place in catalog.places()}, "cloud"),
        (machine.region, {place[1] for place in catalog.places()}, "region"),
        (machine.zone, {place[2] for place in catalog.places()}, "zone"),
    ):
        if asked and asked.lower() not in {one.lower() for one in known}:
            return _unknown(asked, known, what)
    counts = catalog.accelerator_counts(machine.accelerator)
    if counts and not _has_count(machine.accelerator_count, counts):
        listed = ", ".join(f"{count:g}" for count in counts)
        return f"Machines have {listed} of {machine.accelerator}: ask for one of these counts."
    if clouds is not None and not clouds & {place[0] for place in catalog.places()}:
        return "None of the clouds that may be used is in the catalog."
    if alternative.max_hourly_cost is not None:
        cheapest = min(
            (one.price for one in catalog.best_per_region(machine, spot=alternative.spot)), default=None
        )
        if cheapest is not None:
            return f"The cheapest that fits otherwise is ${cheapest:.4g} an hour: raise `max_hourly_cost`."
    if alternative.spot and catalog.best_per_region(machine, spot=False):
        return "There are offers on demand: leave `use_spot` out."
    for field, change in _RELAXED.items():
        relaxed = replace(machine, **change)  # type: ignore[arg-type]
        if relaxed != machine and catalog.best_per_region(relaxed, spot=alternative.spot):
            return f"Without its `{field}` it would have offers: change that first."
    return "Ask for less, or bring newer prices with `stix catalog refresh`."


def _has_count(asked: float, counts: Iterable[float]) -> bool:
    return any(abs(count - asked) <= 0.005 or asked < count <= 1 for count in counts)


def _unknown(asked: str, known: Iterable[str], what: str) -> str:
    by_lower = {one.lower(): one for one in known if one}
    near = get_close_matches(asked.lower(), by_lower, 3, 0.5)
    guess = f" Did you mean {', '.join(by_lower[one] for one in near)}?" if near else ""
    return f"The catalog has no {what} {asked}.{guess}"


def nothing_within(limits: Limits, least_cost: float, least_seconds: float) -> NoOfferError:
    """The error where there are plans, but none within the limits."""
    asked = []
    if limits.max_cost is not None:
        asked.append(f"max_cost ${limits.max_cost:g}")
    if limits.deadline_seconds is not None:
        asked.append(f"deadline in {limits.deadline_seconds / 3600:.3g} h")
    return NoOfferError(
        f"No plan keeps {' and '.join(asked)}.",
        hint=f"The cheapest costs ${least_cost:.4g}; the fastest takes {least_seconds / 3600:.3g} h."
        " Raise the limit that is below it, or ask for other machines.",
    )
