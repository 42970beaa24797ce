"""Routes of the service itself: health, what is configured, costs, plans, uploads, rebuilding the table."""

from __future__ import annotations

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response

from stix import __version__
from stix.api import v1, v1_admin
from stix.application import uploads, views
from stix.application.budgets import budget_view, set_budget
from stix.application.costs import cost_report
from stix.application.planning import plan
from stix.application.rebuild import guard_view, start_rebuild
from stix.application.submit import read_task
from stix.runtime.bootstrap import bootstrap
from stix.runtime.http import answer, query_number, read_request, user_of

__all__ = ["add_routes"]


def add_routes(app: APIGatewayHttpResolver) -> None:
    """Add ``/v1/health``, ``check``, ``costs``, ``budget``, ``plan``, ``admin`` and ``uploads``."""

    @app.get("/v1/health")
    def health() -> Response[str]:
        world = bootstrap()
        body = v1.Health(version=__version__, runtime=world.runtime, deployment=world.deployment)
        return answer(body.model_dump())

    @app.get("/v1/check")
    def check() -> Response[str]:
        user_of(app)
        return answer(views.cloud_checks(bootstrap()))

    @app.get("/v1/costs")
    def costs() -> Response[str]:
        days = query_number(app, "days", 30, lowest=1, most=366)
        return answer(cost_report(bootstrap(), user_of(app).workspace, days=days))

    @app.post("/v1/plan")
    def show_plan() -> Response[str]:
        request = read_request(app, v1.PlanRequest)
        user_of(app)
        task = read_task(request, uploaded=False)
        return answer(views.plan_view(plan(bootstrap(), task), task.num_nodes))

    @app.get("/v1/budget")
    def budget() -> Response[str]:
        return answer(budget_view(bootstrap(), user_of(app).workspace))

    @app.put("/v1/budget")
    def put_budget() -> Response[str]:
        workspace = user_of(app).workspace
        request = read_request(app, v1_admin.BudgetRequest)
        return answer(set_budget(bootstrap(), workspace, request.monthly))

    @app.get("/v1/admin/rebuild")
    def show_rebuild() -> Response[str]:
        user_of(app)
        return answer(guard_view(bootstrap()))

    @app.post("/v1/admin/rebuild")
    def rebuild() -> Response[str]:
        who = user_of(app)
        request = read_request(app, v1_admin.RebuildRequest)
        return answer(start_rebuild(bootstrap(), who, request.places), 202)

    @app.post("/v1/uploads")
    def upload() -> Response[str]:
        request = read_request(app, v1.UploadRequest)
        return answer(uploads.upload_target(bootstrap(), user_of(app).workspace, request))
