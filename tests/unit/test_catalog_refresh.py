from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from stix.catalog.fetchers import registry
from stix.catalog.folder_files import FolderFiles
from stix.catalog.refresh import (
    ShrankError,
    current_rows,
    forbid_shrink,
    publishable_rows,
    record_published,
    refresh,
    refresh_part,
)
from stix.catalog.row import CatalogRow
from stix.catalog.source import WHOLE_CLOUD, Fetched, FetchError, Source
from stix.model.errors import CredentialsError
from stix.ports.object_store import ObjectNotFoundError
from tests.unit.price_answers import NOW, lambda_answer, lambda_type

OLD = NOW - 30 * 86400


def rows(cloud: str, region: str, count: int, *, as_of: float = NOW) -> list[CatalogRow]:
    plain = CatalogRow(cloud, region, "", "m1", 2, 8, price=0.1, as_of=as_of)
    return [replace(plain, instance_type=f"m{number}") for number in range(count)]


SHIPPED = [
    *rows("aws", "us-east-1", 10, as_of=OLD),
    *rows("aws", "eu-west-1", 10, as_of=OLD),
    *rows("vast", "US", 10, as_of=OLD),
]


def source(
    cloud: str,
    answer: Callable[[str], list[CatalogRow]],
    *,
    parts: Sequence[str] = (WHOLE_CLOUD,),
    moving: bool = False,
) -> Source:
    return Source(cloud, lambda: parts, lambda part: Fetched(tuple(answer(part))), moving)


def failing(part: str) -> list[CatalogRow]:
    raise FetchError(f"no prices of {part}")


@pytest.fixture
def files(tmp_path: Path) -> FolderFiles:
    return FolderFiles(tmp_path / "catalog")


def ages(found: list[CatalogRow]) -> dict[tuple[str, str], set[float]]:
    grouped: dict[tuple[str, str], set[float]] = {}
    for row in found:
        grouped.setdefault((row.cloud, row.region), set()).add(row.as_of)
    return grouped


def test_fetched_parts_replace_the_shipped_rows_and_others_stay(files: FolderFiles) -> None:
    aws = source("aws", lambda part: rows("aws", part, 11), parts=("us-east-1",))
    (report,) = refresh(files, [aws], SHIPPED)
    assert (report.cloud, report.part, report.rows, report.error) == ("aws", "us-east-1", 11, "")
    found = current_rows(files, SHIPPED)
    assert ages(found) == {("aws", "us-east-1"): {NOW}, ("aws", "eu-west-1"): {OLD}, ("vast", "US"): {OLD}}
    assert len(found) == 31


def test_failed_part_keeps_its_previous_rows_with_their_age(files: FolderFiles) -> None:
    first = source("aws", lambda part: rows("aws", part, 12, as_of=NOW - 3600), parts=("us-east-1",))
    refresh(files, [first], SHIPPED)
    (report,) = refresh(files, [source("aws", failing, parts=("us-east-1",))], SHIPPED)
    assert (report.rows, report.error) == (12, "no prices of us-east-1")
    assert ages(current_rows(files, SHIPPED))["aws", "us-east-1"] == {NOW - 3600}


def test_other_clouds_are_fetched_when_one_cannot_even_list_its_parts(files: FolderFiles) -> None:
    def refuse() -> Sequence[str]:
        raise CredentialsError("expired")

    heard: list[str] = []
    sources = [Source("aws", refuse, lambda _: Fetched(())), source("vast", lambda _: rows("vast", "US", 9))]
    reports = refresh(files, sources, SHIPPED, progress=lambda report: heard.append(report.cloud))
    assert [(report.cloud, report.rows, report.error) for report in reports] == [
        ("aws", 20, "expired"),
        ("vast", 9, ""),
    ]
    assert heard == ["aws", "vast"]


@pytest.mark.parametrize(("fetched", "kept"), [(7, 7), (6, 10)])
def test_part_is_refused_when_it_shrank_by_over_thirty_percent(
    files: FolderFiles, fetched: int, kept: int
) -> None:
    aws = source("aws", lambda part: rows("aws", part, fetched))
    report = refresh_part(files, aws, "us-east-1", SHIPPED)
    assert report.rows == kept
    assert bool(report.error) == (kept == 10)
    assert sum(row.region == "us-east-1" for row in current_rows(files, SHIPPED)) == kept


def test_part_is_believed_when_shrinking_is_allowed_or_the_market_moves(files: FolderFiles) -> None:
    aws = source("aws", lambda part: rows("aws", part, 1))
    assert refresh_part(files, aws, "us-east-1", SHIPPED, allow_shrink=True).rows == 1
    vast = source("vast", lambda _: rows("vast", "US", 1), moving=True)
    assert refresh_part(files, vast, WHOLE_CLOUD, SHIPPED).rows == 1
    assert len(current_rows(files, SHIPPED)) == 12


def test_catalog_is_refused_when_it_shrank_by_over_thirty_percent(files: FolderFiles) -> None:
    record_published(files, len(publishable_rows(files, SHIPPED)))
    with pytest.raises(ShrankError, match="20 offers where it had 30: over 30% fewer") as raised:
        publishable_rows(files, SHIPPED[:20])
    assert raised.value.details == {"before": 30, "after": 20}
    assert len(publishable_rows(files, SHIPPED[:20], allow_shrink=True)) == 20


def test_shrinking_is_judged_against_nothing_when_nothing_was_there() -> None:
    forbid_shrink(0, 0, "The catalog")
    forbid_shrink(10, 7, "The catalog")
    with pytest.raises(ShrankError):
        forbid_shrink(10, 6, "The catalog")


def test_damaged_file_counts_as_never_fetched(files: FolderFiles) -> None:
    aws = source("aws", lambda part: rows("aws", part, 12), parts=("us-east-1",))
    refresh(files, [aws], SHIPPED)
    (key,) = files.keys("catalog/rows/")
    files.put(key, files.get(key)[:-20])
    assert ages(current_rows(files, SHIPPED))["aws", "us-east-1"] == {OLD}


def test_folder_replaces_whole_files_and_leaves_no_litter(tmp_path: Path) -> None:
    files = FolderFiles(tmp_path)
    files.put("a/b", b"1")
    files.put("a/b", b"2")
    files.put("c", b"3")
    assert (files.get("a/b"), list(files.keys("a/")), list(files.keys(""))) == (b"2", ["a/b"], ["a/b", "c"])
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 2
    with pytest.raises(ObjectNotFoundError):
        files.get("nowhere")


def offline(cloud: str) -> httpx.Client:
    def handler(request: httpx.Request) -> httpx.Response:
        if cloud == "lambda":
            return httpx.Response(200, json=lambda_answer(lambda_type()))
        raise httpx.ConnectError("no network", request=request)

    return httpx.Client(transport=httpx.MockTransport(handler))


def made(environ: dict[str, str]) -> dict[str, Source]:
    return registry.sources(
        environ,
        client=offline,
        sleep=lambda _: None,
        random=lambda: 0.0,
        now=lambda: NOW,
        published=SHIPPED,
    )


ALL_KEYS = {name: "x" for names in registry.REQUIRED.values() for name in names}


def test_sources_are_those_whose_credentials_are_there() -> None:
    assert set(made({})) == {"aws", "azure", "cudo", "oci", "vast"}
    assert set(made({"LAMBDA_API_KEY": "x"})) - set(made({})) == {"lambda"}
    assert set(made(ALL_KEYS)) == set(registry.CLOUDS)
    assert registry.missing("gcp", {"GOOGLE_CLOUD_PROJECT": "p"}) == ("CLOUDSDK_AUTH_ACCESS_TOKEN",)


def test_refresh_without_a_network_keeps_everything_and_says_why(files: FolderFiles) -> None:
    reports = refresh(files, made(ALL_KEYS).values(), SHIPPED)
    failed = {report.cloud for report in reports if "no network" in report.error}
    # Oracle and Paperspace are asked only about offers that the catalog has.
    assert failed == set(registry.CLOUDS) - {"lambda", "oci", "paperspace"}
    assert all(report.error for report in reports if report.cloud != "lambda")
    assert len(current_rows(files, SHIPPED)) == len(SHIPPED) + 2


def test_client_sends_its_key_to_its_cloud_alone() -> None:
    with registry.make_client("lambda", ALL_KEYS | {"LAMBDA_API_KEY": "K"}) as client:
        assert client.headers["Authorization"] == "Bearer K"
    with registry.make_client("azure", ALL_KEYS) as client:
        assert "Authorization" not in client.headers
