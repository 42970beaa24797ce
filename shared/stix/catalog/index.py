"""Asking the compiled index. No question reads more than the ranges that can answer it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from stix.catalog.index_compile import (
    APPLICATION_ID,
    SCHEMA_VERSION,
    SPAN,
    arch_code,
    compile_index,
    group_key,
    place_key,
)
from stix.catalog.index_types import AcceleratorSummary, CloudSummary, MachineNeed, PricedOffer
from stix.catalog.row import CatalogRow
from stix.model.errors import InvalidInputError

__all__ = [
    "AcceleratorSummary",
    "CatalogIndex",
    "CloudSummary",
    "MachineNeed",
    "PricedOffer",
    "compile_index",
    "open_index",
]

_CLOSE = 1e-9
# A third of an accelerator is written 0.33 and 0.333.
_SAME_SHARE = 0.005
_MARKET_COLUMN = {False: "price", True: "spot_price"}


_Row = tuple[int, int, float, float]  # type, place, price, as of


@dataclass(frozen=True, slots=True)
class _Machine:
    name: str
    vcpus: float
    memory: float
    accelerator: str
    count: float
    arch: str
    local_disk: float


class _PackingError(Exception):
    """The file is no complete archive, or this Python cannot read one."""


def _unpacked(file: Path) -> bytes:
    try:
        import lzma
    except ImportError:
        raise _PackingError("this Python was built without lzma") from None
    try:
        return lzma.decompress(file.read_bytes())
    except lzma.LZMAError as exc:
        raise _PackingError(str(exc)) from exc


def open_index(path: str | os.PathLike[str]) -> CatalogIndex:
    """Open a compiled index for reading. The file never changes, so nothing is locked and all is mapped; one
    that ends in ``.xz`` (the shipped snapshot, for its size) is unpacked into memory.

    Raises ``InvalidInputError`` for a file that is absent, is no index or is of another version.
    """
    file = Path(path)
    hint = "`stix catalog refresh` makes a new one."
    if not file.is_file():
        raise InvalidInputError(f"There is no catalog at {file}.", hint=hint)
    packed = file.suffix == ".xz"
    where = ":memory:" if packed else f"file:{quote(str(file.absolute()))}?mode=ro&immutable=1"
    database = sqlite3.connect(where, uri=True, check_same_thread=False)
    try:
        if packed:
            content = _unpacked(file)
            if not content:
                raise sqlite3.DatabaseError("it is empty")
            database.deserialize(content)
        database.execute("PRAGMA mmap_size=268435456")
        kind = database.execute("PRAGMA application_id").fetchone()[0]
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if kind != APPLICATION_ID or version != SCHEMA_VERSION:
            raise sqlite3.DatabaseError(f"kind {kind:#x}, version {version}")
        return CatalogIndex(database)
    except (sqlite3.DatabaseError, _PackingError) as exc:
        database.close()
        raise InvalidInputError(
            f"{file} is not a catalog that this version reads ({exc}).", hint=hint
        ) from exc


class CatalogIndex:
    """A catalog. Every method only reads; one instance serves one thread at a time."""

    def __init__(self, database: sqlite3.Connection):
        self._database = database
        self._places: list[tuple[str, str, str]] = [
            (cloud, region, zone)
            for cloud, region, zone in database.execute("SELECT cloud, region, zone FROM places ORDER BY id")
        ]
        self._region_of = _regions(self._places)
        self._numbers: dict[tuple[str, str, str], int] = {}
        self._machines: dict[int, _Machine] = {}
        self._groups: dict[str, list[tuple[float, int]]] = {}
        self._accelerator_memory: dict[str, float] = {}
        for group, name, count, memory in database.execute(
            "SELECT id, accelerator, count, memory FROM groups"
        ):
            self._groups.setdefault(name.lower(), []).append((count, group))
            self._accelerator_memory[name] = max(memory, self._accelerator_memory.get(name, 0.0))

    def close(self) -> None:
        self._database.close()

    # -- what a plan asks ------------------------------------------------------------------------------------

    def best_per_place(self, need: MachineNeed, *, spot: bool) -> list[PricedOffer]:
        """The first offer of every place that meets ``need``, in the order of the ranking: cheapest first,
        then fewer accelerators, smaller machines, names."""
        return self._best(need, spot, range(len(self._places)))

    def best_per_region(self, need: MachineNeed, *, spot: bool) -> list[PricedOffer]:
        """The first of ``best_per_place`` in every region."""
        return self._best(need, spot, self._region_of)

    def matching(self, need: MachineNeed, *, spot: bool) -> Iterator[PricedOffer]:
        """All offers that meet ``need``, in the same order. Reads everything that may fit: for the rest of a
        ranked list, once its head is used up."""
        found: list[PricedOffer] = []
        for low, high in self._place_ranges(need):
            rows = (
                self._accelerated(need, spot, low, high)
                if need.accelerator
                else self._scan(need, spot, low, high)
            )
            found += self._offers(self._suitable(need, rows), spot)
        found.sort(key=_ranking)
        yield from found

    def market_prices(
        self, cloud: str, region: str, zone: str, instance_type: str
    ) -> tuple[float | None, float | None]:
        """What a machine costs in a place on demand and as spot."""
        place = self._place_numbers().get((cloud, region, zone))
        found = self._database.execute(
            "SELECT o.price, o.spot_price FROM types t CROSS JOIN offers o ON o.type = t.id"
            " WHERE t.name = ? AND t.cloud = ? AND o.place = ?",
            (instance_type, cloud, place),
        ).fetchone()
        return found or (None, None)

    def _best(self, need: MachineNeed, spot: bool, unit_of: Sequence[int]) -> list[PricedOffer]:
        """The first fitting offer of every unit, a unit being what ``unit_of`` says of a place."""
        found: list[_Row] = []
        ordered = False
        ranges = self._place_ranges(need)
        for low, high in ranges:
            if need.accelerator and not need.instance_type:
                rows = self._suitable(need, self._accelerated(need, spot, low, high))
                ordered = len(ranges) == 1 and len(self._groups_of(need)) == 1
            elif need.instance_type or need.local_disk_gib:
                rows = self._suitable(need, self._scan(need, spot, low, high))
            else:
                rows = self._first_by_size(need, spot, low, high)
            found += rows
        if not ordered:
            found.sort(key=self._row_ranking)
        best: dict[int, _Row] = {}
        for row in found:
            best.setdefault(unit_of[row[1]], row)
        return self._offers(best.values(), spot)

    def _first_by_size(self, need: MachineNeed, spot: bool, low: int, high: int) -> list[_Row]:
        """By one short scan for each place: its offers stand there cheapest first."""
        where, values = _size_condition(need)
        growing = need.vcpus_at_least or need.vcpus is None
        growing = growing and (need.memory_at_least or need.memory_gib is None) and not need.memory_per_vcpu
        table = "skyline" if growing else "shapes"
        base = place_key(spot, arch_code(need.arch), 0)
        return self._database.execute(
            f"SELECT s.type, s.place, s.price, s.as_of FROM places p CROSS JOIN {table} s ON s.id ="
            f" (SELECT id FROM {table} WHERE id >= ? + p.id * {SPAN} AND id < ? + (p.id + 1) * {SPAN}{where}"
            " ORDER BY id LIMIT 1) WHERE p.id >= ? AND p.id < ?",
            (base, base, *values, low, high),
        ).fetchall()

    def _accelerated(self, need: MachineNeed, spot: bool, low: int, high: int) -> list[_Row]:
        where, values = _size_condition(need)
        rows: list[_Row] = []
        for group in self._groups_of(need):
            first = group_key(group, spot)
            rows += self._database.execute(
                "SELECT type, place, price, as_of FROM accelerated WHERE id >= ? AND id < ?"
                f" AND place >= ? AND place < ?{where} ORDER BY id",
                (first, first + SPAN, low, high, *values),
            )
        return rows

    def _scan(self, need: MachineNeed, spot: bool, low: int, high: int) -> list[_Row]:
        column = _MARKET_COLUMN[spot]
        where, values = _size_condition(need)
        if need.instance_type:
            where += " AND t.name = ?"
        return self._database.execute(
            f"SELECT o.type, o.place, o.{column}, o.as_of FROM types t CROSS JOIN offers o ON o.type = t.id"
            f" WHERE o.place >= ? AND o.place < ? AND o.{column} IS NOT NULL{where}",
            (low, high, *values, *([need.instance_type] if need.instance_type else [])),
        ).fetchall()

    def _suitable(self, need: MachineNeed, rows: list[_Row]) -> list[_Row]:
        """Those that also meet what no condition of the queries says."""
        if not (need.arch or need.local_disk_gib or need.instance_type):
            return rows
        groups = {count for count, _ in self._matching_counts(need)}
        name = need.accelerator.lower()
        return [
            row
            for row in rows
            if (machine := self._machine(row[0]))
            and need.local_disk_gib <= machine.local_disk
            and need.arch in ("", machine.arch)
            and need.instance_type in ("", machine.name)
            and (not name or (name == machine.accelerator.lower() and machine.count in groups))
        ]

    def _row_ranking(self, row: _Row) -> tuple[object, ...]:
        machine = self._machine(row[0])
        return (row[2], machine.count, machine.vcpus, machine.memory, row[1], machine.name)

    def _offers(self, rows: Iterable[_Row], spot: bool) -> list[PricedOffer]:
        offers, machines, places = [], self._machines, self._places
        for kind, place, price, as_of in rows:
            machine = machines.get(kind) or self._machine(kind)
            offers.append(
                PricedOffer(
                    *places[place],
                    machine.name,
                    machine.vcpus,
                    machine.memory,
                    machine.accelerator,
                    machine.count,
                    machine.arch,
                    spot,
                    price,
                    as_of,
                )
            )
        return offers

    def _machine(self, kind: int) -> _Machine:
        if kind not in self._machines:
            row = self._database.execute(
                "SELECT name, vcpus, memory, accelerator, count, arch, local_disk FROM types WHERE id = ?",
                (kind,),
            ).fetchone()
            self._machines[kind] = _Machine(*row)
        return self._machines[kind]

    def _place_numbers(self) -> dict[tuple[str, str, str], int]:
        if not self._numbers:
            self._numbers = {place: at for at, place in enumerate(self._places)}
        return self._numbers

    def _groups_of(self, need: MachineNeed) -> list[int]:
        return [group for _, group in self._matching_counts(need)]

    def _matching_counts(self, need: MachineNeed) -> list[tuple[float, int]]:
        asked = need.accelerator_count
        return [
            (count, group)
            for count, group in self._groups.get(need.accelerator.lower(), [])
            if (abs(count - asked) <= _SAME_SHARE if asked >= 1 else asked - _SAME_SHARE <= count <= 1)
        ]

    def _place_ranges(self, need: MachineNeed) -> list[tuple[int, int]]:
        """Numbers of the places that ``need`` allows, as half-open ranges."""
        if not (need.cloud or need.region or need.zone):
            return [(0, len(self._places))]
        ranges: list[tuple[int, int]] = []
        for at, (cloud, region, zone) in enumerate(self._places):
            if (
                (not need.cloud or need.cloud == cloud)
                and (not need.region or need.region == region)
                and (not need.zone or need.zone == zone)
            ):
                if ranges and ranges[-1][1] == at:
                    ranges[-1] = (ranges[-1][0], at + 1)
                else:
                    ranges.append((at, at + 1))
        return ranges

    # -- what people ask -------------------------------------------------------------------------------------

    def accelerators(self) -> list[AcceleratorSummary]:
        """Every accelerator with each count that some cloud offers, by name, count and cloud."""
        rows = self._database.execute(
            "SELECT accelerator, count, cloud, memory, regions, price, spot_price, as_of FROM accelerators"
        )
        return [AcceleratorSummary(*row) for row in rows]

    def accelerator_memory(self) -> dict[str, float]:
        """GiB of one accelerator, by its name in the catalog; 0 where it is not known."""
        return dict(self._accelerator_memory)

    def accelerator_counts(self, name: str) -> list[float]:
        """How many of it machines have, smallest first; empty for one that is not in the catalog."""
        return [count for count, _ in self._groups.get(name.lower(), [])]

    def clouds(self) -> list[CloudSummary]:
        """How much there is of each cloud, and from when its oldest and newest prices are."""
        rows = self._database.execute("SELECT cloud, offers, regions, oldest, newest FROM clouds")
        return [CloudSummary(*row) for row in rows]

    def places(self) -> list[tuple[str, str, str]]:
        """Cloud, region and zone of every place, in order."""
        return list(self._places)

    def rows(self, cloud: str = "", *, accelerator: str = "") -> Iterator[CatalogRow]:
        """The offers as they were compiled: of one cloud, of one accelerator, or all."""
        where, values = "1", []
        for column, value in (("t.cloud", cloud), ("lower(t.accelerator)", accelerator.lower())):
            if value:
                where += f" AND {column} = ?"
                values.append(value)
        found = self._database.execute(
            "SELECT p.cloud, region, zone, t.name, vcpus, memory, accelerator, count, accelerator_memory,"
            " arch, price, spot_price, as_of, local_disk, s.name"
            " FROM types t CROSS JOIN offers o ON o.type = t.id"
            f" JOIN places p ON p.id = o.place JOIN sources s ON s.id = o.source WHERE {where}",
            values,
        )
        for row in found:
            yield CatalogRow(*row)


def _regions(places: Sequence[tuple[str, str, str]]) -> list[int]:
    """The number of each place's region."""
    numbers: dict[tuple[str, str], int] = {}
    return [numbers.setdefault(place[:2], len(numbers)) for place in places]


def _ranking(offer: PricedOffer) -> tuple[object, ...]:
    return (
        offer.price,
        offer.accelerator_count,
        offer.vcpus,
        offer.memory_gib,
        offer[:3],
        offer.instance_type,
    )


def _size_condition(need: MachineNeed) -> tuple[str, list[float]]:
    where, values = "", []
    if need.vcpus is not None:
        where += " AND vcpus >= ?"
        values.append(need.vcpus - _CLOSE)
        if not need.vcpus_at_least:
            where += " AND vcpus <= ?"
            values.append(need.vcpus + _CLOSE)
    if need.memory_gib is not None:
        if need.memory_per_vcpu:
            where += " AND memory >= vcpus * ?"
            values.append(need.memory_gib - _CLOSE)
        else:
            where += " AND memory >= ?"
            values.append(need.memory_gib - _CLOSE)
            if not need.memory_at_least:
                where += " AND memory <= ?"
                values.append(need.memory_gib + _CLOSE)
    return where, values
