"""Which rank's exit code is the job's own."""

from __future__ import annotations

import pytest

from stix.model.job import Job


@pytest.mark.parametrize(
    ("status", "codes", "failed_rank", "code"),
    [
        ("SUCCEEDED", (0, 0), None, 0),
        ("RUNNING", (None, 3), None, None),
        ("FAILED", (143, 9), 1, 9),
        ("FAILED", (143, 9), None, 143),
        ("FAILED", (9, 143), 0, 9),
        ("FAILED_DRIVER", (143, None), 1, None),
        ("FAILED_SETUP", (None, 1), 1, 1),
        ("CANCELLED", (None, None), None, None),
    ],
)
def test_exit_code_is_that_of_the_rank_that_failed_first(
    status: str, codes: tuple[int | None, ...], failed_rank: int | None, code: int | None
) -> None:
    job = Job(
        workspace="w",
        cluster_id="c-1",
        cluster_name="dev",
        id=1,
        status=status,  # type: ignore[arg-type]
        submitted_at=0.0,
        due_at=1.0,
        exit_codes=codes,
        failed_rank=failed_rank,
        spec_key="s",
    )
    assert job.exit_code == code
