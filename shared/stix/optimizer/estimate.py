"""How long a task takes on a machine, and which accelerators a request by memory means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from stix.optimizer.catalog import AcceleratorFacts
from stix.optimizer.request import Alternative, TaskRequest

__all__ = ["DEFAULT_SECONDS", "expand", "seconds_on"]

DEFAULT_SECONDS = 3600.0
"""Of a task that says nothing: an hour, so that its cost is its hourly price."""
_DEFAULT = "default"
# What a maker calls 80 GB is 79.6 GiB to its driver and 74.5 GiB to a statistician.
_SAME_MEMORY = 0.02


def expand(
    alternative: Alternative, memory: Mapping[str, float], facts: Mapping[str, AcceleratorFacts]
) -> list[Alternative]:
    """One alternative for each accelerator that is meant. ``memory``: GiB by name, of what there is."""
    machine = alternative.machine
    asked = machine.accelerator_by_memory
    if asked is None:
        return [alternative]
    found = []
    for name in sorted(memory):
        known = facts.get(name)
        gib = known.memory_gib if known else memory[name]
        maker = known.manufacturer if known else ""
        fits = gib >= asked * (1 - _SAME_MEMORY)
        if not machine.accelerator_memory_at_least:
            fits = fits and gib <= asked * (1 + _SAME_MEMORY)
        if fits and (not machine.manufacturer or machine.manufacturer.lower() == maker.lower()):
            found.append(
                replace(alternative, machine=replace(machine, accelerator=name, accelerator_by_memory=None))
            )
    return found


def seconds_on(
    task: TaskRequest,
    alternative: Alternative,
    first: Alternative,
    facts: Mapping[str, AcceleratorFacts],
    *,
    by_speed: bool,
) -> float:
    """Seconds of ``task`` on ``alternative``.

    What was said for that accelerator, or for all others; else what was said for another one, in proportion
    to both peaks. A single estimate (or an hour) holds everywhere; ``by_speed`` takes it as said of the
    ``first`` alternative and scales it for the others, where both peaks are known.
    """
    machine, said = alternative.machine, task.seconds_by_accelerator
    name, count = machine.accelerator, machine.accelerator_count
    for key in (f"{name}:{count:g}", name, _DEFAULT):
        if key in said:
            return said[key]
    for key, seconds in said.items():
        other, _, its_count = key.partition(":")
        ratio = _speed(facts, other, float(its_count) if its_count else count, name, count)
        if ratio is not None:
            return seconds * ratio
    seconds = DEFAULT_SECONDS if task.seconds is None else task.seconds
    if by_speed:
        base = first.machine
        ratio = _speed(facts, base.accelerator, base.accelerator_count, name, count)
        return seconds * (1.0 if ratio is None else ratio)
    return seconds


def _speed(
    facts: Mapping[str, AcceleratorFacts], base: str, base_count: float, name: str, count: float
) -> float | None:
    """Time on ``count`` of ``name`` over time on ``base``; None where a peak is not known."""
    one, other = facts.get(base), facts.get(name)
    if one is None or other is None or not (one.tflops and other.tflops and base_count and count):
        return None
    return (one.tflops * base_count) / (other.tflops * count)
