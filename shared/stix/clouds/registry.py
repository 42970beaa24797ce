"""The clouds by name. Facts are light; a cloud's SDK is imported by ``connect`` alone."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any

from stix.ports.cloud_facts import CloudFacts
from stix.ports.compute import Compute
from stix.ports.surroundings import Clock

__all__ = ["PROVIDERS", "check_config", "connect", "facts"]

PROVIDERS = ("aws", "azure", "gcp", "kubernetes")
"""Clouds that are reached over the network; ``local`` is the embedded control plane's own."""


@cache
def facts(cloud: str) -> CloudFacts:
    """Imports no SDK. Raises KeyError for an unknown cloud."""
    if cloud != "local" and cloud not in PROVIDERS:
        raise KeyError(cloud)
    found: CloudFacts = import_module(f"stix.clouds.{cloud}.facts").FACTS
    return found


def connect(cloud: str, config: Mapping[str, Any], *, deployment: str, clock: Clock) -> Compute:
    """The provider's adapter. No request is sent.

    ``config``: what stands under the cloud's name in the configuration, read by the cloud's own pydantic
    model (``stix.clouds.<cloud>.settings``). Raises ``InvalidInputError`` that names the field, and
    ``CredentialsError`` where there are none.
    """
    if cloud not in PROVIDERS:
        raise KeyError(cloud)
    made: Compute = import_module(f"stix.clouds.{cloud}.compute").connect(
        config, deployment=deployment, clock=clock
    )
    return made


def check_config(cloud: str, config: Mapping[str, Any]) -> None:
    """Raises ``InvalidInputError`` that names the field for a configuration that ``connect`` would refuse.
    Needs no SDK and no credentials."""
    import_module(f"stix.clouds.{cloud}.settings").from_config(config)
