"""The times of the embedded control plane that a person may set."""

from __future__ import annotations

import pytest

from stix.local.limits import EMBEDDED_LIMITS, limits_from
from stix.model.errors import InvalidInputError


def test_barrier_is_taken_from_the_environment_when_it_is_set() -> None:
    assert limits_from({}, public=False) == EMBEDDED_LIMITS
    assert limits_from({"STIX_BARRIER_SECONDS": " 7 "}, public=False).barrier_seconds == 7
    assert limits_from({"STIX_BARRIER_SECONDS": "7"}, public=True).boot_seconds > EMBEDDED_LIMITS.boot_seconds


def test_node_is_lost_after_three_reports_when_their_interval_is_set() -> None:
    limits = limits_from({"STIX_REPORT_SECONDS": "60"}, public=False)
    assert (limits.report_seconds, limits.poll_seconds, limits.lost_seconds) == (60, 60, 180)


@pytest.mark.parametrize("name", ["STIX_BARRIER_SECONDS", "STIX_REPORT_SECONDS"])
@pytest.mark.parametrize("given", ["0", "-1", "soon", "1.5", "99999999"])
def test_setting_is_refused_when_it_is_no_number_of_seconds(name: str, given: str) -> None:
    with pytest.raises(InvalidInputError, match=name):
        limits_from({name: given}, public=False)
