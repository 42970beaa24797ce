"""What is known of this computer as a cloud."""

from __future__ import annotations

from stix.ports.cloud_facts import CloudFacts

__all__ = ["FACTS"]

FACTS = CloudFacts(
    name="local",
    stops=True,
    connects_clusters=True,
    discovers=True,
    brings_agent=True,
    reaches_laptop=True,
    find_credentials=lambda environ, home: "this computer",
)
