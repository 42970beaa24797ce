"""The growth benchmark at its full size, by ``pytest -m soak``."""

from __future__ import annotations

import pytest

from tests.benchmarks import growth
from tests.benchmarks.figures import Record, read_limits


@pytest.mark.soak
def test_control_plane_does_not_grow_when_it_has_launched_a_thousand_times():
    record = Record("growth", read_limits()["growth"])
    growth.measure(record)
    record.check_complete()
    assert [figure for figure in record.figures if figure.over] == []


@pytest.mark.xdist_group("embedded")
def test_control_plane_keeps_its_threads_and_files_when_it_launches_again_and_again():
    # Memory is judged at the full size: so few launches are warm-up.
    record = Record("growth", read_limits()["growth"])
    # Its pools grow with what comes at once, up to their sizes: that has to be over by then.
    growth.measure(record, launches=12, baseline=6, in_flight=1)
    figures = {figure.name: figure for figure in record.figures}
    assert not figures["growth.threads_more"].over
    assert not figures["growth.open_files_more"].over
