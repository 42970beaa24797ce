"""The project's quotas of a region, as the control plane counts them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from stix.ports.compute import Quota

__all__ = ["quotas_of"]

_SPOT = "PREEMPTIBLE_"
_UNITS = {"CPUS": "vcpus", "GPUS": "accelerators"}


def quotas_of(found: Iterable[Any]) -> list[Quota]:
    """Those of vCPUs and GPUs. Spot vCPUs have no bound of their own where theirs is 0: they then draw from
    the other ones; spot GPUs have one always."""
    quotas = []
    for quota in found:
        metric = str(quota.metric)
        family = metric.removeprefix(_SPOT)
        unit = _UNITS.get(family.rpartition("_")[2])
        spot = family != metric
        if unit is None or metric.startswith("COMMITTED_") or family.endswith("_ALL_REGIONS"):
            continue
        if spot and unit == "vcpus" and not quota.limit:
            continue
        quotas.append(Quota(family, spot, float(quota.limit), float(quota.usage), unit))
    return quotas
