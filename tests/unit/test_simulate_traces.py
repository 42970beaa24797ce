"""Trace files: what is read, and what a person is told of bad ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stix.model.errors import InvalidInputError
from stix.simulate.traces import find_traces, read_trace, read_traces


def write(file: Path, document: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(document if isinstance(document, str) else json.dumps(document))
    return file


def trace(**fields: Any) -> dict[str, Any]:
    return {"metadata": {"gap_seconds": 600}, "data": [1, 0, 4], **fields}


def test_trace_counts_machines_and_says_when_enough_could_be_had(tmp_path):
    found = read_trace(write(tmp_path / "us-west-2a_v100_8.json", trace()))
    assert (found.name, found.gap, found.counts, found.prices) == (
        "us-west-2a_v100_8",
        600.0,
        (1, 0, 4),
        None,
    )
    assert found.available(1) == (1, 0, 1)
    assert found.available(4) == (0, 0, 1)


def test_prices_are_read_where_the_file_has_them(tmp_path):
    assert read_trace(write(tmp_path / "a.json", trace(prices=[1, 2.5, 3]))).prices == (1.0, 2.5, 3.0)


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ("{", "JSON"),
        ([1, 2], "content [1, 2]"),
        ({"data": [1]}, "metadata.gap_seconds null"),
        (trace(metadata={"gap_seconds": 0}), "metadata.gap_seconds 0"),
        (trace(metadata={"gap_seconds": True}), "metadata.gap_seconds true"),
        (trace(metadata={"gap_seconds": "600"}), 'metadata.gap_seconds "600"'),
        (trace(data=[]), "data []"),
        (trace(data=[1, -1]), "data[1] -1"),
        (trace(data=[1, 0.5]), "data[1] 0.5"),
        (trace(data=[True]), "data[0] true"),
        ('{"metadata": {"gap_seconds": 600}, "data": [NaN]}', "data[0] NaN"),
        (trace(prices=[1]), '"1 of them"'),
        (trace(prices=[1, 0, 1]), "prices[1] 0"),
    ],
)
def test_bad_trace_is_refused_by_file_field_and_value(tmp_path, document, told):
    file = write(tmp_path / "bad.json", document)
    with pytest.raises(InvalidInputError) as caught:
        read_trace(file)
    assert str(file) in str(caught.value)
    assert told in str(caught.value)


def test_folder_gives_every_trace_below_it_by_name(tmp_path):
    write(tmp_path / "b.json", trace())
    write(tmp_path / "x" / "a.json", trace())
    write(tmp_path / "y" / "a.json", trace())
    assert [one.name for one in read_traces(find_traces([tmp_path]))] == ["b", "x/a", "y/a"]


def test_missing_and_empty_places_are_named(tmp_path):
    with pytest.raises(InvalidInputError, match=r"nowhere does not exist"):
        find_traces([tmp_path / "nowhere"])
    with pytest.raises(InvalidInputError, match=r"holds no \.json"):
        find_traces([tmp_path])
