"""The price fetchers of a control plane, with the credentials of its environment."""

from __future__ import annotations

import os
import random
import time

from stix.catalog.fetchers.aws import account_clients
from stix.catalog.fetchers.registry import make_client, sources
from stix.catalog.snapshot import snapshot_rows
from stix.catalog.source import Source

__all__ = ["price_sources"]


def price_sources() -> dict[str, Source]:
    """By cloud; clients are made when a source is first asked. Waits between tries are real ones."""
    return sources(
        os.environ,
        client=lambda cloud: make_client(cloud, os.environ),
        sleep=time.sleep,
        random=random.random,
        now=time.time,
        published=snapshot_rows(),
        ec2=account_clients(),
    )
