"""The one table of the people's HTTP API, version 1: what each route takes, gives and refuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel

from stix.api import v1, v1_access, v1_admin, v1_reports

__all__ = ["ERROR_CODES", "OPERATION_CODES", "ROUTES", "Query", "Route"]

ERROR_CODES: dict[int, tuple[str, ...]] = {
    400: ("invalid_input", "invalid_task", "upload_missing", "cannot_stop"),
    401: ("unauthorized",),
    403: ("budget_exceeded", "forbidden"),
    404: ("not_found", "no_route", "cluster_not_found", "job_not_found", "operation_not_found"),
    409: (
        "conflict",
        "busy",
        "cluster_not_up",
        "name_taken",
        "does_not_fit",
        "idempotency_mismatch",
    ),
    422: ("no_offer",),
    429: (),
    500: ("internal",),
    502: ("provider", "credentials", "throttled", "invalid_request"),
    503: ("unavailable", "newer_schema"),
}
"""Stable codes by HTTP status. 429 comes from the gateway, before any code of ours."""

OPERATION_CODES = ("launch_failed", "no_offer", "node_lost", "superseded")
"""Codes that an operation's ``error`` may carry besides a provider's."""


@dataclass(frozen=True, slots=True)
class Query:
    """A parameter of the query string. ``lowest`` and ``most`` bound a number."""

    name: str
    description: str
    type: Literal["string", "integer", "boolean"] = "string"
    lowest: int | None = None
    most: int | None = None
    default: str | int | bool | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """``errors`` come on top of those that every route with a token may answer; ``keyed`` routes take an
    ``Idempotency-Key``; ``open`` ones no token."""

    method: Literal["get", "post", "put"]
    path: str
    name: str
    summary: str
    response: type[BaseModel]
    status: int = 200
    request: type[BaseModel] | None = None
    query: tuple[Query, ...] = ()
    errors: tuple[int, ...] = ()
    keyed: bool = False
    open: bool = False


_AFTER = Query("after", "`next` of the page before.")
_VERBOSE = Query("verbose", "With nodes and attempts.", "boolean", default=False)
_WAIT = "Hold the answer for up to so many seconds until there is something new, where the server can do so."

ROUTES: tuple[Route, ...] = (
    Route("get", "/v1/health", "health", "Whether the service answers.", v1.Health, open=True),
    Route("get", "/v1/check", "check", "Which clouds can be used.", v1.CloudChecks, errors=(502,)),
    Route(
        "post",
        "/v1/uploads",
        "createUpload",
        "Announce a packed file or directory by its content.",
        v1.UploadTarget,
        request=v1.UploadRequest,
        errors=(400,),
    ),
    Route(
        "get",
        "/v1/costs",
        "costs",
        "What clusters cost, those that ended too.",
        v1_reports.CostReport,
        query=(Query("days", "How many days back.", "integer", lowest=1, most=366, default=30),),
        errors=(400,),
    ),
    Route("get", "/v1/budget", "budget", "What this month may cost, and has.", v1_admin.Budget),
    Route(
        "put",
        "/v1/budget",
        "setBudget",
        "Set the workspace's monthly budget, or take it away.",
        v1_admin.Budget,
        request=v1_admin.BudgetRequest,
        errors=(400, 409),
    ),
    Route(
        "get",
        "/v1/admin/rebuild",
        "rebuildState",
        "How far a rebuild of the table's view of machines is.",
        v1_admin.Rebuild,
    ),
    Route(
        "post",
        "/v1/admin/rebuild",
        "rebuild",
        "Find the machines that the table does not know.",
        v1_admin.Rebuild,
        202,
        v1_admin.RebuildRequest,
        errors=(400, 409),
    ),
    Route(
        "post",
        "/v1/plan",
        "plan",
        "Where a task would run, best first.",
        v1.Plan,
        request=v1.PlanRequest,
        errors=(400, 422, 502),
    ),
    Route(
        "post",
        "/v1/clusters",
        "launch",
        "Run a task on a cluster, made if it does not exist.",
        v1.LaunchAccepted,
        202,
        v1.LaunchRequest,
        errors=(400, 409, 422, 502),
        keyed=True,
    ),
    Route(
        "get",
        "/v1/clusters",
        "listClusters",
        "Clusters that have not ended, newest first.",
        v1.ClusterList,
        query=(_VERBOSE, Query("names", "Only these, comma-separated; unknown ones are left out."), _AFTER),
        errors=(400,),
    ),
    Route(
        "get",
        "/v1/clusters/{name}",
        "getCluster",
        "One cluster.",
        v1.Cluster,
        query=(_VERBOSE,),
        errors=(400, 404),
    ),
    Route(
        "post",
        "/v1/clusters/{name}/jobs",
        "execute",
        "Run a task on a cluster that is UP.",
        v1.JobAccepted,
        201,
        v1.ExecRequest,
        errors=(400, 404, 409),
        keyed=True,
    ),
    Route(
        "get",
        "/v1/clusters/{name}/jobs",
        "listJobs",
        "Jobs of a cluster, newest first.",
        v1.JobList,
        query=(
            Query("skip_finished", "Leave out jobs that have ended.", "boolean", default=False),
            _AFTER,
            Query("limit", "Jobs that a page reads.", "integer", 1, 200, 100),
        ),
        errors=(400, 404),
    ),
    Route(
        "post",
        "/v1/clusters/{name}/jobs/cancel",
        "cancelJobs",
        "Cancel jobs; those that are being cancelled.",
        v1.JobList,
        request=v1.CancelRequest,
        errors=(400, 404, 409),
    ),
    Route(
        "get",
        "/v1/clusters/{name}/jobs/{job_id}",
        "getJob",
        "One job, by number or `latest`.",
        v1.Job,
        errors=(404,),
    ),
    Route(
        "get",
        "/v1/clusters/{name}/jobs/{job_id}/logs",
        "getLogs",
        "A page of a job's log: signed URLs of its chunks.",
        v1.LogPage,
        query=(
            Query("cursor", "`cursor` of the page before; empty from the start; `end` for the counts only."),
            Query("follow", "Ask the nodes to send what they have at once.", "boolean", default=False),
            Query("wait", _WAIT, "integer", 0, 20, 0),
            Query("rank", "Only this rank.", "integer", 0),
        ),
        errors=(400, 404),
    ),
    Route(
        "post",
        "/v1/clusters/{name}/stop",
        "stop",
        "Stop a cluster's machines, keeping their disks.",
        v1.OperationAccepted,
        202,
        v1.TeardownRequest,
        errors=(400, 404, 409),
        keyed=True,
    ),
    Route(
        "post",
        "/v1/clusters/{name}/start",
        "start",
        "Start a stopped cluster again.",
        v1.OperationAccepted,
        202,
        v1.StartRequest,
        errors=(400, 404, 409),
        keyed=True,
    ),
    Route(
        "get",
        "/v1/clusters/{name}/explain",
        "explain",
        "Why a cluster is what it is: what was tried, what comes next, what it costs.",
        v1_reports.Explanation,
        errors=(404,),
    ),
    Route(
        "post",
        "/v1/clusters/{name}/ssh",
        "giveAccess",
        "Let a public key log in on a cluster's nodes, and say where their SSH servers are.",
        v1_access.SshAccess,
        request=v1_access.SshRequest,
        errors=(400, 404, 409),
    ),
    Route(
        "post",
        "/v1/clusters/{name}/tunnels",
        "openTunnel",
        "Open a tunnel to a node's SSH server, whose ends both call out.",
        v1_access.Tunnel,
        201,
        v1_access.TunnelRequest,
        errors=(400, 404, 409),
    ),
    Route(
        "get",
        "/v1/clusters/{name}/endpoints",
        "endpoints",
        "Where the ports are that the cluster's task opened.",
        v1_access.Endpoints,
        errors=(404, 409),
    ),
    Route(
        "post",
        "/v1/clusters/{name}/down",
        "down",
        "End a cluster's machines and forget it.",
        v1.OperationAccepted,
        202,
        v1.TeardownRequest,
        errors=(400, 404, 409),
        keyed=True,
    ),
    Route(
        "put",
        "/v1/clusters/{name}/autostop",
        "setAutostop",
        "Set or cancel autostop.",
        v1.Cluster,
        request=v1.AutostopRequest,
        errors=(400, 404, 409),
    ),
    Route(
        "get",
        "/v1/operations",
        "listOperations",
        "Operations, unfinished ones first, then newest first.",
        v1.OperationList,
        query=(_AFTER,),
        errors=(400,),
    ),
    Route(
        "get",
        "/v1/operations/{operation_id}",
        "getOperation",
        "How an accepted request is doing.",
        v1.Operation,
        query=(
            Query("wait", _WAIT, "integer", 0, 20, 0),
            Query("seen", "Lines of progress that are known already.", "integer", 0, 1000, 0),
        ),
        errors=(400, 404),
    ),
)
