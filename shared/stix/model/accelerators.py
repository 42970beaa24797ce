"""Accelerators by name or by memory, each with a count; and a choice between several."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stix.model.names import did_you_mean
from stix.model.problems import Problem, refuse, refuse_all, shown
from stix.model.quantities import number_text
from stix.model.shapes import at_path

__all__ = [
    "MANUFACTURERS",
    "WELL_KNOWN",
    "Accelerator",
    "AcceleratorChoice",
    "canonical_name",
    "parse_accelerator",
    "parse_accelerators",
]

# fmt: off
WELL_KNOWN = (
    "A10", "A10G", "A16", "A30", "A40", "A100", "A100-80GB", "A2", "A2000", "A4000", "A5000", "A6000",
    "B200", "B300", "GB200", "GB300", "GH200", "H100", "H100-MEGA", "H100-SXM", "H100-NVL", "H200",
    "H200-SXM", "K80", "L4", "L20", "L40", "L40S", "M60", "P4", "P40", "P100", "RTX3060", "RTX3080",
    "RTX3090", "RTX4000", "RTX4000-Ada", "RTX4090", "RTX5000", "RTX5000-Ada", "RTX5090", "RTX6000",
    "RTX6000-Ada", "RTXPRO6000", "T4", "T4g", "V100", "V100-32GB", "MI25", "MI100", "MI200", "MI210",
    "MI250", "MI300X", "MI325X", "MI350X", "MI355X", "Gaudi2", "Gaudi3", "Inferentia", "Inferentia2",
    "Trainium", "Trainium2", "Trainium3",
)
# fmt: on
MANUFACTURERS = ("NVIDIA", "AMD", "Intel", "AWS", "Google")

_CANONICAL = {name.lower(): name for name in WELL_KNOWN}
_MAKERS = {name.lower(): name for name in MANUFACTURERS}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}", re.ASCII)
_COUNT = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?|\.[0-9]{1,6}", re.ASCII)
_BY_MEMORY = re.compile(
    r"(?:([A-Za-z]+):)?([0-9]{1,6}(?:\.[0-9]{1,3})?)(GB|GiB|Gi|G|TB|TiB|Ti|T|MB|MiB|Mi|M)(\+?)",
    re.ASCII | re.IGNORECASE,
)
_GIB = {"m": 1 / 1024, "g": 1.0, "t": 1024.0}
_HINT = (
    'Write a name, or a name and a count: A100, A100:8, L4:0.5 or {A100: 8}; or by memory: 80GB, "80GB+:8".'
)
_LEAST, _MOST = 0.001, 1024
_MOST_CHOICES = 100


@dataclass(frozen=True, slots=True)
class Accelerator:
    """``count`` of one accelerator on each node; below 1 it is a share of one.

    By name, or with an empty ``name`` by its memory: any accelerator (of ``manufacturer``, where that is not
    empty) with ``memory_gib`` of memory exactly, or at least that much.
    """

    name: str
    count: float = 1
    memory_gib: float = 0
    memory_at_least: bool = False
    manufacturer: str = ""

    @property
    def label(self) -> str:
        """What is asked for without its count: ``A100``, ``80GB+``, ``NVIDIA:80GB``."""
        if self.name:
            return self.name
        by_memory = f"{number_text(self.memory_gib)}GB" + "+" * self.memory_at_least
        return f"{self.manufacturer}:{by_memory}" if self.manufacturer else by_memory

    def __str__(self) -> str:
        return f"{self.label}:{number_text(self.count)}"

    def to_config(self) -> dict[str, int | float]:
        return {self.label: int(self.count) if self.count.is_integer() else self.count}


@dataclass(frozen=True, slots=True)
class AcceleratorChoice:
    """At least two accelerators of which one will do: the cheapest, or with ``ordered`` the first that can
    be had."""

    options: tuple[Accelerator, ...]
    ordered: bool = False

    def __str__(self) -> str:
        listed = ", ".join(map(str, self.options))
        return f"[{listed}]" if self.ordered else f"{{{listed}}}"

    def to_config(self) -> list[str] | dict[str, int | float]:
        if self.ordered:
            return [str(one) for one in self.options]
        return {name: count for one in self.options for name, count in one.to_config().items()}


def canonical_name(name: str) -> str:
    """The usual capitalisation of a well-known accelerator; others stay as they were written."""
    folded = name.lower()
    return _CANONICAL.get(folded) or (folded if folded.startswith("tpu-") else name)


def parse_accelerator(value: Any) -> Accelerator:
    """``A100``, ``A100:8``, ``L4:0.5``, ``80GB+``, ``80GB:2``, ``NVIDIA:80GB:8``."""
    if isinstance(value, Accelerator):
        return value
    if not isinstance(value, str):
        raise refuse(f"{shown(value)} is not an accelerator.", _HINT, value=value)
    text = value.strip()
    if _BY_MEMORY.fullmatch(text):
        return _accelerator(text, 1, value=value)
    name, colon, count = text.rpartition(":")
    return _accelerator(name, count, value=value) if colon else _accelerator(text, 1, value=value)


def parse_accelerators(value: Any) -> Accelerator | AcceleratorChoice | None:
    """One accelerator in any form; ``{A100: 8, H100: 8}`` or ``{A100:8, H100:8}`` (any of them),
    ``[A100:8, H100:8]`` (in that order), a set in Python (any of them). Null and empty ones are None."""
    if value is None or isinstance(value, (Accelerator, AcceleratorChoice)):
        return value
    if isinstance(value, Mapping):
        return _choice([(name, name, count) for name, count in value.items()])
    if isinstance(value, (set, frozenset)):
        return _choice([(shown(one), one, None) for one in sorted(value, key=str)])
    if isinstance(value, (list, tuple)):
        return _choice([(index, one, None) for index, one in enumerate(value)], ordered=True)
    return parse_accelerator(value)


def _choice(
    entries: list[tuple[Any, Any, Any]], *, ordered: bool = False
) -> Accelerator | AcceleratorChoice | None:
    """Of ``(key, name, count)``; without a count, ``name`` holds it."""
    options: dict[Accelerator, None] = {}
    problems: list[Problem] = []
    for key, name, count in entries:
        if count is None:
            one, wrong = at_path(parse_accelerator, name, (key,))
        else:
            one, wrong = at_path(_named_and_counted, (name, count), ())
        problems += wrong
        if one is not None:
            options[one] = None
    labels = [one.label for one in options]
    if not ordered and len(set(labels)) < len(labels):
        again = next(label for label in labels if labels.count(label) > 1)
        problems.append(Problem((), f"{again} is in the choice twice.", "Write the counts under any_of."))
    if len(options) > _MOST_CHOICES:
        problems.append(Problem((), f"more than {_MOST_CHOICES} accelerators.", "Name fewer."))
    if problems:
        raise refuse_all(problems)
    if len(options) < 2:
        return next(iter(options), None)
    return AcceleratorChoice(tuple(options), ordered)


def _named_and_counted(pair: tuple[Any, Any]) -> Accelerator:
    name, count = pair
    value = ": ".join(shown(part).strip('"') for part in pair)
    return _accelerator(name, count, value=value)


def _accelerator(name: Any, count: Any, *, value: str) -> Accelerator:
    name = name.strip() if isinstance(name, str) else ""
    by_memory = _BY_MEMORY.fullmatch(name)
    if not by_memory and not _NAME.fullmatch(name):
        raise refuse(f"{shown(value)} has no accelerator's name in front.", _HINT, value=value)
    if isinstance(count, str) and _COUNT.fullmatch(count.strip()):
        count = float(count)
    if isinstance(count, bool) or not isinstance(count, (int, float)) or not _LEAST <= count <= _MOST:
        raise refuse(f"{shown(value)} has no valid count of accelerators.", _HINT, value=value)
    if count > 1 and count != int(count):
        text = f"{shown(value)} asks for a fraction above one accelerator."
        raise refuse(text, "A count above 1 must be a whole number.", value=value)
    if not by_memory:
        return Accelerator(canonical_name(name), float(count))
    maker, size, unit, plus = by_memory.groups()
    if maker and maker.lower() not in _MAKERS:
        hint = did_you_mean(maker, MANUFACTURERS)
        raise refuse(f"{shown(maker)} is no maker of accelerators.", hint, value=value)
    gib = float(size) * _GIB[unit[0].lower()]
    if not 0.5 <= gib <= 10_000:
        raise refuse(f"{shown(value)} is no accelerator's memory.", "Write GB, such as 80GB+.", value=value)
    return Accelerator("", float(count), gib, bool(plus), _MAKERS[maker.lower()] if maker else "")
