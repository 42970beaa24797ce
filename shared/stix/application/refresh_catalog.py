"""Refreshing the deployment's prices: when, in which parts, and the publication of them all.

A part's last good rows are an object of their own, so that the steps of a run share nothing but the store.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from stix.application.places import SYSTEM
from stix.application.sweep_orphans import PLACE_SECONDS
from stix.application.world import World
from stix.catalog.index_compile import compile_index
from stix.catalog.publish import POINTER, publish_index
from stix.catalog.refresh import publishable_rows, record_published, refresh_part
from stix.catalog.row import CatalogRow
from stix.catalog.source import Source
from stix.model.errors import StixError
from stix.ports.object_store import ObjectNotFoundError, ObjectStore
from stix.ports.surroundings import Event

__all__ = ["EVERY_SECONDS", "MACHINE", "fetch_part", "list_parts", "publish", "start"]

logger = logging.getLogger(__name__)

MACHINE = "catalog"
EVERY_SECONDS = 7 * 3600
_INDEXES = "catalog/index/"
_MAX_PARTS = 250
"""The Map over them stays far below Step Functions' limit of history events."""


def start(world: World, clouds: Iterable[str]) -> dict[str, Any]:
    """Start a run, unless none of ``clouds`` was used for 30 days: idle, even this would cost money."""
    if not _in_use(world, frozenset(clouds)):
        return {"outcome": "IDLE"}
    name = f"catalog-{int(world.clock.now()) // EVERY_SECONDS}"
    return {"outcome": "STARTED" if world.workflows.start(MACHINE, name, {}) else "RUNNING"}


def list_parts(sources: Mapping[str, Source]) -> dict[str, Any]:
    """What there is to fetch. A cloud that cannot say which parts it has is left out this time."""
    parts: list[dict[str, str]] = []
    for source in sources.values():
        try:
            parts += [{"cloud": source.cloud, "part": part} for part in source.parts()]
        except StixError as exc:
            logger.warning("the parts of %s are unknown: %s", source.cloud, exc)
    return {"parts": parts[:_MAX_PARTS]}


def fetch_part(
    world: World, source: Source, part: str, shipped: Callable[[], Iterable[CatalogRow]]
) -> dict[str, Any]:
    """Fetch one part and keep it; ``outcome`` is FETCHED, or KEPT where the rows of before remain."""
    report = refresh_part(world.objects, source, part, shipped())
    place = f"{report.cloud}/{report.part}" if report.part else report.cloud
    if report.error:
        logger.warning("the prices of %s were not fetched: %s", place, report.error)
    elif report.left_out:
        logger.info("of %s were left out: %s", place, dict(report.left_out))
    return {"outcome": "KEPT" if report.error else "FETCHED", "rows": report.rows}


def publish(world: World, shipped: Iterable[CatalogRow]) -> dict[str, Any]:
    """Compile all parts into one index and make it the current one. Raises ``ShrankError``.

    The index of before stays, for readers that have just been told of it; older ones go.
    """
    earlier = set(world.objects.keys(_INDEXES))
    before = _current(world.objects)
    rows = publishable_rows(world.objects, shipped)
    with tempfile.TemporaryDirectory(prefix="stix-catalog-") as folder:
        path = Path(folder) / "prices.index"
        compile_index(rows, path)
        digest = publish_index(world.objects, path)
    record_published(world.objects, len(rows))
    for key in earlier:
        if not key.startswith((f"{_INDEXES}{digest}.", f"{_INDEXES}{before}.")):
            world.objects.delete(key)
    detail = {"sha256": digest, "rows": len(rows)}
    world.events.publish(Event("CatalogPublished", SYSTEM, MACHINE, world.clock.now(), detail))
    return {"outcome": "PUBLISHED", **detail}


def _current(objects: ObjectStore) -> str:
    """The digest of the published index; empty before the first, or where the pointer is damaged."""
    try:
        return str(json.loads(objects.get(POINTER))["sha256"])
    except (ObjectNotFoundError, ValueError, KeyError, TypeError):
        return ""


def _in_use(world: World, clouds: frozenset[str]) -> bool:
    horizon = world.clock.now() - PLACE_SECONDS
    after: str | None = None
    while True:
        page = world.store.list(SYSTEM, "place", after=after)
        if any(item.body["cloud"] in clouds and float(item.body["used_at"]) > horizon for item in page.items):
            return True
        after = page.next
        if after is None:
            return False
