"""The client's calls about managed jobs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, cast

from stix.sdk import responses_jobs as shape
from stix.sdk.calls import HOLD_SECONDS, Calls
from stix.sdk.responses import LogPage
from stix.sdk.retrying import HOLD_PATIENCE

__all__ = ["ENDED_JOB", "ManagedJobCalls"]

ENDED_JOB = frozenset(
    {
        "SUCCEEDED",
        "CANCELLED",
        "FAILED",
        "FAILED_SETUP",
        "FAILED_PRECHECKS",
        "FAILED_NO_RESOURCE",
        "FAILED_CONTROLLER",
    }
)
JobNumber = int | Literal["latest"]


class ManagedJobCalls(Calls):
    """One method per route of managed jobs."""

    def launch_job(self, request: dict[str, Any]) -> shape.ManagedJobAccepted:
        return cast(shape.ManagedJobAccepted, self._call("POST", "/v1/jobs", request))

    def managed_jobs(
        self,
        *,
        skip_finished: bool = False,
        limit: int | None = None,
        statuses: Sequence[str] = (),
        user: str = "",
        infra: str = "",
        since: float | None = None,
    ) -> Iterator[shape.ManagedJob]:
        """Those that have not ended first, each half newest first, page by page; at most ``limit``.

        Only those with one of the ``statuses``, of ``user`` (``me``: one's own), with a task in ``infra``
        (``cloud[/region[/zone]]``), submitted ``since`` that moment (epoch seconds).
        """
        params = {
            "skip_finished": "true" if skip_finished else "",
            "limit": str(min(limit or 200, 200)),
            "status": ",".join(statuses),
            "user": user,
            "infra": infra,
            "since": "" if since is None else f"{since:.0f}",
        }
        for count, job in enumerate(self._pages("/v1/jobs", "jobs", params), 1):
            yield job
            if count == limit:
                return

    def managed_job(self, number: JobNumber, *, seen: int | None = None) -> shape.ManagedJob:
        """With the version that is known already, the answer may take 20 s where there is no newer one."""
        params = {} if seen is None else {"wait": str(HOLD_SECONDS), "seen": str(seen)}
        return cast(
            shape.ManagedJob,
            self._call("GET", f"/v1/jobs/{number}", params=params, patience=HOLD_PATIENCE),
        )

    def cancel_jobs(
        self,
        numbers: Sequence[int] = (),
        *,
        all_jobs: bool = False,
        pool: str | None = None,
        grace_seconds: float = 30.0,
    ) -> list[shape.ManagedJob]:
        """The jobs that are being cancelled: those numbers, all of a pool, or all of the caller's."""
        body: dict[str, Any] = {"job_ids": list(numbers), "all": all_jobs, "grace_seconds": grace_seconds}
        if pool is not None:
            body["pool"] = pool
        return cast(list[shape.ManagedJob], self._call("POST", "/v1/jobs/cancel", body)["jobs"])

    def job_events(self, number: JobNumber) -> Iterator[shape.ManagedJobEvent]:
        """Oldest first, page by page."""
        yield from self._pages(f"/v1/jobs/{number}/events", "events", {})

    def job_runs(self, number: JobNumber, *, after: int = 0) -> Iterator[shape.ManagedJobRun]:
        """Oldest first, page by page, beginning past the run ``after``."""
        path = f"/v1/jobs/{number}/runs"
        page = self._call("GET", path, params={"after": f"{after:08d}"} if after else {})
        while True:
            yield from page["runs"]
            if not page.get("next"):
                return
            page = self._call("GET", path, params={"after": page["next"]})

    def explain_job(self, number: JobNumber) -> shape.ManagedJobExplanation:
        return cast(shape.ManagedJobExplanation, self._call("GET", f"/v1/jobs/{number}/explain"))

    def run_log_page(
        self,
        number: JobNumber,
        run: int,
        *,
        cursor: str = "",
        follow: bool = False,
        hold: bool = False,
        rank: int | None = None,
    ) -> LogPage:
        """As ``Client.log_page``, of one run of a managed job."""
        path = f"/v1/jobs/{number}/runs/{run}/logs"
        return self._log_page(path, cursor, follow, hold, rank)
