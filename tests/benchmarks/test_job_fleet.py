"""A fleet of managed jobs under one control plane: a small one, and the full size by ``pytest -m soak``."""

from __future__ import annotations

import pytest

from tests.benchmarks import job_fleet
from tests.benchmarks.figures import Record, read_limits


@pytest.mark.soak
def test_control_plane_carries_ten_thousand_managed_jobs_when_their_agents_report_each_minute():
    record = Record("job_fleet", read_limits()["job_fleet"])
    job_fleet.measure(record)
    record.check_complete()
    assert [figure for figure in record.figures if figure.over] == []


@pytest.mark.xdist_group("embedded")
def test_jobs_move_on_when_their_machines_are_taken_and_no_others_do():
    # What it takes is judged at the full size.
    record = Record("job_fleet", read_limits()["job_fleet"])
    job_fleet.measure(record, jobs=20, seconds=3.0, taken=3, finished=60, warm=4, beat_seconds=1)
    record.check_complete()
    [wrong] = [figure for figure in record.figures if figure.name == "job_fleet.wrong_jobs"]
    assert not wrong.over
