"""What is known of Azure without asking it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from stix.model.offer import Offer
from stix.ports.cloud_facts import CloudFacts

__all__ = ["FACTS", "SPOT_FAMILY", "family_of", "has_premium_disks", "is_arm"]

SPOT_FAMILY = "lowPriorityCores"
"""Spot machines of every size share this quota of vCPUs in a region."""
# "Azure virtual machine sizes naming conventions": family and sub-family, vCPUs, constrained vCPUs, additive
# features, accelerator, version.
_NAME = re.compile(r"(?:Standard_|Basic_)?([A-Z]+)(\d+)(-\d+)?([a-z]*)((?:_[A-Za-z0-9]+?)*?)(?:_(v\d+))?")


def _features(size: str) -> str:
    found = _NAME.fullmatch(size)
    return found[4] if found else ""


def family_of(size: str) -> str:
    """The quota family of a size, as Azure lists it: ``standardNCADSA100v4Family``. A few families have names
    that do not follow from their sizes'; their quotas are learned from refusals."""
    found = _NAME.fullmatch(size)
    if found is None:
        return size
    accelerator = (found[5] or "").replace("_", "")
    return f"standard{found[1]}{found[4].upper()}{accelerator}{found[6] or ''}Family"


def is_arm(size: str) -> bool:
    """The additive feature ``p``: an Arm processor."""
    return "p" in _features(size)


def has_premium_disks(size: str) -> bool:
    """The additive feature ``s``: premium storage."""
    return "s" in _features(size)


def _quota_family(offer: Offer) -> str:
    return SPOT_FAMILY if offer.spot else family_of(offer.instance_type)


def _find(environ: Mapping[str, str], home: str) -> str:
    if environ.get("AZURE_CLIENT_ID") and environ.get("AZURE_TENANT_ID"):
        return "the variables AZURE_TENANT_ID and AZURE_CLIENT_ID"
    for name in ("IDENTITY_ENDPOINT", "MSI_ENDPOINT"):
        if environ.get(name):
            return f"the variable {name}"
    profile = os.path.join(
        environ.get("AZURE_CONFIG_DIR") or os.path.join(home, ".azure"), "azureProfile.json"
    )
    return profile if os.path.isfile(profile) else ""


FACTS = CloudFacts(
    name="azure",
    extra="azure",
    stops=True,
    # Machines of spot priority are deleted when they are evicted, so they are not deallocated either.
    stops_spot=False,
    opens_ports=True,
    # Azure accepts a deployment first, and looks for room then.
    refuses_late=True,
    quota_family=_quota_family,
    find_credentials=_find,
    credentials_hint="Log in with `az login` and set clouds.azure.subscription_id; see docs/clouds/azure.md.",
)
