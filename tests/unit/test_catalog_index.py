"""The compiled index against a scan of the rows it was made of."""

from __future__ import annotations

import lzma
import sqlite3
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stix.adapters.local_files import LocalObjectStore
from stix.catalog.index import CatalogIndex, compile_index, open_index
from stix.catalog.publish import POINTER, cached_index, publish_index
from stix.catalog.row import CatalogRow
from stix.model.errors import InvalidInputError, UnavailableError
from stix.ports.object_store import ObjectNotFoundError
from tests.samples import examples

ROW = CatalogRow("aws", "us-1", "us-1a", "m.large", 2, 8, price=0.1, spot_price=0.04, as_of=1000.0)
GPU = replace(
    ROW, instance_type="g.xl", accelerator="A100", accelerator_count=8, accelerator_memory_gib=40, price=20.0
)


@dataclass(frozen=True)
class Need:
    vcpus: float | None = None
    vcpus_at_least: bool = True
    memory_gib: float | None = None
    memory_at_least: bool = True
    memory_per_vcpu: bool = False
    accelerator: str = ""
    accelerator_count: float = 0.0
    instance_type: str = ""
    cloud: str = ""
    region: str = ""
    zone: str = ""
    arch: str = ""
    local_disk_gib: float = 0.0


def made(folder: Path, rows: list[CatalogRow]) -> CatalogIndex:
    compile_index(rows, folder / "prices.index")
    return open_index(folder / "prices.index")


SIZES = st.sampled_from([1.0, 2.0, 4.0, 8.0])
PRICES = st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.4])


@st.composite
def catalogs(draw: st.DrawFn) -> list[CatalogRow]:
    """Few values each, so that prices and sizes are often equal."""
    rows = []
    for _ in range(draw(st.integers(1, 40))):
        accelerator = draw(st.sampled_from(["", "", "A100", "L4"]))
        count = draw(st.sampled_from([0.25, 0.5, 1.0, 2.0])) if accelerator else 0.0
        region = draw(st.sampled_from(["r1", "r2"]))
        prices = draw(st.tuples(PRICES, st.one_of(st.none(), PRICES)))
        price, spot_price = prices if draw(st.booleans()) else (None, prices[0])
        rows.append(
            CatalogRow(
                draw(st.sampled_from(["aws", "gcp"])),
                region,
                draw(st.sampled_from(["", f"{region}a", f"{region}b"])),
                draw(st.sampled_from(["small", "large", "huge"])),
                draw(SIZES),
                draw(SIZES),
                accelerator,
                count,
                16.0 if accelerator else 0.0,
                draw(st.sampled_from(["x86_64", "arm64"])),
                price,
                spot_price,
                1000.0,
                draw(st.sampled_from([0.0, 100.0])),
            )
        )
    # One offer for each machine and place: of two, which one counts is another test's.
    return list({(row.cloud, row.region, row.zone, row.instance_type): row for row in rows}.values())


NEEDS = st.builds(
    Need,
    vcpus=st.one_of(st.none(), SIZES, st.just(3.0)),
    vcpus_at_least=st.booleans(),
    memory_gib=st.one_of(st.none(), SIZES),
    memory_at_least=st.booleans(),
    memory_per_vcpu=st.booleans(),
    accelerator=st.sampled_from(["", "", "A100", "a100", "L4", "H100"]),
    accelerator_count=st.sampled_from([0.3, 0.5, 1.0, 2.0]),
    instance_type=st.sampled_from(["", "", "", "small", "Small"]),
    cloud=st.sampled_from(["", "", "aws"]),
    region=st.sampled_from(["", "", "r1"]),
    zone=st.sampled_from(["", "", "r1a"]),
    arch=st.sampled_from(["", "x86_64", "arm64"]),
    local_disk_gib=st.sampled_from([0.0, 0.0, 50.0]),
)


def scan(rows: list[CatalogRow], need: Need, spot: bool) -> list[tuple[object, ...]]:
    found = []
    for row in rows:
        price = row.spot_price if spot else row.price
        if price is not None and meets(row, need):
            place = (row.cloud, row.region, row.zone)
            found.append((price, row.accelerator_count, row.vcpus, row.memory_gib, place, row.instance_type))
    return sorted(found)


def meets(row: CatalogRow, need: Need) -> bool:
    enough = need.vcpus is None or row.vcpus == need.vcpus or (need.vcpus_at_least and row.vcpus > need.vcpus)
    if need.memory_gib is not None:
        if need.memory_per_vcpu:
            enough = enough and row.memory_gib >= need.memory_gib * row.vcpus
        elif need.memory_at_least:
            enough = enough and row.memory_gib >= need.memory_gib
        else:
            enough = enough and row.memory_gib == need.memory_gib
    if need.accelerator:
        asked, has = need.accelerator_count, row.accelerator_count
        enough = enough and need.accelerator.lower() == row.accelerator.lower()
        enough = enough and (has == asked if asked >= 1 else asked <= has <= 1)
    return (
        enough
        and all(
            asked in ("", has)
            for asked, has in (
                (need.instance_type, row.instance_type),
                (need.cloud, row.cloud),
                (need.region, row.region),
                (need.zone, row.zone),
                (need.arch, row.arch),
            )
        )
        and row.local_disk_gib >= need.local_disk_gib
    )


@settings(max_examples=examples(150), suppress_health_check=list(HealthCheck))
@given(catalogs(), st.lists(NEEDS, min_size=1, max_size=8))
def test_answers_equal_a_scan_of_all_rows(
    tmp_path_factory: pytest.TempPathFactory, rows: list[CatalogRow], needs: list[Need]
) -> None:
    index = made(tmp_path_factory.mktemp("index"), rows)
    try:
        for need in needs:
            for spot in (False, True):
                expected = scan(rows, need, spot)
                found = [
                    (one.price, one.accelerator_count, one.vcpus, one.memory_gib, one[:3], one.instance_type)
                    for one in index.matching(need, spot=spot)
                ]
                assert found == expected
                for best, units in (
                    (index.best_per_place, lambda row: row[4]),
                    (index.best_per_region, lambda row: row[4][:2]),
                ):
                    first: dict[object, tuple[object, ...]] = {}
                    for row in expected:
                        first.setdefault(units(row), row)
                    got = [
                        (
                            one.price,
                            one.accelerator_count,
                            one.vcpus,
                            one.memory_gib,
                            one[:3],
                            one.instance_type,
                        )
                        for one in best(need, spot=spot)
                    ]
                    assert got == list(first.values())
        assert sorted(map(repr, index.rows())) == sorted(map(repr, rows))
    finally:
        index.close()


def test_index_is_the_same_bytes_when_the_rows_come_in_another_order(tmp_path: Path) -> None:
    rows = [ROW, GPU, replace(ROW, region="us-2", zone="")]
    first = compile_index(rows, tmp_path / "a")
    assert compile_index(reversed(rows), tmp_path / "b") == first
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert compile_index([*rows, replace(ROW, price=0.2, as_of=2000.0)], tmp_path / "c") != first


def test_newer_price_counts_when_a_machine_is_there_twice(tmp_path: Path) -> None:
    index = made(tmp_path, [replace(ROW, price=0.5, as_of=3000.0), ROW])
    assert [row.price for row in index.rows()] == [0.5]
    assert index.market_prices("aws", "us-1", "us-1a", "m.large") == (0.5, 0.04)
    assert index.market_prices("aws", "us-1", "us-1b", "m.large") == (None, None)
    index.close()


@pytest.mark.parametrize(
    "change",
    [
        {"cloud": ""},
        {"price": None, "spot_price": None},
        {"price": float("nan")},
        {"price": -1.0},
        {"vcpus": float("inf")},
        {"arch": "sparc"},
        {"accelerator": "A100"},
        {"accelerator_count": 1.0},
    ],
)
def test_compile_refuses_and_keeps_the_old_index_when_a_row_is_impossible(
    tmp_path: Path, change: dict[str, object]
) -> None:
    digest = compile_index([ROW], tmp_path / "index")
    with pytest.raises(ValueError, match="not an offer"):
        compile_index([replace(ROW, **change)], tmp_path / "index")  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
    assert compile_index([ROW], tmp_path / "again") == digest


def test_summaries_name_counts_regions_and_lowest_prices(tmp_path: Path) -> None:
    rows = [ROW, GPU, replace(GPU, region="us-2", zone="us-2a", price=18.0, spot_price=None, as_of=500.0)]
    index = made(tmp_path, rows)
    assert [tuple(one) for one in index.accelerators()] == [("A100", 8.0, "aws", 40.0, 2, 18.0, 0.04, 500.0)]
    assert [tuple(one) for one in index.clouds()] == [("aws", 3, 2, 500.0, 1000.0)]
    assert index.accelerator_counts("a100") == [8.0]
    assert index.accelerator_memory() == {"A100": 40.0}
    assert [row.instance_type for row in index.rows(accelerator="a100")] == ["g.xl", "g.xl"]
    index.close()


def test_open_names_the_fix_when_the_file_is_no_index(tmp_path: Path) -> None:
    other = tmp_path / "other"
    sqlite3.connect(other).execute("CREATE TABLE t(x)").connection.close()
    (tmp_path / "text").write_text("no database at all, but longer than a header of one would be" * 10)
    for name in ("absent", "other", "text"):
        with pytest.raises(InvalidInputError) as refused:
            open_index(tmp_path / name)
        assert "stix catalog refresh" in refused.value.hint


def test_path_with_special_signs_opens(tmp_path: Path) -> None:
    folder = tmp_path / "a ?#%41b"
    index = made(folder, [ROW])
    assert index.places() == [("aws", "us-1", "us-1a")]
    index.close()


# -- publishing ----------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> LocalObjectStore:
    return LocalObjectStore(tmp_path / "objects", "http://localhost", b"k" * 32)


def test_readers_get_what_was_published_last(tmp_path: Path, store: LocalObjectStore) -> None:
    cache = tmp_path / "cache"
    assert cached_index(store, cache) is None
    compile_index([ROW], tmp_path / "one")
    first = publish_index(store, tmp_path / "one")
    path = cached_index(store, cache)
    assert path is not None
    assert path.name == f"{first}.index"
    held = open_index(path)

    compile_index([ROW, GPU], tmp_path / "two")
    second = publish_index(store, tmp_path / "two")
    newer = cached_index(store, cache)
    assert newer is not None
    assert [one.name for one in cache.iterdir()] == [f"{second}.index"]
    assert len(list(held.rows())) == 1, "who has the old one open keeps it"
    held.close()
    opened = open_index(newer)
    assert len(list(opened.rows())) == 2
    opened.close()


def test_cached_index_is_not_fetched_again(
    tmp_path: Path, store: LocalObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_index([ROW], tmp_path / "one")
    publish_index(store, tmp_path / "one")
    path = cached_index(store, tmp_path / "cache")
    got: list[str] = []
    real = store.get
    monkeypatch.setattr(store, "get", lambda key: (got.append(key), real(key))[1])
    assert cached_index(store, tmp_path / "cache") == path
    assert got == [POINTER]


def test_pointer_stays_when_the_upload_of_the_index_fails(
    tmp_path: Path, store: LocalObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_index([ROW], tmp_path / "one")
    first = publish_index(store, tmp_path / "one")
    compile_index([ROW, GPU], tmp_path / "two")

    def full(_key: str, _data: bytes) -> None:
        raise UnavailableError("The disk is full.")

    with monkeypatch.context() as patched:
        patched.setattr(store, "put", full)
        with pytest.raises(UnavailableError):
            publish_index(store, tmp_path / "two")
    path = cached_index(store, tmp_path / "cache")
    assert path is not None
    assert path.name == f"{first}.index"


@pytest.mark.parametrize("damage", [b"{}", b"not json", b'{"sha256": "../../etc/passwd"}'])
def test_damaged_pointer_is_told_and_touches_nothing(
    tmp_path: Path, store: LocalObjectStore, damage: bytes
) -> None:
    store.put(POINTER, damage)
    with pytest.raises(UnavailableError):
        cached_index(store, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_damaged_index_is_told_and_not_cached(tmp_path: Path, store: LocalObjectStore) -> None:
    compile_index([ROW], tmp_path / "one")
    digest = publish_index(store, tmp_path / "one")
    store.put(f"catalog/index/{digest}.index", b"something else")
    with pytest.raises(UnavailableError):
        cached_index(store, tmp_path / "cache")
    store.delete(f"catalog/index/{digest}.index")
    with pytest.raises(ObjectNotFoundError):
        store.get(f"catalog/index/{digest}.index")
    with pytest.raises(UnavailableError):
        cached_index(store, tmp_path / "cache")


@pytest.mark.parametrize(
    "content", [b"", b"no archive", lzma.compress(b"no index"), lzma.compress(b"x" * 9999)[:40]]
)
def test_packed_index_is_refused_when_it_is_damaged(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "prices.index.xz"
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"prices\.index\.xz is not a catalog"):
        open_index(path)
