"""Accelerators by name and count."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stix.model.problems import refuse, shown
from stix.model.quantities import number_text

__all__ = ["WELL_KNOWN", "Accelerator", "canonical_name", "parse_accelerators"]

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
_CANONICAL = {name.lower(): name for name in WELL_KNOWN}

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}", re.ASCII)
_COUNT = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?|\.[0-9]{1,6}", re.ASCII)
_BY_MEMORY = re.compile(r"([A-Za-z]+:)?[0-9]+(GB|GiB|G)\+?(:.*)?", re.ASCII | re.IGNORECASE)
_HINT = "Write a name, or a name and a count: A100, A100:8, L4:0.5 or {A100: 8}."
_LEAST, _MOST = 0.001, 1024


@dataclass(frozen=True, slots=True)
class Accelerator:
    """``count`` of the accelerator ``name`` on each node; below 1 it is a share of one."""

    name: str
    count: float = 1

    def __str__(self) -> str:
        return f"{self.name}:{number_text(self.count)}"


def canonical_name(name: str) -> str:
    """The usual capitalisation of a well-known accelerator; others stay as they were written."""
    folded = name.lower()
    return _CANONICAL.get(folded) or (folded if folded.startswith("tpu-") else name)


def parse_accelerators(value: Any) -> Accelerator | None:
    """``A100``, ``A100:8``, ``L4:0.5``, ``{A100: 8}``, ``[A100:8]``; null and empty ones are None."""
    if value is None or isinstance(value, Accelerator):
        return value
    if isinstance(value, (Mapping, list, tuple)) and not value:
        return None
    if isinstance(value, (list, tuple)) and len(value) == 1 and isinstance(value[0], str):
        value = value[0]
    elif isinstance(value, (list, tuple)):
        raise refuse(
            "a list of accelerators in the order of preference is not supported yet.", "Keep one of them."
        )
    if isinstance(value, Mapping):
        if len(value) > 1:
            raise refuse("a choice between several accelerators is not supported yet.", "Keep one of them.")
        name, count = next(iter(value.items()))
        return _accelerator(name, 1 if count is None else count, value=f"{name}: {count}")
    if not isinstance(value, str):
        raise refuse(f"{shown(value)} is not an accelerator.", _HINT, value=value)
    if _BY_MEMORY.fullmatch(value.strip()):
        text = f"{shown(value)} asks for an accelerator by its memory, which is not supported yet."
        raise refuse(text, "Name one, such as A100-80GB.", value=value)
    name, colon, count = value.strip().partition(":")
    return _accelerator(name, count if colon else 1, value=value)


def _accelerator(name: Any, count: Any, *, value: str) -> Accelerator:
    if not isinstance(name, str) or not _NAME.fullmatch(name.strip()):
        raise refuse(f"{shown(value)} has no accelerator's name in front.", _HINT, value=value)
    if isinstance(count, str) and _COUNT.fullmatch(count.strip()):
        count = float(count)
    if isinstance(count, bool) or not isinstance(count, (int, float)) or not _LEAST <= count <= _MOST:
        raise refuse(f"{shown(value)} has no valid count of accelerators.", _HINT, value=value)
    if count > 1 and count != int(count):
        text = f"{shown(value)} asks for a fraction above one accelerator."
        raise refuse(text, "A count above 1 must be a whole number.", value=value)
    return Accelerator(canonical_name(name.strip()), float(count))
