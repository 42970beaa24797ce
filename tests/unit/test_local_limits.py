"""The times of the embedded control plane that a person may set."""

from __future__ import annotations

import pytest

from stix.local.limits import EMBEDDED_LIMITS, limits_from
from stix.model.errors import InvalidInputError


def test_barrier_is_taken_from_the_environment_when_it_is_set() -> None:
    assert limits_from({}, public=False) == EMBEDDED_LIMITS
    assert limits_from({"STIX_BARRIER_SECONDS": " 7 "}, public=False).barrier_seconds == 7
    assert limits_from({"STIX_BARRIER_SECONDS": "7"}, public=True).boot_seconds > EMBEDDED_LIMITS.boot_seconds


@pytest.mark.parametrize("given", ["0", "-1", "soon", "1.5", "99999999"])
def test_barrier_is_refused_when_it_is_no_number_of_seconds(given: str) -> None:
    with pytest.raises(InvalidInputError, match="STIX_BARRIER_SECONDS"):
        limits_from({"STIX_BARRIER_SECONDS": given}, public=False)
