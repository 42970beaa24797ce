"""Version 1 of the people's HTTP API: what the CLI and the SDK send, what they get.

Requests forbid unknown fields; responses ignore them, so that an older client reads a newer server.
Times are epoch seconds, memory is GiB, money is USD.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "Attempt",
    "Autostop",
    "AutostopRequest",
    "CancelRequest",
    "CloudCheck",
    "CloudChecks",
    "Cluster",
    "ClusterList",
    "ErrorBody",
    "ErrorResponse",
    "ExecRequest",
    "Health",
    "Job",
    "JobAccepted",
    "JobList",
    "LaunchAccepted",
    "LaunchRequest",
    "Lifetime",
    "LogChunk",
    "LogPage",
    "Node",
    "NodeLog",
    "Operation",
    "OperationAccepted",
    "OperationList",
    "Plan",
    "PlanRequest",
    "PlannedOffer",
    "Progress",
    "StartRequest",
    "TeardownRequest",
    "UploadRequest",
    "UploadTarget",
]

ClusterNameField = Annotated[str, Field(pattern=r"^[a-zA-Z]([-_.a-zA-Z0-9]*[a-zA-Z0-9])?$", max_length=63)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Response(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ErrorBody(Response):
    """``code`` is stable; ``message`` is one paragraph for people; ``hint`` is the fix."""

    code: str
    message: str
    hint: str = ""
    details: dict[str, Any] = {}


class ErrorResponse(Response):
    error: ErrorBody


class Health(Response):
    """``runtime`` is ``embedded`` or ``aws``; ``protocol`` counts incompatible changes of this API."""

    status: Literal["ok"] = "ok"
    version: str
    protocol: int = 1
    runtime: str
    deployment: str


class UploadRequest(Request):
    """Announce a packed directory or file by its content."""

    sha256: Sha256
    size: int = Field(ge=0, le=5 * 1024**3)


class UploadTarget(Response):
    """Where to send it; ``url`` is None when the store already holds that content."""

    key: str
    url: str | None = None
    method: str = "PUT"
    headers: dict[str, str] = {}


class FileMount(Request):
    """A packed local file or directory and where it goes on every node."""

    dst: str
    sha256: Sha256
    size: int
    kind: Literal["dir", "file"]


class Autostop(Request):
    """``idle_minutes`` is None for never. ``down`` deletes instead of stopping."""

    idle_minutes: int | None = Field(default=None, ge=0, le=60 * 24 * 365)
    down: bool = False
    wait_for: Literal["jobs_and_ssh", "jobs", "none"] = "jobs_and_ssh"


class Lifetime(Request):
    """Limits after which a cluster is deleted, busy or not: its age, its time stopped, its cost in USD."""

    max_lifetime_seconds: float | None = Field(default=None, gt=0, le=3.2e7)
    delete_after_seconds: float | None = Field(default=None, ge=0, le=3.2e7)
    max_cost: float | None = Field(default=None, gt=0)


class TaskRequest(Request):
    """``task`` is ``Task.to_yaml_config()``; the values of its secrets travel beside it, and only here."""

    task: dict[str, Any]
    secrets: dict[str, str] = Field(default={}, repr=False)
    workdir: FileMount | None = None
    file_mounts: list[FileMount] = []
    follow: bool = False


class PlanRequest(TaskRequest):
    """Ask where a task would run, without running it."""


class LaunchRequest(TaskRequest):
    """Run a task on ``cluster``, made if it does not exist; a name is chosen when None. ``race``: how many of
    the best offers are asked at once; the gang that is whole first stays."""

    cluster: ClusterNameField | None = None
    autostop: Autostop | None = None
    lifetime: Lifetime | None = None
    retry_until_up: bool = False
    race: int = Field(default=1, ge=1, le=5)
    no_setup: bool = False


class ExecRequest(TaskRequest):
    """Run a task on a cluster that is UP; no provisioning and no setup."""


class StartRequest(Request):
    autostop: Autostop | None = None


class TeardownRequest(Request):
    """Body of stop and down. ``purge``: forget the cluster even if its cloud cannot be reached."""

    purge: bool = False


class AutostopRequest(Request):
    """``autostop`` None cancels it."""

    autostop: Autostop | None


class CancelRequest(Request):
    """Jobs by id, or every unfinished job."""

    job_ids: list[int] = []
    all: bool = False


class PlannedOffer(Response):
    """A place that fits, in the order in which it would be tried."""

    rank: int
    cloud: str
    region: str
    zone: str = ""
    instance_type: str
    vcpus: float
    memory_gib: float
    accelerators: str = ""
    spot: bool = False
    num_nodes: int
    hourly_price: float
    price_as_of: float
    reason: str


class Plan(Response):
    offers: list[PlannedOffer]


class LaunchAccepted(Response):
    """202: follow ``operation_id``. ``created``: the cluster did not exist before."""

    operation_id: str
    cluster: str
    job_id: int | None
    created: bool


class OperationAccepted(Response):
    operation_id: str


class JobAccepted(Response):
    cluster: str
    job_id: int


class Progress(Response):
    at: float
    message: str


class Operation(Response):
    """``status`` is PENDING, RUNNING, SUCCEEDED, FAILED or CANCELLED; ``error`` is set when FAILED.
    ``progress`` is every line so far (at most 200)."""

    id: str
    kind: str
    cluster: str
    status: str
    created_at: float
    ended_at: float | None = None
    job_id: int | None = None
    progress: list[Progress] = []
    error: ErrorBody | None = None


class OperationList(Response):
    operations: list[Operation]
    next: str | None = None


class Node(Response):
    """``status`` is PENDING, UP, UNREACHABLE, STOPPED or TERMINATED; ``limits`` says per resource what holds
    the node to its size (``cgroup``) or ``none``."""

    rank: int
    status: str
    reason: str = ""
    address: str = ""
    public_address: str = ""
    machine_id: str = ""
    vcpus: float | None = None
    memory_gib: float | None = None
    gpus: list[str] = []
    limits: dict[str, str] = {}
    last_seen: float | None = None
    idle_since: float | None = None


class Attempt(Response):
    """One try to create the cluster somewhere, or (``outcome`` skipped) an offer that was passed over because
    others had been refused there; ``until`` is then when it may be asked again. ``price``: USD per
    machine-hour."""

    at: float
    place: str
    instance_type: str
    outcome: str
    reason: str = ""
    spot: bool = False
    price: float = 0.0
    seconds: float = 0.0
    until: float = 0.0


class Cluster(Response):
    """``status`` is SkyPilot's (INIT, UP, STOPPED, AUTOSTOPPING). ``owner`` is the managed job it belongs to
    (``job/7``), which alone may change it. ``nodes`` and ``attempts`` only with ``verbose``."""

    name: str
    id: str
    status: str
    reason: str = ""
    since: float
    created_at: float
    last_use: str = ""
    num_nodes: int
    cloud: str = ""
    region: str = ""
    zone: str = ""
    instance_type: str = ""
    vcpus: float | None = None
    memory_gib: float | None = None
    accelerators: str = ""
    spot: bool = False
    hourly_price: float | None = None
    autostop: Autostop | None = None
    autostop_at: float | None = None
    user: str = ""
    owner: str = ""
    labels: dict[str, str] = {}
    ports: list[str] = []
    addresses: list[str] = []
    nodes: list[Node] | None = None
    attempts: list[Attempt] | None = None


class ClusterList(Response):
    clusters: list[Cluster]
    next: str | None = None


class Job(Response):
    """``status`` is SkyPilot's JobStatus. ``exit_code`` is the first failing rank's, 0 on success, None
    before the end or when unknown."""

    id: int
    name: str = ""
    cluster: str
    status: str
    reason: str = ""
    user: str = ""
    num_nodes: int = 1
    resources: str = ""
    submitted_at: float
    started_at: float | None = None
    ended_at: float | None = None
    exit_codes: list[int | None] = []
    exit_code: int | None = None
    task_id: str = ""


class JobList(Response):
    jobs: list[Job]
    next: str | None = None


class LogChunk(Response):
    """Chunk ``n`` of a node's log; GET ``url`` with ``headers``. Format: see ``stix.sdk.logs``."""

    n: int
    url: str
    headers: dict[str, str] = {}


class NodeLog(Response):
    """``chunks`` begin at the cursor; ``count`` is how many exist now; ``complete``: no more will come."""

    rank: int
    address: str = ""
    count: int = 0
    complete: bool = False
    chunks: list[LogChunk] = []


class LogPage(Response):
    """``cursor`` goes into the next request; ``done``: the job has ended and everything was listed."""

    job: Job
    nodes: list[NodeLog]
    cursor: str
    done: bool


class CloudCheck(Response):
    cloud: str
    enabled: bool
    reason: str = ""
    hint: str = ""
    details: dict[str, str] = {}


class CloudChecks(Response):
    clouds: list[CloudCheck]
