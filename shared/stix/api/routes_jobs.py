"""The routes of managed jobs."""

from __future__ import annotations

from stix.api import v1_jobs
from stix.api.route import AFTER, HOLD, LOG_QUERY, Query, Route

__all__ = ["JOB_ROUTES"]

JOB_ROUTES: tuple[Route, ...] = (
    Route(
        "post",
        "/v1/jobs",
        "launchManagedJob",
        "Run tasks as one managed job, which outlives its machines.",
        v1_jobs.ManagedJobAccepted,
        202,
        v1_jobs.JobsLaunchRequest,
        errors=(400, 404, 409, 422, 502),
        keyed=True,
    ),
    Route(
        "get",
        "/v1/jobs",
        "listManagedJobs",
        "Managed jobs: those that have not ended, then the others, each newest first.",
        v1_jobs.ManagedJobList,
        query=(
            Query("skip_finished", "Leave out jobs that have ended.", "boolean", default=False),
            Query("status", "Only these statuses, with commas between them."),
            Query("user", "Only this user's; `me` for the caller's own."),
            Query("infra", "Only where a task was last: `cloud[/region[/zone]]`."),
            Query("since", "Only those submitted then or later: seconds since 1970.", "integer", 0),
            AFTER,
            Query("limit", "Jobs of a page.", "integer", 1, 200, 50),
        ),
        errors=(400,),
    ),
    Route(
        "post",
        "/v1/jobs/cancel",
        "cancelManagedJobs",
        "Cancel managed jobs; those that are being cancelled.",
        v1_jobs.ManagedJobList,
        request=v1_jobs.JobsCancelRequest,
        errors=(400, 404, 409),
    ),
    Route(
        "get",
        "/v1/jobs/{job_id}",
        "getManagedJob",
        "One managed job, by number or `latest`.",
        v1_jobs.ManagedJob,
        query=(
            Query("wait", HOLD, "integer", 0, 20, 0),
            Query("seen", "`version` that is known already.", "integer", 0, 999_999_999, 0),
        ),
        errors=(400, 404),
    ),
    Route(
        "get",
        "/v1/jobs/{job_id}/events",
        "listManagedJobEvents",
        "What happened to a managed job, oldest first.",
        v1_jobs.JobEventList,
        query=(AFTER,),
        errors=(400, 404),
    ),
    Route(
        "get",
        "/v1/jobs/{job_id}/runs",
        "listManagedJobRuns",
        "The runs of a managed job's tasks, each with a log of its own, oldest first.",
        v1_jobs.JobRunList,
        query=(AFTER,),
        errors=(400, 404),
    ),
    Route(
        "get",
        "/v1/jobs/{job_id}/runs/{run}/logs",
        "getManagedJobLogs",
        "A page of the log of one run.",
        v1_jobs.RunLogPage,
        query=LOG_QUERY,
        errors=(400, 404),
    ),
    Route(
        "get",
        "/v1/jobs/{job_id}/explain",
        "explainManagedJob",
        "Why a managed job is where it is: its decisions with their reasons, its cost.",
        v1_jobs.ManagedJobExplanation,
        errors=(404,),
    ),
)
