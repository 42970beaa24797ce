"""A home whose control plane has a public address and one cloud, which is a server on this machine."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from stix.catalog.row import CatalogRow
from stix.catalog.snapshot import use_rows
from tests.e2e.embedded import EmbeddedHome
from tests.ports import free_port
from tests.providers.aws.server import AwsServer

__all__ = ["aws_home", "cloud_home"]


def cloud_home(
    folder: Path,
    cloud: str,
    config: Mapping[str, Any],
    prices: Iterable[tuple[str, str, str, float]] = (),
    **environ: str,
) -> EmbeddedHome:
    """Its server runs already; the caller finishes it. ``prices``: region, zone, instance type, USD an hour,
    of machines with 2 CPUs and 8 GiB."""
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump({"clouds": {cloud: dict(config)}}))
    rows = [
        CatalogRow(cloud, region, zone, kind, 2, 8, price=price, spot_price=price / 3, as_of=time.time())
        for region, zone, kind, price in prices
    ]
    if rows:
        use_rows(folder, rows)
    home = EmbeddedHome(folder, **environ)
    port = free_port()
    home.stix("api", "start", "--port", str(port), "--public-url", f"http://127.0.0.1:{port}")
    return home


def aws_home(folder: Path, ec2: AwsServer) -> EmbeddedHome:
    """With credentials, and two machine types in two zones."""
    prices = [
        ("us-east-1", zone, kind, price)
        for zone in ("us-east-1a", "us-east-1b")
        for kind, price in (("m5.large", 0.096), ("m6i.large", 0.097))
    ]
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}
    return cloud_home(folder, "aws", {"endpoint_url": ec2.url}, prices, **keys)
