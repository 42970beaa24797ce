"""``stix gpus``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from stix.cli.amounts import price_text
from stix.cli.prices import prices_document, prices_line
from stix.cli.session import Session
from stix.cli.tables import Column, output_option, print_json, table
from stix.model.errors import InvalidInputError, NotFoundError
from stix.model.names import nearest
from stix.model.quantities import number_text

if TYPE_CHECKING:
    from stix.catalog.index import AcceleratorSummary, CatalogIndex
    from stix.catalog.row import CatalogRow
    from stix.model.infra import Infra

__all__ = ["gpus_command"]

_SUMMARY = [
    Column("ACCELERATOR"),
    Column("GB", right=True),
    Column("COUNTS", shrinks=True),
    Column("CLOUDS", shrinks=True),
    Column("$/H EACH", right=True),
    Column("SPOT EACH", right=True),
]
_OFFERS = [
    Column("COUNT", right=True),
    Column("PLACE", shrinks=True),
    Column("INSTANCE TYPE", shrinks=True),
    Column("VCPUS", right=True),
    Column("GIB", right=True),
    Column("PRICE/H", right=True),
    Column("SPOT/H", right=True),
]


@click.group("gpus", short_help="Show accelerators and their prices.")
def gpus_command() -> None:
    """Accelerators and their prices, from the catalog on this machine: no control plane, no network."""


@gpus_command.command("list")
@click.argument("accelerator", required=False, metavar="[NAME[:COUNT]]")
@click.option("--infra", help="Only this CLOUD[/REGION[/ZONE]].")
@click.option(
    "--all-regions", is_flag=True, help="Every place of a machine, not only its cheapest on a cloud."
)
@output_option
@click.pass_obj
def list_command(
    session: Session, accelerator: str | None, infra: str | None, all_regions: bool, output: str
) -> None:
    """List accelerators, or the machines that have NAME (COUNT of it), cheapest first."""
    from stix.catalog.snapshot import active_catalog

    place = _place(infra)
    if all_regions and accelerator is None:
        raise click.UsageError("--all-regions needs the name of an accelerator.")
    active = active_catalog(session.home)
    index = active.open()
    try:
        prices = prices_document(active, index, session.now())
        if accelerator is None:
            _print_summary(session, _entries(_summaries(index, place)), output, prices)
        else:
            name, count = _asked(accelerator, index)
            rows = [
                row
                for row in _in(index.rows(place.cloud or "", accelerator=name), place)
                if count is None or abs(row.accelerator_count - count) <= 0.005
            ]
            if not rows:
                raise NotFoundError(
                    f"The catalog has no machine with {accelerator}{f' in {infra}' if infra else ''}.",
                    hint="`stix gpus list` shows what there is.",
                )
            _print_offers(
                session, rows if all_regions else _cheapest(rows), output, prices, zones=all_regions
            )
    finally:
        index.close()
    if output == "table":
        session.note(prices_line(prices))


def _place(infra: str | None) -> Infra:
    from stix.model.infra import Infra, parse_infra

    try:
        return parse_infra(infra) or Infra()
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="--infra") from exc


def _asked(text: str, index: CatalogIndex) -> tuple[str, float | None]:
    """The catalog's name and the count. Raises ``InvalidInputError``, ``NotFoundError``."""
    from stix.catalog.accelerators import find_accelerator

    name, colon, number = text.partition(":")
    count = None
    if colon:
        try:
            count = float(number)
        except ValueError:
            count = 0.0
        if not 0 < count <= 1024:
            raise InvalidInputError(
                f"{text!r} has no valid count of accelerators.", hint="Write a name, or A100:8, or L4:0.5."
            )
    names = sorted({entry.accelerator for entry in index.accelerators()})
    by_folded = {known.lower(): known for known in names}
    spec = find_accelerator(name)
    for candidate in (name, *((spec.name, *spec.aliases) if spec is not None else ())):
        if candidate.lower() in by_folded:
            return by_folded[candidate.lower()], count
    near = nearest(name, names)
    raise NotFoundError(
        f"The catalog has no accelerator {name!r}.",
        hint=f"Did you mean {near}?" if near else "`stix gpus list` shows what there is.",
    )


def _in(rows: Iterable[CatalogRow], place: Infra) -> Iterator[CatalogRow]:
    for row in rows:
        if row.accelerator and all(
            asked in (None, found)
            for asked, found in ((place.region, row.region), (place.zone, row.zone), (place.cloud, row.cloud))
        ):
            yield row


def _cheapest(rows: Iterable[CatalogRow]) -> list[CatalogRow]:
    """Of each machine of each cloud the cheapest place, by on-demand price before spot price."""
    best: dict[tuple[str, str], CatalogRow] = {}
    for row in sorted(rows, key=_order):
        best.setdefault((row.cloud, row.instance_type), row)
    return list(best.values())


def _order(row: CatalogRow) -> tuple[object, ...]:
    price = row.price if row.price is not None else row.spot_price or 0.0
    return (
        row.accelerator_count,
        row.price is None,
        price,
        row.cloud,
        row.region,
        row.zone,
        row.instance_type,
    )


@dataclass(frozen=True, slots=True)
class _Entry:
    """One accelerator: the counts that a machine has, the clouds, the lowest prices of one of it."""

    accelerator: str
    memory_gib: float
    counts: list[float]
    clouds: list[str]
    price_each: float | None
    spot_price_each: float | None


def _summaries(index: CatalogIndex, place: Infra) -> Iterator[AcceleratorSummary]:
    """The list that the index keeps; the rows of a region or zone are gone through."""
    if place.region is None and place.zone is None:
        yield from (entry for entry in index.accelerators() if place.cloud in (None, entry.cloud))
        return
    from stix.catalog.index import AcceleratorSummary

    for row in _in(index.rows(place.cloud or ""), place):
        yield AcceleratorSummary(
            accelerator=row.accelerator,
            accelerator_count=row.accelerator_count,
            cloud=row.cloud,
            memory_gib=row.accelerator_memory_gib,
            regions=1,
            price=row.price,
            spot_price=row.spot_price,
            as_of=row.as_of,
        )


def _entries(found: Iterable[AcceleratorSummary]) -> list[_Entry]:
    members: dict[str, list[AcceleratorSummary]] = {}
    for entry in found:
        members.setdefault(entry.accelerator, []).append(entry)
    return [
        _Entry(
            accelerator=name,
            memory_gib=max(entry.memory_gib for entry in entries),
            counts=sorted({entry.accelerator_count for entry in entries}),
            clouds=sorted({entry.cloud for entry in entries}),
            price_each=_least(
                entry.price / entry.accelerator_count for entry in entries if entry.price is not None
            ),
            spot_price_each=_least(
                entry.spot_price / entry.accelerator_count
                for entry in entries
                if entry.spot_price is not None
            ),
        )
        for name, entries in sorted(members.items(), key=lambda pair: pair[0].lower())
    ]


def _least(prices: Iterable[float]) -> float | None:
    return min(prices, default=None)


def _print_summary(session: Session, entries: list[_Entry], output: str, prices: dict[str, Any]) -> None:
    if output == "json":
        print_json(session, {"accelerators": [asdict(entry) for entry in entries], "prices": prices})
        return
    lines = [
        (
            entry.accelerator,
            f"{entry.memory_gib:.0f}" if entry.memory_gib else "-",
            ",".join(map(number_text, entry.counts)),
            ",".join(entry.clouds),
            price_text(entry.price_each),
            price_text(entry.spot_price_each),
        )
        for entry in entries
    ]
    table(session, _SUMMARY, lines)


def _print_offers(
    session: Session, rows: list[CatalogRow], output: str, prices: dict[str, Any], *, zones: bool
) -> None:
    ordered = sorted(rows, key=_order)
    if output == "json":
        print_json(session, {"offers": [asdict(row) for row in ordered], "prices": prices})
        return
    lines = [
        (
            number_text(row.accelerator_count),
            "/".join(part for part in (row.cloud, row.region, row.zone if zones else "") if part),
            row.instance_type,
            f"{row.vcpus:g}",
            f"{row.memory_gib:g}",
            price_text(row.price),
            price_text(row.spot_price),
        )
        for row in ordered
    ]
    table(session, _OFFERS, lines)
