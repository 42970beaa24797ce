"""AWS: the public price list for on-demand prices; EC2, given an account, for zones and spot prices.

Without an account a row is a whole region's, sizes are the price list's, and there is no spot price.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from stix.catalog.fetchers import aws_ec2
from stix.catalog.fetchers.aws_price_list import URL, ListedMachine, price_list
from stix.catalog.fetchers.aws_price_list import regions as listed_regions
from stix.catalog.fetchers.collect import Rows
from stix.catalog.fetchers.names import accelerator_name
from stix.catalog.fetchers.web import PriceApi
from stix.catalog.row import CatalogRow
from stix.catalog.source import Fetched

__all__ = ["CLOUD", "Clients", "account_clients", "fetch", "regions"]

CLOUD = "aws"
Clients = Callable[[str], Any]
"""An EC2 client of the SDK for a region."""

_OWN = {
    "inferentia": "Inferentia",
    "inferentia2": "Inferentia2",
    "trainium": "Trainium",
    "trainium2": "Trainium2",
    "trainium3": "Trainium3",
    "gaudi hl-205": "Gaudi-HL-205",
    "qualcomm ai100": "Qualcomm-AI100",
    "radeon pro v520": "Radeon-Pro-V520",
    "a10g": "A10G",
    "t4g": "T4g",
}
# Accelerator of a family and GiB of one, for those without an account (AWS's page of accelerated machines).
# fmt: off
_FAMILIES: Mapping[str, tuple[str, float]] = {
    "g4dn": ("T4", 16), "g4ad": ("Radeon-Pro-V520", 8), "g5": ("A10G", 24), "g5g": ("T4g", 16),
    "g6": ("L4", 24), "gr6": ("L4", 24), "g6e": ("L40S", 48), "g7": ("RTXPRO4500", 32),
    "g7e": ("RTXPRO6000", 96), "p3": ("V100", 16), "p3dn": ("V100-32GB", 32), "p4d": ("A100", 40),
    "p4de": ("A100-80GB", 80), "p5": ("H100", 80), "p5e": ("H200", 141), "p5en": ("H200", 141),
    "p6-b200": ("B200", 180), "p6-b300": ("B300", 270), "dl1": ("Gaudi-HL-205", 32),
}
# The price list counts GPUs, not AWS's own chips.
_CHIPS: Mapping[str, tuple[str, int, float]] = {
    "inf1.xlarge": ("Inferentia", 1, 8), "inf1.2xlarge": ("Inferentia", 1, 8),
    "inf1.6xlarge": ("Inferentia", 4, 8), "inf1.24xlarge": ("Inferentia", 16, 8),
    "inf2.xlarge": ("Inferentia2", 1, 32), "inf2.8xlarge": ("Inferentia2", 1, 32),
    "inf2.24xlarge": ("Inferentia2", 6, 32), "inf2.48xlarge": ("Inferentia2", 12, 32),
    "trn1.2xlarge": ("Trainium", 1, 32), "trn1.32xlarge": ("Trainium", 16, 32),
    "trn1n.32xlarge": ("Trainium", 16, 32), "trn2.3xlarge": ("Trainium2", 1, 96),
    "trn2.48xlarge": ("Trainium2", 16, 96),
}
# fmt: on
_ACCELERATED = re.compile(r"(g|gr|p|inf|trn|dl|vt|f)[0-9]", re.ASCII)


def regions(api: PriceApi, clients: Clients | None) -> list[str]:
    """Those that the account may use, or else every region with a price list."""
    listed = listed_regions(api)
    if clients is None:
        return listed
    enabled = set(aws_ec2.enabled_regions(clients("us-east-1")))
    return [region for region in listed if region in enabled]


def fetch(api: PriceApi, region: str, clients: Clients | None) -> Fetched:
    """The rows of one region."""
    now = api.now()
    rows = Rows(CLOUD, now=now)
    machines, broken = price_list(api, region)
    for _ in range(broken):
        rows.malformed("price list line")
    if clients is None:
        for machine in machines:
            _add_listed(rows, machine, region, now)
    else:
        _add_described(rows, machines, region, clients(region), now)
    return rows.finish()


def _add_listed(rows: Rows, machine: ListedMachine, region: str, now: float) -> None:
    family = machine.instance_type.partition(".")[0]
    accelerator, count, memory = "", 0.0, 0.0
    if machine.instance_type in _CHIPS:
        accelerator, count, memory = _CHIPS[machine.instance_type]
    elif family in _FAMILIES and machine.gpus:
        accelerator, memory = _FAMILIES[family]
        count = machine.gpus
    elif _is_accelerated(family):
        # Unlike a machine of the same size without one: naming it by its vCPUs alone would mislead.
        rows.skip("accelerator unknown without an account")
        return
    rows.add(
        CatalogRow(
            cloud=CLOUD,
            region=region,
            zone="",
            instance_type=machine.instance_type,
            vcpus=machine.vcpus,
            memory_gib=machine.memory_gib,
            accelerator=accelerator,
            accelerator_count=count,
            accelerator_memory_gib=memory,
            arch=machine.arch,
            price=machine.price,
            as_of=now,
            local_disk_gib=machine.local_disk_gib,
            source=URL,
        )
    )


def _is_accelerated(family: str) -> bool:
    """``g5`` and ``p5en`` are; ``c6gn`` is not."""
    return _ACCELERATED.match(family) is not None


def _add_described(rows: Rows, machines: list[ListedMachine], region: str, client: Any, now: float) -> None:
    described, left_out = aws_ec2.describe(client)
    for reason, count in left_out.items():
        for _ in range(count):
            rows.malformed(reason)
    zones = aws_ec2.zones(client)
    spot = aws_ec2.spot_prices(client, now=now)
    prices = {machine.instance_type: machine.price for machine in machines}
    for name, size in described.items():
        accelerator = ""
        if size.accelerator:
            memory = size.accelerator_memory_gib
            accelerator = accelerator_name(size.accelerator, memory_gib=memory, own=_OWN)
            if not accelerator:
                rows.skip(f"unknown accelerator: {size.accelerator}")
                continue
        for zone in zones.get(name, ()):
            price, spot_price = prices.get(name), spot.get((name, zone))
            if price is None and spot_price is None:
                rows.skip("unpriced")
                continue
            rows.add(
                CatalogRow(
                    cloud=CLOUD,
                    region=region,
                    zone=zone,
                    instance_type=name,
                    vcpus=size.vcpus,
                    memory_gib=size.memory_gib,
                    accelerator=accelerator,
                    accelerator_count=size.count if accelerator else 0.0,
                    accelerator_memory_gib=size.accelerator_memory_gib,
                    arch=size.arch,
                    price=price,
                    spot_price=spot_price,
                    as_of=now,
                    local_disk_gib=size.local_disk_gib,
                    source=URL,
                )
            )


def account_clients() -> Clients | None:
    """EC2 clients of the account that the SDK finds; None without the SDK or without an account."""
    try:
        import boto3
        from botocore.config import Config
    except ImportError:
        return None
    session = boto3.Session()
    if session.get_credentials() is None:
        return None
    config = Config(retries={"mode": "standard", "max_attempts": 6}, connect_timeout=10, read_timeout=60)
    return lambda region: session.client("ec2", region_name=region, config=config)
