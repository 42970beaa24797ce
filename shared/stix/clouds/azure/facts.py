"""What is known of Azure without asking it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from stix.model.offer import Offer
from stix.ports.cloud_facts import CloudFacts

__all__ = [
    "FACTS",
    "SPOT_FAMILY",
    "family_key",
    "family_of",
    "has_premium_disks",
    "is_arm",
    "is_confidential",
    "is_first_generation",
    "profile_path",
]

SPOT_FAMILY = "lowprioritycores"
"""Spot machines of every size share this quota of vCPUs in a region."""
# "Azure virtual machine sizes naming conventions": family and sub-family, vCPUs, constrained vCPUs, additive
# features, accelerator, version.
_NAME = re.compile(r"(?:Standard_|Basic_)?([A-Z]+)(\d+)(-\d+)?([a-z]*)((?:_[A-Za-z0-9]+?)*?)(?:_(v\d+))?")
# Families whose names do not follow from their sizes', as `az vm list-usage` prints them.
_OTHER_NAMES = {
    "standardncadish100v5family": "StandardNCadsH100v5Family",
    "standardncast4v3family": "Standard NCASv3_T4 Family",
    "standardncrsv3family": "standardNCSv3Family",
    "standardndamsra100v4family": "Standard NDAMSv4_A100Family",
    "standardndasrv4family": "Standard NDASv4_A100 Family",
    "standardndisrh100v5family": "standardNDSH100v5Family",
    "standardndisrmi300xv5family": "standardNDISv5MI300XFamily",
    "standardndrsv2family": "standardNDSv2Family",
    "standardnvadmsa10v5family": "StandardNVADSA10v5Family",
}


def _parts(size: str) -> tuple[str, str, str, int]:
    """Family, features, accelerator and version of a size; empty and 1 where it does not say."""
    found = _NAME.fullmatch(size)
    if found is None:
        return "", "", "", 1
    return found[1], found[4], (found[5] or "").replace("_", ""), int((found[6] or "v1")[1:])


def family_key(name: str) -> str:
    """Azure writes ``Standard NCASv3_T4 Family`` beside ``standardNCADSA100v4Family``: here all are alike."""
    return re.sub("[ _]", "", name).lower()


def family_of(size: str) -> str:
    """The key of a size's quota family. Where neither rule nor table gives Azure's own, what bounds the size
    is learned from refusals."""
    family, features, accelerator, version = _parts(size)
    if not family:
        return size
    if version >= 6 and family in ("D", "E") and "a" in features:
        features = features.replace("s", "")  # standardDadv6Family
    suffix = f"v{version}" if version > 1 else ""
    key = family_key(f"standard{family}{features}{accelerator}{suffix}Family")
    return family_key(_OTHER_NAMES.get(key, key))


def is_arm(size: str) -> bool:
    """The additive feature ``p``: an Arm processor."""
    return "p" in _parts(size)[1]


def has_premium_disks(size: str) -> bool:
    """The additive feature ``s``: premium storage."""
    return "s" in _parts(size)[1]


def is_first_generation(size: str) -> bool:
    """Older sizes without premium storage boot nothing but images of generation 1 ("Support for generation 2
    VMs on Azure")."""
    return not has_premium_disks(size) and _parts(size)[3] < 4


def is_confidential(size: str) -> bool:
    """DCasv5, ECesv6, NCCads and the like: they run nothing but encrypted machines, from images of their own.
    DCsv3 and older, which have enclaves instead, are ordinary machines."""
    family, features, _, version = _parts(size)
    return family == "NCC" or (family in ("DC", "EC") and version >= 5 and bool(set(features) & {"a", "e"}))


def _quota_family(offer: Offer) -> str:
    return SPOT_FAMILY if offer.spot else family_of(offer.instance_type)


def profile_path(environ: Mapping[str, str], home: str) -> str:
    """Where ``az login`` notes the accounts."""
    folder = environ.get("AZURE_CONFIG_DIR") or os.path.join(home, ".azure")
    return os.path.join(folder, "azureProfile.json")


def _find(environ: Mapping[str, str], home: str) -> str:
    if environ.get("AZURE_CLIENT_ID") and environ.get("AZURE_TENANT_ID"):
        return "the variables AZURE_TENANT_ID and AZURE_CLIENT_ID"
    for name in ("IDENTITY_ENDPOINT", "MSI_ENDPOINT"):
        if environ.get(name):
            return f"the variable {name}"
    profile = profile_path(environ, home)
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
    credentials_hint="Log in with `az login`, or name a service principal; see docs/clouds/azure.md.",
)
