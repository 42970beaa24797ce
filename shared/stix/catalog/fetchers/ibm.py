"""IBM Cloud VPC: regions, zones and instance profiles from its API; prices are not in any API of theirs.

A profile's price is the published one of its region that the caller passes (with its own ``as_of``); one
without a price is left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from stix.catalog.fetchers.collect import Rows, items, number
from stix.catalog.fetchers.names import accelerator_name
from stix.catalog.fetchers.web import PriceApi
from stix.catalog.row import CatalogRow
from stix.catalog.source import Fetched, FetchError

__all__ = ["CLOUD", "fetch"]

CLOUD = "ibm"
TOKEN_URL = "https://iam.cloud.ibm.com/identity/token"
REGIONS_URL = "https://us-south.iaas.cloud.ibm.com/v1/regions"
VERSION = {"version": "2026-10-06", "generation": "2"}
_ARCHITECTURES = {"amd64": "x86_64", "arm64": "arm64"}


def fetch(api: PriceApi, published: Iterable[CatalogRow], *, key: str) -> Fetched:
    """``key``: an API key; it is changed for a token of an hour."""
    now = api.now()
    rows = Rows(CLOUD, now=now)
    prices = {(row.region, row.instance_type): row for row in published}
    headers = {"Authorization": f"Bearer {_token(api, key)}"}

    def ask(url: str) -> Any:
        return api.get(url, params=VERSION, headers=headers)

    for region in items(ask(REGIONS_URL), "regions"):
        if region["status"] != "available":
            continue
        name = region["name"]
        zones = [zone["name"] for zone in items(ask(f"{REGIONS_URL}/{name}/zones"), "zones")]
        for profile in items(ask(f"{region['endpoint']}/v1/instance/profiles"), "profiles"):
            try:
                _add(rows, profile, name, zones, prices.get((name, profile["name"])))
            except (AttributeError, IndexError, KeyError, TypeError, ValueError) as exc:
                rows.malformed(type(exc).__name__)
    return rows.finish()


def _token(api: PriceApi, key: str) -> str:
    form = {"grant_type": "urn:ibm:params:oauth:grant-type:apikey", "apikey": key}
    answer = api.post(TOKEN_URL, form=form)
    if not isinstance(answer, dict) or not answer.get("access_token"):
        raise FetchError("ibm: the token service answered without an access_token.")
    return str(answer["access_token"])


def _add(
    rows: Rows, profile: dict[str, Any], region: str, zones: list[str], published: CatalogRow | None
) -> None:
    if published is None:
        rows.skip("no published price")
        return
    count = number(profile["gpu_count"]["value"]) if profile.get("gpu_count") else 0.0
    memory = number(profile["gpu_memory"]["value"]) if count else 0.0
    accelerator = accelerator_name(profile["gpu_model"]["values"][0], memory_gib=memory) if count else ""
    if count and not accelerator:
        rows.skip(f"unknown accelerator: {profile['gpu_model']['values'][0]}")
        return
    for zone in zones:
        rows.add(
            CatalogRow(
                cloud=CLOUD,
                region=region,
                zone=zone,
                instance_type=profile["name"],
                vcpus=number(profile["vcpu_count"]["value"]),
                memory_gib=number(profile["memory"]["value"]),
                accelerator=accelerator,
                accelerator_count=count,
                accelerator_memory_gib=memory,
                arch=_ARCHITECTURES.get(profile["vcpu_architecture"]["value"], "unknown"),
                price=published.price,
                spot_price=published.spot_price,
                as_of=published.as_of,
                source=published.source,
            )
        )
