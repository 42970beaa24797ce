"""Offers from the tables in ``typed_prices``: figures typed from price lists, each with its date."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from catalog import aws_offers, azure_offers
from stix.catalog.accelerators import find_accelerator
from stix.catalog.row import CatalogRow

__all__ = ["offers", "sources"]

FOLDER = Path(__file__).parent / "typed_prices"


def sources() -> dict[str, str]:
    """Key -> where the figures were published."""
    with (FOLDER / "sources.csv").open(newline="") as file:
        return {row["key"]: row["url"] for row in csv.DictReader(file)}


def offers() -> Iterator[CatalogRow]:
    """Raises ``ValueError`` for a line that cannot be an offer."""
    for path in sorted(FOLDER.glob("*.csv")):
        if path.stem == "sources":
            continue
        with path.open(newline="") as file:
            for number, line in enumerate(csv.DictReader(file), 2):
                for region in line["regions"].split("|"):
                    rows = list(_rows(path.stem, region, line))
                    if not rows:
                        raise ValueError(f"{path.name}, line {number}: {line['instance_type']} is not known.")
                    yield from rows


def _rows(cloud: str, region: str, line: Mapping[str, str]) -> Iterator[CatalogRow]:
    as_of = datetime.fromisoformat(line["as_of"]).replace(tzinfo=UTC).timestamp()
    price, spot_price = (float(line[name]) if line[name] else None for name in ("price", "spot_price"))
    source = line["source"]
    if cloud == "aws":
        kind = aws_offers.machines().get(line["instance_type"])
        places = aws_offers.zones().get(region, {}).get(line["instance_type"], set())
        if kind is not None and price is not None:
            yield from aws_offers.placed(kind, region, places, price, as_of=as_of, source=source)
    elif cloud == "azure":
        assert price is not None
        row = azure_offers.sized(line["instance_type"], region, price, as_of=as_of, source=source)
        if row is not None:
            yield row
    else:
        accelerator = find_accelerator(line["accelerator"]) if line["accelerator"] else None
        if line["accelerator"] and accelerator is None:
            return
        yield CatalogRow(
            cloud=cloud,
            region=region,
            zone="",
            instance_type=line["instance_type"],
            vcpus=float(line["vcpus"]),
            memory_gib=float(line["memory_gib"]),
            accelerator=line["accelerator"],
            accelerator_count=float(line["accelerator_count"] or 0),
            accelerator_memory_gib=accelerator.memory_gb if accelerator is not None else 0.0,
            arch=line["arch"],
            price=price,
            spot_price=spot_price,
            as_of=as_of,
            local_disk_gib=float(line["local_disk_gib"] or 0),
            source=source,
        )
