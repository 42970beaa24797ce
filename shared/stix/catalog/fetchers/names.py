"""Accelerators' names: each cloud's own into the catalog's."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

__all__ = ["COMMON", "accelerator_name"]

# Marketing names as the clouds' APIs print them, without maker, case and punctuation. Whole-name matches
# only: a name that is not here is reported and left out, never guessed. An ``a100`` alone is the 40 GB one;
# ``accelerator_name`` tells the 80 GB one by its memory.
# fmt: off
COMMON: Mapping[str, str] = {
    "a2": "A2", "a10": "A10", "a10g": "A10G", "a16": "A16", "a30": "A30", "a40": "A40", "a800 pcie": "A800",
    "a100": "A100", "a100 pcie": "A100", "a100 sxm": "A100", "a100 sxm4": "A100", "a100 pcie 40gb": "A100",
    "a100 sxm 40gb": "A100", "a100 sxm4 40gb": "A100", "a100 80gb": "A100-80GB",
    "a100 80gb pcie": "A100-80GB", "a100 pcie 80gb": "A100-80GB", "a100 sxm 80gb": "A100-80GB",
    "a100 sxm4 80gb": "A100-80GB", "a100x": "A100-80GB",
    "b200": "B200", "b300": "B300", "gb200": "GB200", "gb300": "GB300", "gh200": "GH200",
    "gh200 sxm": "GH200",
    "h100": "H100", "h100 pcie": "H100", "h100 sxm": "H100", "h100 sxm5": "H100", "h100 80gb": "H100",
    "h100 80gb hbm3": "H100", "h100 nvl": "H100-NVL", "h100 mega": "H100-MEGA",
    "h200": "H200", "h200 sxm": "H200", "h200 nvl": "H200",
    "k80": "K80", "l4": "L4", "l40": "L40", "l40s": "L40S", "m60": "M60",
    "p4": "P4", "p40": "P40", "p100": "P100", "t4": "T4", "t4g": "T4g",
    "v100": "V100", "v100 sxm2": "V100", "v100 fhhl": "V100", "v100 sxm2 32gb": "V100-32GB",
    "rtx 3060": "RTX3060", "rtx 3070": "RTX3070", "rtx 3080": "RTX3080", "rtx 3080 ti": "RTX3080-Ti",
    "rtx 3090": "RTX3090", "rtx 3090 ti": "RTX3090-Ti", "rtx 4070": "RTX4070", "rtx 4070 ti": "RTX4070-Ti",
    "rtx 4080": "RTX4080", "rtx 4080s": "RTX4080S", "rtx 4080 super": "RTX4080S", "rtx 4090": "RTX4090",
    "rtx 5070": "RTX5070", "rtx 5080": "RTX5080", "rtx 5090": "RTX5090",
    "rtx 4000": "RTX4000", "rtx 5000": "RTX5000", "rtx 6000": "RTX6000", "rtx 8000": "RTX8000",
    "quadro rtx 6000": "RTX6000", "quadro rtx 8000": "RTX8000",
    "rtx 2000 ada": "RTX2000-Ada", "rtx 4000 ada": "RTX4000-Ada", "rtx 5000 ada": "RTX5000-Ada",
    "rtx 6000 ada": "RTX6000-Ada", "rtx 4000ada": "RTX4000-Ada", "rtx 5000ada": "RTX5000-Ada",
    "rtx 6000ada": "RTX6000-Ada", "rtx 4000 sff ada": "RTX4000-Ada",
    "rtx a2000": "RTXA2000", "rtx a4000": "RTXA4000", "rtx a4500": "RTXA4500", "rtx a5000": "RTXA5000",
    "rtx a6000": "RTXA6000", "rtx pro 4500": "RTXPRO4500", "rtx pro 6000": "RTXPRO6000",
    "rtx pro 6000 s": "RTXPRO6000", "rtx pro 6000 ws": "RTXPRO6000", "rtx pro 6000 wk": "RTXPRO6000",
    "rtx pro server 6000": "RTXPRO6000", "rtx pro 6000 blackwell": "RTXPRO6000",
    "mi25": "MI25", "mi100": "MI100", "mi210": "MI210", "mi250": "MI250", "mi300x": "MI300X",
    "mi300x oam": "MI300X", "mi325x": "MI325X", "mi350x": "MI350X", "mi355x": "MI355X",
}
# fmt: on

_MAKERS = re.compile(r"\b(nvidia|amd|geforce|tesla|instinct|intel)\b")
_BRACKETS = re.compile(r"\([^)]*\)")
_SEPARATORS = re.compile(r"[\s_-]+")
# Between the two sizes that each of these was made in.
_LARGER = {"A100": (60.0, "A100-80GB"), "V100": (24.0, "V100-32GB")}


def accelerator_name(name: str, *, memory_gib: float = 0.0, own: Mapping[str, str] | None = None) -> str:
    """The catalog's name of what a cloud calls ``name``, empty for one that it does not know.

    ``own`` (the cloud's own table, whole names in lower case) is asked before ``COMMON``.
    """
    lowered = name.strip().lower()
    if own is not None and lowered in own:
        return own[lowered]
    plain = _SEPARATORS.sub(" ", _MAKERS.sub(" ", _BRACKETS.sub(" ", lowered))).strip()
    found = COMMON.get(plain) or COMMON.get(plain.removesuffix(" generation").strip()) or ""
    threshold, larger = _LARGER.get(found, (math.inf, found))
    return larger if memory_gib > threshold else found
