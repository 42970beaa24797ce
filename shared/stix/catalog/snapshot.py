"""The catalog that is in use here: one that was made in the home folder, or else the one that ships.

The shipped one is a compiled index, made by ``python -m catalog.build_snapshot`` in the source tree: to open
it costs a fresh install nothing and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from stix.catalog.index import CatalogIndex, compile_index, open_index
from stix.catalog.row import CatalogRow

__all__ = ["SNAPSHOT", "ActiveCatalog", "active_catalog", "snapshot_rows", "use_rows"]

SNAPSHOT = Path(__file__).parent / "data" / "snapshot.index.xz"


@dataclass(frozen=True, slots=True)
class ActiveCatalog:
    """``shipped``: it came with Stix; nobody fetched or imported prices in this home folder."""

    path: Path
    shipped: bool

    def open(self) -> CatalogIndex:
        """Raises ``InvalidInputError`` for a file that this version does not read."""
        return open_index(self.path)


def active_catalog(home: Path) -> ActiveCatalog:
    own = _own(home)
    return ActiveCatalog(own, shipped=False) if own.is_file() else ActiveCatalog(SNAPSHOT, shipped=True)


def use_rows(home: Path, rows: Iterable[CatalogRow]) -> str:
    """Make ``rows`` the catalog of ``home``, at once and as a whole; its SHA-256 (hex)."""
    return compile_index(rows, _own(home))


def snapshot_rows() -> list[CatalogRow]:
    """The offers that ship with Stix."""
    index = open_index(SNAPSHOT)
    try:
        return list(index.rows())
    finally:
        index.close()


def _own(home: Path) -> Path:
    return home / "catalog" / "prices.index"
