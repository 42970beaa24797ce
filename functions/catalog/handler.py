"""Worker: refreshes the prices."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from stix.application import refresh_catalog
from stix.catalog.fetchers.registry import CLOUDS
from stix.catalog.snapshot import snapshot_rows
from stix.runtime.dispatch import Action, dispatch
from stix.runtime.price_sources import price_sources

logger = Logger(service="catalog")

ACTIONS: dict[str, Action] = {
    "start": lambda w, _: refresh_catalog.start(w, CLOUDS),
    "list_parts": lambda _, __: refresh_catalog.list_parts(price_sources()),
    "fetch_part": lambda w, e: refresh_catalog.fetch_part(
        w, price_sources()[e["place"]["cloud"]], e["place"]["part"], snapshot_rows
    ),
    "publish": lambda w, _: refresh_catalog.publish(w, snapshot_rows()),
}


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """The schedule's call, or one step of the catalog machine."""
    return dispatch(ACTIONS, event, logger)
