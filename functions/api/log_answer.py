"""The answer of every route that shows a page of a job's log."""

from __future__ import annotations

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response

from stix.application.jobs import job_topic
from stix.application.logs import log_page
from stix.application.views import job_view
from stix.application.world import World
from stix.model.cluster import Cluster
from stix.model.job import Job
from stix.runtime.http import answer, park, query_flag, query_number

__all__ = ["answer_log"]


def answer_log(app: APIGatewayHttpResolver, world: World, cluster: Cluster, job: Job) -> Response[str]:
    """The page that the query asks for, held where it says nothing new. Raises ``InvalidInputError``."""
    query = app.current_event.query_string_parameters
    rank = query_number(app, "rank", -1, most=job.num_nodes - 1) if query.get("rank") else None
    page, news = log_page(
        world,
        cluster,
        job,
        cursor=query.get("cursor") or "",
        follow=query_flag(app, "follow"),
        rank=rank,
    )
    body = {"job": job_view(job), **page}
    wait = query_number(app, "wait", 0, most=20)
    if wait and not news:
        return park(body, job_topic(cluster.id, job.id), wait)
    return answer(body)
