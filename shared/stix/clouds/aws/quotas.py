"""The account's vCPU quotas of a region, as Service Quotas names them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from stix.ports.compute import Quota

__all__ = ["quotas_of"]

# "Amazon EC2 endpoints and quotas" in the AWS General Reference. Standard's name goes on with its letters.
_DEMAND = re.compile(r"Running On-Demand (.+?)(?: \(.*\))? instances")
_SPOT = re.compile(r"All (.+?)(?: \(.*\))? Spot Instance Requests")


def quotas_of(found: Iterable[Mapping[str, Any]]) -> list[Quota]:
    """Those of the groups that ``facts.family_of`` knows. What is in use is not said."""
    quotas = []
    for quota in found:
        for pattern, spot in ((_DEMAND, False), (_SPOT, True)):
            named = pattern.fullmatch(quota["QuotaName"])
            if named:
                quotas.append(Quota(named[1], spot, float(quota["Value"]), 0.0, "vcpus"))
    return quotas
