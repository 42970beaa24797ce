"""Compares the snapshot with a folder of newer figures: ``python -m catalog.cross_check DIR [--top N]``.

``DIR`` holds ``aws.csv``, ``azure.csv`` and the like with columns InstanceType, Region, Price. Run by hand;
nothing of ``DIR`` goes into the snapshot.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
from pathlib import Path

from stix.catalog.snapshot import snapshot_rows

__all__ = ["compare", "main"]


def compare(folder: Path) -> list[tuple[float, str, str, str, float, float]]:
    """Ratio ours/theirs, cloud, region, type, ours, theirs of every offer in both, farthest from 1 first."""
    ours = {(row.cloud, row.region, row.instance_type): row.price for row in snapshot_rows() if row.price}
    found = {}
    for path in sorted(folder.glob("*.csv")):
        with path.open(newline="") as file:
            for line in csv.DictReader(file):
                key = (path.stem, line.get("Region") or "", line.get("InstanceType") or "")
                price, theirs = ours.get(key), float(line.get("Price") or 0)
                if price and theirs:
                    found[key] = (price / theirs, *key, price, theirs)
    return sorted(found.values(), key=lambda entry: -max(entry[0], 1 / entry[0]))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folder", type=Path)
    options.add_argument("--top", type=int, default=20)
    chosen = options.parse_args()
    entries = compare(chosen.folder)
    for cloud in sorted({entry[1] for entry in entries}):
        ratios = [entry[0] for entry in entries if entry[1] == cloud]
        near = sum(0.95 <= ratio <= 1.05 for ratio in ratios) / len(ratios)
        sys.stdout.write(
            f"{cloud:11}{len(ratios):6} in both, median ratio {statistics.median(ratios):.3f},"
            f" {near:.1%} within 5 %\n"
        )
    for ratio, cloud, region, name, price, theirs in entries[: chosen.top]:
        sys.stdout.write(f"{ratio:6.2f}  {cloud}/{region}  {name}  {price:g} here, {theirs:g} there\n")


if __name__ == "__main__":
    main()
