"""Every cloud's fetcher, with the credentials that it finds in the environment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from stix.catalog.fetchers import aws, azure, cudo, gcp, ibm, lambda_cloud, oci, paperspace, runpod, vast
from stix.catalog.fetchers.azure_sizes import Size
from stix.catalog.fetchers.web import PriceApi
from stix.catalog.row import CatalogRow
from stix.catalog.source import WHOLE_CLOUD, Fetched, Source

if TYPE_CHECKING:
    import httpx

__all__ = ["CLOUDS", "REQUIRED", "make_client", "missing", "sources"]

REQUIRED: Mapping[str, tuple[str, ...]] = {
    aws.CLOUD: (),
    azure.CLOUD: (),
    cudo.CLOUD: (),
    gcp.CLOUD: ("GOOGLE_CLOUD_PROJECT", "CLOUDSDK_AUTH_ACCESS_TOKEN"),
    ibm.CLOUD: ("IBMCLOUD_API_KEY",),
    lambda_cloud.CLOUD: ("LAMBDA_API_KEY",),
    oci.CLOUD: (),
    paperspace.CLOUD: ("PAPERSPACE_API_KEY",),
    runpod.CLOUD: ("RUNPOD_API_KEY",),
    vast.CLOUD: (),
}
"""Environment variables without which a cloud does not show its prices."""

CLOUDS = tuple(REQUIRED)

_BEARER = {
    gcp.CLOUD: "CLOUDSDK_AUTH_ACCESS_TOKEN",
    lambda_cloud.CLOUD: "LAMBDA_API_KEY",
    paperspace.CLOUD: "PAPERSPACE_API_KEY",
    runpod.CLOUD: "RUNPOD_API_KEY",
}
_AZURE_ACCOUNT = ("AZURE_SUBSCRIPTION_ID", "AZURE_ACCESS_TOKEN")
_TIMEOUT_SECONDS = 60.0


def missing(cloud: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Variables that the cloud needs and that are not set."""
    return tuple(name for name in REQUIRED[cloud] if not environ.get(name))


def make_client(cloud: str, environ: Mapping[str, str]) -> httpx.Client:
    """A client for one cloud's API with its credentials; it goes nowhere else."""
    import httpx

    headers = {"User-Agent": "stix-catalog", "Accept-Encoding": "gzip"}
    if cloud in _BEARER:
        headers["Authorization"] = f"Bearer {environ[_BEARER[cloud]]}"
    return httpx.Client(headers=headers, timeout=_TIMEOUT_SECONDS, follow_redirects=True)


def sources(
    environ: Mapping[str, str],
    *,
    client: Callable[[str], httpx.Client],
    sleep: Callable[[float], None],
    random: Callable[[], float],
    now: Callable[[], float],
    published: Iterable[CatalogRow],
    ec2: aws.Clients | None = None,
) -> dict[str, Source]:
    """The fetchers whose credentials are there, by cloud.

    ``client``: makes the HTTP client of a cloud. ``published``: rows for what no API tells (prices of IBM and
    Paperspace, regions of Oracle). ``ec2``: clients of an AWS account, for zones and spot prices.
    """
    by_cloud: dict[str, list[CatalogRow]] = {}
    for row in published:
        by_cloud.setdefault(row.cloud, []).append(row)
    clients: dict[str, httpx.Client] = {}

    def api(cloud: str) -> PriceApi:
        if cloud not in clients:
            clients[cloud] = client(cloud)
        return PriceApi(clients[cloud], sleep=sleep, random=random, now=now)

    def whole(cloud: str, fetch: Callable[[PriceApi], Fetched], *, moving: bool = False) -> Source:
        return Source(cloud, lambda: (WHOLE_CLOUD,), lambda _: fetch(api(cloud)), moving)

    def of_aws() -> Source:
        return Source(
            aws.CLOUD,
            lambda: aws.regions(api(aws.CLOUD), ec2),
            lambda region: aws.fetch(api(aws.CLOUD), region, ec2),
        )

    def of_azure() -> Source:
        sizes = _AzureSizes(environ)
        return Source(
            azure.CLOUD,
            lambda: azure.regions(api(azure.CLOUD)),
            lambda region: azure.fetch(api(azure.CLOUD), region, sizes.known(api(azure.CLOUD))),
        )

    def of_gcp(web: PriceApi) -> Fetched:
        return gcp.fetch(web, project=environ["GOOGLE_CLOUD_PROJECT"])

    def of_ibm(web: PriceApi) -> Fetched:
        return ibm.fetch(web, by_cloud.get(ibm.CLOUD, []), key=environ["IBMCLOUD_API_KEY"])

    def of_oci(web: PriceApi) -> Fetched:
        return oci.fetch(web, by_cloud.get(oci.CLOUD, []))

    def of_paperspace(web: PriceApi) -> Fetched:
        return paperspace.fetch(web, by_cloud.get(paperspace.CLOUD, []))

    made = (
        of_aws(),
        of_azure(),
        whole(cudo.CLOUD, cudo.fetch, moving=True),
        whole(gcp.CLOUD, of_gcp),
        whole(ibm.CLOUD, of_ibm),
        whole(lambda_cloud.CLOUD, lambda_cloud.fetch, moving=True),
        whole(oci.CLOUD, of_oci),
        whole(paperspace.CLOUD, of_paperspace, moving=True),
        whole(runpod.CLOUD, runpod.fetch, moving=True),
        whole(vast.CLOUD, vast.fetch, moving=True),
    )
    return {source.cloud: source for source in made if not missing(source.cloud, environ)}


class _AzureSizes:
    """The account's sizes, asked for once a refresh and not once a region; None without an account."""

    def __init__(self, environ: Mapping[str, str]):
        self._subscription, self._token = (environ.get(name, "") for name in _AZURE_ACCOUNT)
        self._known: dict[str, Size] | None = None

    def known(self, api: PriceApi) -> dict[str, Size] | None:
        if self._known is None and self._subscription and self._token:
            self._known = azure.sizes(api, subscription=self._subscription, token=self._token)
        return self._known
