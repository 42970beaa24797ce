"""What is known of a cloud without asking it and without its SDK."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from stix.model.offer import Offer

__all__ = ["CloudFacts", "CloudProblem", "by_instance_type"]


def by_instance_type(offer: Offer) -> str:
    """A quota for each instance type."""
    return offer.instance_type


@dataclass(frozen=True, slots=True)
class CloudFacts:
    """Facts of one cloud as this deployment uses it.

    Attributes:
        extra: what to install for its SDK, ``stix-cloud[<extra>]``; empty for none.
        stops: machines can be stopped and started again; ``stops_spot``: spot machines too.
        opens_ports: ``resources.ports`` can be had.
        connects_clusters: machines of different gangs in one region reach each other.
        find_ports: from a gang's token, the command that shows where its ports are; empty where they are the
            machines' own.
        discovers: offers come from looking (``DiscoversOffers``), not from the catalog.
        refuses_late: a creation that it accepted may still find no capacity; its machines say so then.
        brings_agent: the provider puts the agent on the machine itself.
        runs_images: ``docker:NAME`` is what its machines are made from; elsewhere the agent runs it.
        reaches_laptop: its machines can call a loopback address of the control plane.
        quota_family: the quota that bounds an offer, in the words of ``Quota.family``.
        find_credentials: from the environment and the home folder's path, without a request: where
            credentials come from (``~/.aws/credentials``), or empty.
        credentials_hint: how to get some.
    """

    name: str
    extra: str = ""
    stops: bool = False
    stops_spot: bool = False
    opens_ports: bool = False
    connects_clusters: bool = False
    find_ports: Callable[[str], str] = lambda token: ""
    discovers: bool = False
    refuses_late: bool = False
    brings_agent: bool = False
    runs_images: bool = False
    reaches_laptop: bool = False
    quota_family: Callable[[Offer], str] = by_instance_type
    find_credentials: Callable[[Mapping[str, str], str], str] = lambda environ, home: ""
    credentials_hint: str = ""


@dataclass(frozen=True, slots=True)
class CloudProblem:
    """Why a cloud cannot be used here, and what would help."""

    reason: str
    hint: str
