"""Routes of managed jobs."""

from __future__ import annotations

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response

from functions.api.log_answer import answer_log
from stix.api import v1_jobs
from stix.application import managed_job_views as views
from stix.application.job_queue import FILTERS, job_filter
from stix.application.job_queue import list_jobs as list_managed
from stix.application.nudge_job import wait_topic
from stix.application.submit_managed_job import cancel_jobs, submit
from stix.runtime.bootstrap import bootstrap
from stix.runtime.http import (
    answer,
    idempotency_key,
    park,
    query_flag,
    query_number,
    read_request,
    user_of,
)

__all__ = ["add_routes"]


def add_routes(app: APIGatewayHttpResolver) -> None:
    """Add ``/v1/jobs...``."""

    def after() -> str | None:
        return app.current_event.query_string_parameters.get("after") or None

    @app.post("/v1/jobs")
    def launch() -> Response[str]:
        who = user_of(app)
        request = read_request(app, v1_jobs.JobsLaunchRequest)
        return answer(submit(bootstrap(), who, request, idempotency_key(app)), 202)

    @app.get("/v1/jobs")
    def list_jobs() -> Response[str]:
        who, query = user_of(app), app.current_event.query_string_parameters
        asked = job_filter(who.user, **{name: query.get(name) or "" for name in FILTERS})
        page = list_managed(
            bootstrap(),
            who.workspace,
            asked,
            skip_finished=query_flag(app, "skip_finished"),
            after=after(),
            limit=query_number(app, "limit", 50, lowest=1, most=200),
        )
        return answer(page)

    @app.post("/v1/jobs/cancel")
    def cancel() -> Response[str]:
        request = read_request(app, v1_jobs.JobsCancelRequest)
        jobs = cancel_jobs(bootstrap(), user_of(app), request)
        return answer({"jobs": [views.job_body(job) for job in jobs], "next": None})

    @app.get("/v1/jobs/<job_id>")
    def show(job_id: str) -> Response[str]:
        job = views.job_of_path(bootstrap(), user_of(app).workspace, job_id)
        wait = query_number(app, "wait", 0, most=20)
        seen = query_number(app, "seen", 0, most=999_999_999)
        if wait and not job.status.terminal and job.version <= seen:
            return park(views.job_body(job), wait_topic(job.workspace, job.id), wait)
        return answer(views.job_body(job))

    @app.get("/v1/jobs/<job_id>/events")
    def events(job_id: str) -> Response[str]:
        job = views.job_of_path(bootstrap(), user_of(app).workspace, job_id)
        return answer(views.list_events(bootstrap(), job, after=after()))

    @app.get("/v1/jobs/<job_id>/runs")
    def runs(job_id: str) -> Response[str]:
        job = views.job_of_path(bootstrap(), user_of(app).workspace, job_id)
        return answer(views.list_runs(bootstrap(), job, after=after()))

    @app.get("/v1/jobs/<job_id>/explain")
    def explain(job_id: str) -> Response[str]:
        job = views.job_of_path(bootstrap(), user_of(app).workspace, job_id)
        return answer(views.explain_job(bootstrap(), job))

    @app.get("/v1/jobs/<job_id>/runs/<run>/logs")
    def show_logs(job_id: str, run: str) -> Response[str]:
        world = bootstrap()
        managed = views.job_of_path(world, user_of(app).workspace, job_id)
        cluster, job = views.run_of_path(world, managed, run)
        return answer_log(app, world, cluster, job)
