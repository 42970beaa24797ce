"""The catalog that launches rank from: the newest published one, else the one that ships."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from stix.catalog.index import CatalogIndex, open_index
from stix.catalog.publish import cached_index
from stix.catalog.snapshot import SNAPSHOT, active_catalog
from stix.optimizer.catalog import PricedOffer
from stix.optimizer.request import Machine
from stix.ports.object_store import ObjectStore
from stix.ports.surroundings import Clock

__all__ = ["CurrentCatalog", "home_catalog", "published_catalog"]

_CHECK_SECONDS = 300.0


class CurrentCatalog:
    """Implements ``Catalog``: opens the file that ``locate`` names when it is first asked, and again when it
    changed; looked at most every five minutes. Any number of threads may ask, each with a reader of its own.
    """

    def __init__(self, locate: Callable[[], Path], clock: Clock) -> None:
        self._locate = locate
        self._clock = clock
        self._own = threading.local()

    def best_per_place(self, need: Machine, *, spot: bool) -> Sequence[PricedOffer]:
        return self._index().best_per_place(need, spot=spot)

    def best_per_region(self, need: Machine, *, spot: bool) -> Sequence[PricedOffer]:
        return self._index().best_per_region(need, spot=spot)

    def matching(self, need: Machine, *, spot: bool) -> Iterator[PricedOffer]:
        return self._index().matching(need, spot=spot)

    def accelerator_memory(self) -> Mapping[str, float]:
        return self._index().accelerator_memory()

    def accelerator_counts(self, name: str) -> Sequence[float]:
        return self._index().accelerator_counts(name)

    def places(self) -> Sequence[tuple[str, str, str]]:
        return self._index().places()

    def _index(self) -> CatalogIndex:
        own, now = self._own, self._clock.now()
        index: CatalogIndex | None = getattr(own, "index", None)
        if index is not None and now < own.check_at:
            return index
        path = self._locate()
        mark = (path, path.stat().st_mtime_ns)
        if index is None or own.mark != mark:
            opened = open_index(path)
            if index is not None:
                index.close()
            own.index, own.mark = opened, mark
        own.check_at = now + _CHECK_SECONDS
        found: CatalogIndex = own.index
        return found


def published_catalog(objects: ObjectStore, folder: Path, clock: Clock) -> CurrentCatalog:
    """The deployment's: refreshed on a schedule and published to its object store; kept in ``folder``."""
    return CurrentCatalog(lambda: cached_index(objects, folder) or SNAPSHOT, clock)


def home_catalog(home: Path, clock: Clock) -> CurrentCatalog:
    """The one that ``stix plan`` uses on this computer."""
    return CurrentCatalog(lambda: active_catalog(home).path, clock)
