"""What is known of AWS without asking it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from stix.model.offer import Offer
from stix.ports.cloud_facts import CloudFacts

__all__ = ["FACTS", "family_of", "is_arm"]

_NAME = re.compile(r"([a-z]+)-?(\d+)([a-z0-9-]*)\.")
# "EC2 instance type quotas" in the user guide: one vCPU quota for each of these groups and market.
_GROUPS = {
    "dl": "DL",
    "f": "F",
    "g": "G and VT",
    "gr": "G and VT",
    "vt": "G and VT",
    "hpc": "HPC",
    "inf": "Inf",
    "p": "P",
    "trn": "Trn",
    "u": "High Memory",
    "x": "X",
}


def family_of(instance_type: str) -> str:
    """The group of instance types that shares a vCPU quota."""
    found = _NAME.match(instance_type)
    return _GROUPS.get(found[1], "Standard") if found else "Standard"


def is_arm(instance_type: str) -> bool:
    """Whether its processor is a Graviton: a ``g`` after the generation, as in m7g, c6gn or g5g; and a1."""
    found = _NAME.match(instance_type)
    return bool(found) and ("g" in found[3] or found[1] + found[2] == "a1")  # type: ignore[index]


def _family(offer: Offer) -> str:
    return family_of(offer.instance_type)


def _find(environ: Mapping[str, str], home: str) -> str:
    if environ.get("AWS_ACCESS_KEY_ID"):
        return "the variable AWS_ACCESS_KEY_ID"
    for name in (
        "AWS_PROFILE",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ):
        if environ.get(name):
            return f"the variable {name}"
    for name, default in (("AWS_SHARED_CREDENTIALS_FILE", "credentials"), ("AWS_CONFIG_FILE", "config")):
        path = environ.get(name) or os.path.join(home, ".aws", default)
        if os.path.isfile(path):
            return path
    return ""


FACTS = CloudFacts(
    name="aws",
    extra="aws",
    stops=True,
    # A spot machine of a fleet is a one-time request: EC2 refuses to stop it.
    stops_spot=False,
    opens_ports=True,
    connects_clusters=True,
    quota_family=_family,
    find_credentials=_find,
    credentials_hint="Log in with `aws configure sso` or set AWS_PROFILE; see docs/clouds/aws.md.",
)
