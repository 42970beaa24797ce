"""Worker: refreshes the prices."""

from __future__ import annotations

import logging
from typing import Any

from stix.application import refresh_catalog
from stix.catalog.fetchers.registry import CLOUDS
from stix.catalog.snapshot import snapshot_rows
from stix.runtime.dispatch import Action, dispatch
from stix.runtime.price_sources import price_sources

logger = logging.getLogger(__name__)

ACTIONS: dict[str, Action] = {
    "start": lambda w, _: refresh_catalog.start(w, CLOUDS),
    "list_parts": lambda _, __: refresh_catalog.list_parts(price_sources()),
    "fetch_part": lambda w, e: refresh_catalog.fetch_part(
        w, price_sources()[e["place"]["cloud"]], e["place"]["part"], snapshot_rows
    ),
    "publish": lambda w, _: refresh_catalog.publish(w, snapshot_rows()),
}


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """The schedule's call, or one step of the catalog machine."""
    return dispatch(ACTIONS, event, logger)
