"""A home whose control plane has a public address, AWS credentials and a few machine types."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from stix.catalog.row import CatalogRow
from stix.catalog.snapshot import use_rows
from tests.e2e.embedded import EmbeddedHome
from tests.providers.aws.server import AwsServer


def aws_home(folder: Path, ec2: AwsServer) -> EmbeddedHome:
    """Its server runs already; the caller finishes it."""
    folder.mkdir()
    (folder / "config.yaml").write_text(f"clouds:\n  aws:\n    endpoint_url: {ec2.url}\n")
    rows = [
        CatalogRow("aws", "us-east-1", zone, kind, 2, 8, price=price, spot_price=price / 3, as_of=time.time())
        for zone in ("us-east-1a", "us-east-1b")
        for kind, price in (("m5.large", 0.096), ("m6i.large", 0.097))
    ]
    use_rows(folder, rows)
    home = EmbeddedHome(
        folder, AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_EC2_METADATA_DISABLED="true"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home.stix("api", "start", "--port", str(port), "--public-url", f"http://127.0.0.1:{port}")
    return home
