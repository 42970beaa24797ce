"""Makes ``shared/stix/catalog/data/snapshot.index.xz``: ``python -m catalog.build_snapshot``.

Needs pip (for the price table, about 4 MB) and moto; the same inputs give the same bytes.
"""

from __future__ import annotations

import argparse
import lzma
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

from catalog import aws_offers, azure_offers, gcp_offers, price_table, typed_offers
from stix.catalog.accelerators import marketed_memory
from stix.catalog.index import compile_index
from stix.catalog.row import CatalogRow
from stix.catalog.snapshot import SNAPSHOT

__all__ = ["build", "main"]


def build(wheel: Path) -> list[CatalogRow]:
    """Every offer once, the newest price of each, in the order of cloud, region, zone and type."""
    table = price_table.read(wheel)
    rows = [
        *aws_offers.offers(table),
        *azure_offers.offers(table),
        *gcp_offers.offers(table),
        *typed_offers.offers(),
    ]
    urls = typed_offers.sources()
    newest: dict[tuple[str, str, str, str], CatalogRow] = {}
    for row in rows:
        key = (row.cloud, row.region, row.zone, row.instance_type)
        if key not in newest or newest[key].as_of < row.as_of:
            newest[key] = row
    return [replace(_marketed(row), source=urls[row.source]) for _, row in sorted(newest.items())]


def _marketed(row: CatalogRow) -> CatalogRow:
    return replace(row, accelerator_memory_gib=marketed_memory(row.accelerator, row.accelerator_memory_gib))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--wheel", type=Path, help="apache-libcloud's wheel; fetched when left out")
    options.add_argument("--output", type=Path, default=SNAPSHOT)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = build(chosen.wheel or price_table.download(Path(folder)))
        index = Path(folder) / "snapshot.index"
        digest = compile_index(rows, index)
        chosen.output.write_bytes(lzma.compress(index.read_bytes(), preset=9))
    counts = Counter(row.cloud for row in rows)
    sys.stdout.write(f"{len(rows)} offers, {chosen.output.stat().st_size} bytes, {digest}: {dict(counts)}\n")


if __name__ == "__main__":
    main()
