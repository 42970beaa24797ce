"""What is known of Google Cloud without asking it."""

from __future__ import annotations

import os
from collections.abc import Mapping

from stix.model.offer import Offer
from stix.ports.cloud_facts import CloudFacts

__all__ = ["FACTS", "credentials_file", "family_of", "is_arm", "sold_on_demand"]

# "Consumption options" in the GPU machine types' guide: spot, flex-start or a reservation only.
_NOT_ON_DEMAND = ("a3-highgpu-1g", "a3-highgpu-2g", "a3-highgpu-4g", "a3-ultragpu-", "a4-", "a4x-")
_ARM = frozenset({"a4x", "c4a", "n4a", "t2a"})
# "CPU quota" in the user guide: these series share CPUS. Every other one has a quota of its own: an older one
# under its own metric (N2_CPUS), a newer one (C4, N4) as a dimension of CPUS_PER_VM_FAMILY, which a region's
# list does not have: that is learned from refusals.
_SHARED_CPUS = frozenset({"e2", "f1", "g1", "n1"})


def family_of(offer: Offer) -> str:
    """The metric of the quota that bounds an offer: of its GPUs where it has any, else of its vCPUs.

    Spot machines draw their vCPUs, of every series, from one quota.
    """
    if offer.accelerator:
        return f"NVIDIA_{offer.accelerator.upper().replace('-', '_')}_GPUS"
    series = offer.instance_type.partition("-")[0]
    return "CPUS" if series in _SHARED_CPUS or offer.spot else f"{series.upper()}_CPUS"


def is_arm(instance_type: str) -> bool:
    return instance_type.partition("-")[0] in _ARM


def sold_on_demand(instance_type: str) -> bool:
    return not instance_type.startswith(_NOT_ON_DEMAND)


def credentials_file(environ: Mapping[str, str], home: str) -> str:
    """The file of application default credentials, or empty: the order is Google's own."""
    named = environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    if named:
        return named
    folder = environ.get("CLOUDSDK_CONFIG") or os.path.join(home, ".config", "gcloud")
    path = os.path.join(folder, "application_default_credentials.json")
    return path if os.path.isfile(path) else ""


def _find(environ: Mapping[str, str], home: str) -> str:
    if environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
        return "the variable GOOGLE_APPLICATION_CREDENTIALS"
    return credentials_file(environ, home)


FACTS = CloudFacts(
    name="gcp",
    extra="gcp",
    stops=True,
    stops_spot=True,
    opens_ports=True,
    connects_clusters=True,
    # A bulk insertion is accepted before capacity and quota are known.
    refuses_late=True,
    quota_family=family_of,
    find_credentials=_find,
    credentials_hint="Log in with `gcloud auth application-default login`; see docs/clouds/gcp.md.",
)
