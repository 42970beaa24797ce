"""Compiling rows into the index: one SQLite file in which every question that a plan asks is a short range.

Layout, version 1 (docs/decisions/0004-catalog-index.md has the figures that chose it):

- ``places``: numbered in the order of cloud, region, zone, so that a cloud and a region are ranges of
  numbers.
- ``types``: each distinct machine once; ``sources``: where prices came from.
- ``offers``: everything, by type and place.
- ``shapes`` and ``skyline``: for each market (on demand, spot), architecture (any, or one) and place the
  offers in the order of ``RANKING``. ``shapes`` keeps the first of each size; ``skyline`` only those that no
  earlier offer equals or exceeds in both vCPUs and memory: the first of them that is large enough is the
  best.
- ``accelerated``: for each accelerator and count, in each market, all offers, cheapest first.
- ``accelerators``: the list that people ask for, one row per accelerator, count and cloud.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from stix.catalog.row import ARCHITECTURES, CatalogRow

__all__ = [
    "APPLICATION_ID",
    "SCHEMA_VERSION",
    "SPAN",
    "arch_code",
    "compile_index",
    "group_key",
    "place_key",
]

SCHEMA_VERSION = 1
APPLICATION_ID = 0x53544958  # "STIX"
ANY_ARCH = 0
_PLACE_BITS, _RANK_BITS = 18, 20
SPAN = 1 << _RANK_BITS
"""How many ids each place and each accelerator has to itself."""

_SCHEMA = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE places(id INTEGER PRIMARY KEY, cloud TEXT, region TEXT, zone TEXT);
CREATE TABLE sources(id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE types(id INTEGER PRIMARY KEY, cloud TEXT, name TEXT, vcpus REAL, memory REAL, accelerator TEXT,
  count REAL, accelerator_memory REAL, arch TEXT, local_disk REAL);
CREATE TABLE offers(type INTEGER, place INTEGER, price REAL, spot_price REAL, as_of REAL, source INTEGER,
  PRIMARY KEY(type, place)) WITHOUT ROWID;
CREATE TABLE shapes(id INTEGER PRIMARY KEY, vcpus REAL, memory REAL, price REAL, type INTEGER, place INTEGER,
  as_of REAL);
CREATE TABLE skyline(id INTEGER PRIMARY KEY, vcpus REAL, memory REAL, price REAL, type INTEGER, place INTEGER,
  as_of REAL);
CREATE TABLE groups(id INTEGER PRIMARY KEY, accelerator TEXT, count REAL, memory REAL);
CREATE TABLE accelerated(id INTEGER PRIMARY KEY, vcpus REAL, memory REAL, price REAL, type INTEGER,
  place INTEGER, as_of REAL);
CREATE TABLE accelerators(accelerator TEXT, count REAL, cloud TEXT, memory REAL, regions INTEGER, price REAL,
  spot_price REAL, as_of REAL, PRIMARY KEY(accelerator, count, cloud)) WITHOUT ROWID;
CREATE TABLE clouds(cloud TEXT PRIMARY KEY, offers INTEGER, regions INTEGER, oldest REAL, newest REAL)
  WITHOUT ROWID;
"""
_LATER = "CREATE INDEX types_by_name ON types(name);"


def arch_code(arch: str) -> int:
    """0 for any, else 1 and up. Raises ``ValueError``."""
    return ARCHITECTURES.index(arch) + 1 if arch else ANY_ARCH


def place_key(spot: bool, arch: int, place: int) -> int:
    """The first id of a market, architecture and place in ``shapes`` and ``skyline``."""
    return (((arch << 1 | spot) << _PLACE_BITS) | place) << _RANK_BITS


def group_key(group: int, spot: bool) -> int:
    """The first id of an accelerator and count and a market in ``accelerated``."""
    return (group << 1 | spot) << _RANK_BITS


@dataclass(frozen=True, slots=True)
class _Entry:
    """An offer in one market, as it is ranked."""

    place: int
    price: float
    count: float
    vcpus: float
    memory: float
    name: str
    type: int
    arch: int
    as_of: float

    @property
    def ranking(self) -> tuple[float, float, float, float, str, int]:
        """Cheapest first, then without accelerators, then the smallest, then by name."""
        return (self.price, self.count, self.vcpus, self.memory, self.name, self.type)

    def stored(self, key: int) -> tuple[int, float, float, float, int, int, float]:
        return (key, self.vcpus, self.memory, self.price, self.type, self.place, self.as_of)


def compile_index(rows: Iterable[CatalogRow], path: str | os.PathLike[str]) -> str:
    """Write the index of ``rows`` to ``path``, whole or not at all; its SHA-256 (hex).

    The order of the rows does not matter; of two rows for one machine in one place the newer counts. Raises
    ``ValueError`` for a row that no machine can have.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".index-", dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        database = sqlite3.connect(temporary, isolation_level=None)
        try:
            _write(database, _distinct(rows))
        finally:
            database.close()
        digest = hashlib.sha256(temporary.read_bytes()).hexdigest()
        temporary.chmod(0o644)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return digest


def _distinct(rows: Iterable[CatalogRow]) -> list[CatalogRow]:
    newest: dict[tuple[str, str, str, str], CatalogRow] = {}
    for row in rows:
        _check(row)
        key = (row.cloud, row.region, row.zone, row.instance_type)
        known = newest.get(key)
        if known is None or (row.as_of, repr(row)) > (known.as_of, repr(known)):
            newest[key] = row
    return [newest[key] for key in sorted(newest)]


def _check(row: CatalogRow) -> None:
    prices = [price for price in (row.price, row.spot_price) if price is not None]
    amounts = [
        row.vcpus,
        row.memory_gib,
        row.accelerator_count,
        row.accelerator_memory_gib,
        row.local_disk_gib,
    ]
    if (
        not (row.cloud and row.instance_type and prices)
        or not all(0 <= number < 1e9 for number in (*prices, *amounts))
        or row.arch not in ARCHITECTURES
        or bool(row.accelerator) != (row.accelerator_count > 0)
    ):
        raise ValueError(f"not an offer: {row}")


def _write(database: sqlite3.Connection, rows: list[CatalogRow]) -> None:
    database.executescript(
        f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA page_size=4096;"
        f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={SCHEMA_VERSION}; {_SCHEMA}"
    )
    database.execute("BEGIN")
    places = {place: at for at, place in enumerate(sorted({(r.cloud, r.region, r.zone) for r in rows}))}
    types = {kind: at for at, kind in enumerate(sorted({_type_of(row) for row in rows}))}
    sources = {name: at for at, name in enumerate(sorted({row.source for row in rows}))}
    if len(places) >> _PLACE_BITS:
        raise ValueError(f"{len(places)} places are more than the index can number")
    database.executemany("INSERT INTO places VALUES(?,?,?,?)", ((at, *place) for place, at in places.items()))
    database.executemany(
        "INSERT INTO types VALUES(?,?,?,?,?,?,?,?,?,?)", ((at, *kind) for kind, at in types.items())
    )
    database.executemany("INSERT INTO sources VALUES(?,?)", ((at, name) for name, at in sources.items()))
    offers = sorted(
        (
            types[_type_of(row)],
            places[row.cloud, row.region, row.zone],
            row.price,
            row.spot_price,
            row.as_of,
            sources[row.source],
        )
        for row in rows
    )
    database.executemany("INSERT INTO offers VALUES(?,?,?,?,?,?)", offers)
    names = list(types)
    _write_markets(database, [_entries(offers, names, spot) for spot in (False, True)], names)
    _write_lists(database)
    database.execute("INSERT INTO meta VALUES('offers', ?)", (len(rows),))
    for statement in (_LATER, "COMMIT", "VACUUM"):
        database.execute(statement)


_Type = tuple[str, str, float, float, str, float, float, str, float]
_Stored = tuple[int, int, "float | None", "float | None", float, int]


def _type_of(row: CatalogRow) -> _Type:
    return (
        row.cloud,
        row.instance_type,
        float(row.vcpus),
        float(row.memory_gib),
        row.accelerator,
        float(row.accelerator_count),
        float(row.accelerator_memory_gib),
        row.arch,
        float(row.local_disk_gib),
    )


def _entries(offers: list[_Stored], names: list[_Type], spot: bool) -> list[_Entry]:
    """The offers of one market, place by place, each place in the order of the ranking."""
    entries = []
    for kind, place, price, spot_price, as_of, _ in offers:
        asked = spot_price if spot else price
        if asked is not None:
            _, name, vcpus, memory, _, count, _, arch, _ = names[kind]
            entries.append(_Entry(place, asked, count, vcpus, memory, name, kind, arch_code(arch), as_of))
    entries.sort(key=lambda entry: (entry.place, entry.ranking))
    return entries


def _write_markets(database: sqlite3.Connection, markets: list[list[_Entry]], names: list[_Type]) -> None:
    groups = {group: at for at, group in enumerate(sorted({(kind[4], kind[5]) for kind in names if kind[4]}))}
    memory = {(kind[4], kind[5]): kind[6] for kind in names}
    database.executemany(
        "INSERT INTO groups VALUES(?,?,?,?)", ((at, *group, memory[group]) for group, at in groups.items())
    )
    for spot, entries in enumerate(markets):
        for arch in range(len(ARCHITECTURES) + 1):
            for table, keep in (("shapes", _shapes), ("skyline", _skyline)):
                database.executemany(
                    f"INSERT INTO {table} VALUES(?,?,?,?,?,?,?)", _ranked(entries, bool(spot), arch, keep)
                )
        accelerated = sorted(
            ((groups[names[entry.type][4], entry.count], entry) for entry in entries if entry.count),
            key=lambda pair: (pair[0], pair[1].ranking[:4], pair[1].place, pair[1].name),
        )
        for group, members in groupby(accelerated, key=lambda pair: pair[0]):
            first = group_key(group, bool(spot))
            database.executemany(
                "INSERT INTO accelerated VALUES(?,?,?,?,?,?,?)",
                (entry.stored(first + rank) for rank, (_, entry) in enumerate(members)),
            )


def _ranked(entries: list[_Entry], spot: bool, arch: int, keep: object) -> Iterator[tuple[object, ...]]:
    assert callable(keep)
    for place, members in groupby(entries, key=lambda entry: entry.place):
        first = place_key(spot, arch, place)
        chosen = (entry for entry in members if arch in (ANY_ARCH, entry.arch))
        for rank, entry in enumerate(keep(chosen)):
            yield entry.stored(first + rank)


def _shapes(entries: Iterable[_Entry]) -> Iterator[_Entry]:
    """The first of each size."""
    seen: set[tuple[float, float]] = set()
    for entry in entries:
        size = (entry.vcpus, entry.memory)
        if size not in seen:
            seen.add(size)
            yield entry


def _skyline(entries: Iterable[_Entry]) -> Iterator[_Entry]:
    """Those that no earlier one equals or exceeds in vCPUs and in memory."""
    best: list[tuple[float, float]] = []
    for entry in entries:
        if not any(vcpus >= entry.vcpus and memory >= entry.memory for vcpus, memory in best):
            best.append((entry.vcpus, entry.memory))
            yield entry


def _write_lists(database: sqlite3.Connection) -> None:
    database.execute(
        "INSERT INTO accelerators SELECT accelerator, count, p.cloud, max(accelerator_memory),"
        " count(DISTINCT region), min(price), min(spot_price), min(as_of)"
        " FROM offers o JOIN types t ON t.id = o.type JOIN places p ON p.id = o.place"
        " WHERE accelerator != '' GROUP BY 1, 2, 3"
    )
    database.execute(
        "INSERT INTO clouds SELECT cloud, count(*), count(DISTINCT region), min(as_of), max(as_of)"
        " FROM offers o JOIN places p ON p.id = o.place GROUP BY 1"
    )
