from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stix.catalog.fetchers.collect import Rows, items, problem
from stix.catalog.fetchers.names import accelerator_name
from stix.catalog.row import CatalogRow
from stix.catalog.row_bytes import RowBytesError, dump_rows, load_rows
from stix.catalog.source import FetchError
from tests.unit.price_answers import NOW

ROW = CatalogRow("aws", "us-east-1", "us-east-1a", "m6i.large", 2, 8, price=0.096, as_of=NOW, source="test")
GPU = replace(
    ROW, instance_type="g6.xlarge", accelerator="L4", accelerator_count=1, accelerator_memory_gib=24
)


@pytest.mark.parametrize("row", [ROW, GPU, replace(GPU, accelerator_count=0.125), replace(ROW, zone="")])
def test_row_is_sound_when_its_figures_are_possible(row: CatalogRow) -> None:
    assert problem(row, now=NOW) == ""


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"region": ""}, "region"),
        ({"region": "us\neast"}, "region"),
        ({"zone": "\u202e"}, "zone"),
        ({"instance_type": "x" * 81}, "instance_type"),
        ({"vcpus": 0}, "vcpus"),
        ({"vcpus": math.nan}, "vcpus"),
        ({"memory_gib": -1}, "memory_gib"),
        ({"memory_gib": math.inf}, "memory_gib"),
        ({"accelerator": "L4"}, "accelerator_count"),
        ({"accelerator_count": 1}, "accelerator_count"),
        ({"accelerator": "L4", "accelerator_count": 1.5}, "accelerator_count"),
        ({"arch": "mips"}, "arch"),
        ({"price": None}, "price"),
        ({"price": 0.0}, "price"),
        ({"price": math.nan}, "price"),
        ({"price": 1e6}, "price"),
        ({"spot_price": -0.1}, "spot_price"),
        ({"as_of": 0.0}, "as_of"),
        ({"as_of": NOW + 90_000}, "as_of"),
        ({"local_disk_gib": -1}, "local_disk_gib"),
    ],
)
def test_row_is_refused_by_field_when_a_figure_is_impossible(changes: dict[str, Any], field: str) -> None:
    assert problem(replace(ROW, **changes), now=NOW) == field


def test_rows_are_unique_when_a_page_came_twice() -> None:
    rows = Rows("aws", now=NOW)
    for _ in range(2):
        rows.add(ROW)
        rows.add(GPU)
    assert rows.finish().rows == (ROW, GPU)


def test_accelerator_has_its_marketed_memory_when_the_cloud_says_less() -> None:
    rows = Rows("aws", now=NOW)
    rows.add(replace(GPU, accelerator_memory_gib=22.4))
    rows.add(replace(GPU, instance_type="new.large", accelerator="Unheard-Of", accelerator_memory_gib=5.5))
    assert [row.accelerator_memory_gib for row in rows.finish().rows] == [24, 5.5]


def test_rows_of_another_cloud_are_malformed() -> None:
    rows = Rows("gcp", now=NOW)
    rows.add(ROW)
    with pytest.raises(FetchError, match="1 of 1 prices are not as its API describes them: malformed: cloud"):
        rows.finish()


@pytest.mark.parametrize(("broken", "refused"), [(1, False), (2, True)])
def test_fetch_is_refused_when_over_a_tenth_is_malformed(broken: int, refused: bool) -> None:
    rows = Rows("aws", now=NOW)
    for number in range(9):
        rows.add(replace(ROW, instance_type=f"m{number}.large"))
    for _ in range(broken):
        rows.malformed("KeyError")
    if refused:
        with pytest.raises(FetchError, match="2 of 11"):
            rows.finish()
    else:
        assert rows.finish().left_out == {"malformed: KeyError": 1}


def test_fetch_is_refused_when_nothing_is_left() -> None:
    rows = Rows("aws", now=NOW)
    rows.skip("unpriced")
    with pytest.raises(FetchError, match="no usable row"):
        rows.finish()


@pytest.mark.parametrize("answer", [None, [], {"data": {}}, {"data": {"list": {"a": 1}}}])
def test_list_is_missed_by_name_when_the_format_changed(answer: Any) -> None:
    with pytest.raises(FetchError, match=r"no list 'data\.list'"):
        items(answer, "data", "list")


@pytest.mark.parametrize(
    ("name", "memory", "expected"),
    [
        ("NVIDIA GeForce RTX 4090", 24, "RTX4090"),
        ("Tesla V100", 16, "V100"),
        ("Tesla V100", 32, "V100-32GB"),
        ("A100 SXM4", 40, "A100"),
        ("A100 SXM4", 79.2, "A100-80GB"),
        ("A100 (80 GB SXM4)", 80, "A100-80GB"),
        ("NVIDIA RTX 6000 Ada Generation", 48, "RTX6000-Ada"),
        ("RTX_A6000", 48, "RTXA6000"),
        ("H100 NVL", 94, "H100-NVL"),
        ("AMD Instinct MI300X OAM", 192, "MI300X"),
        ("Quantum Thing 9000", 1, ""),
        ("", 0, ""),
    ],
)
def test_accelerator_has_the_catalogs_name(name: str, memory: float, expected: str) -> None:
    assert accelerator_name(name, memory_gib=memory) == expected


words = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=12)
figures = st.floats(0, 1e6, allow_nan=False)
catalog_rows = st.builds(
    CatalogRow,
    *[words] * 4,
    *[figures] * 2,
    accelerator=words,
    price=st.none() | figures,
    spot_price=st.none() | figures,
    as_of=figures,
    source=words,
)


@given(st.lists(catalog_rows, max_size=5))
def test_rows_come_back_from_their_file_as_they_were(rows: list[CatalogRow]) -> None:
    data = dump_rows(rows)
    assert sorted(map(repr, load_rows(data))) == sorted(map(repr, rows))
    assert dump_rows(load_rows(data)) == data


@pytest.mark.parametrize("data", [b"", b"not gzip", dump_rows([ROW])[:-9]])
def test_rows_file_is_refused_when_it_is_not_whole(data: bytes) -> None:
    with pytest.raises(RowBytesError):
        load_rows(data)
