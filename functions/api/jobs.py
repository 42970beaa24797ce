"""Routes of the jobs of a cluster and their logs."""

from __future__ import annotations

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response

from functions.api.log_answer import answer_log
from stix.api import v1
from stix.application import cancel_jobs, submit, views
from stix.runtime.bootstrap import bootstrap
from stix.runtime.http import (
    answer,
    idempotency_key,
    query_flag,
    query_number,
    read_request,
    user_of,
)

__all__ = ["add_routes"]


def add_routes(app: APIGatewayHttpResolver) -> None:
    """Add ``/v1/clusters/{name}/jobs...``."""

    @app.post("/v1/clusters/<name>/jobs")
    def execute(name: str) -> Response[str]:
        request = read_request(app, v1.ExecRequest)
        return answer(submit.execute(bootstrap(), user_of(app), name, request, idempotency_key(app)), 201)

    @app.get("/v1/clusters/<name>/jobs")
    def list_jobs(name: str) -> Response[str]:
        world = bootstrap()
        cluster = submit.existing_cluster(world, user_of(app).workspace, name)
        page = views.list_jobs(
            world,
            cluster,
            skip_finished=query_flag(app, "skip_finished"),
            after=app.current_event.query_string_parameters.get("after") or None,
            limit=query_number(app, "limit", 100, lowest=1, most=200),
        )
        return answer(page)

    @app.post("/v1/clusters/<name>/jobs/cancel")
    def cancel(name: str) -> Response[str]:
        request = read_request(app, v1.CancelRequest)
        world = bootstrap()
        cluster = submit.own_cluster(world, user_of(app).workspace, name)
        jobs = cancel_jobs.cancel(world, cluster, request.job_ids, every=request.all)
        return answer({"jobs": [views.job_view(job) for job in jobs], "next": None})

    @app.get("/v1/clusters/<name>/jobs/<job_id>")
    def show_job(name: str, job_id: str) -> Response[str]:
        world = bootstrap()
        cluster = submit.existing_cluster(world, user_of(app).workspace, name)
        return answer(views.job_view(views.find_job(world, cluster, job_id)))

    @app.get("/v1/clusters/<name>/jobs/<job_id>/logs")
    def show_logs(name: str, job_id: str) -> Response[str]:
        world = bootstrap()
        cluster = submit.existing_cluster(world, user_of(app).workspace, name)
        job = views.find_job(world, cluster, job_id)
        return answer_log(app, world, cluster, job)
