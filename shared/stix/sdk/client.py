"""The HTTP client: one method per route of the API, plain dictionaries as answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, cast
from urllib.parse import quote

from stix import __version__
from stix.sdk import responses as shape
from stix.sdk.calls import HOLD_SECONDS
from stix.sdk.errors import IncompatibleError
from stix.sdk.managed_jobs import ManagedJobCalls
from stix.sdk.pools import PoolCalls
from stix.sdk.retrying import HOLD_PATIENCE
from stix.sdk.services import ServiceCalls

__all__ = ["PROTOCOL", "Client"]

PROTOCOL = 1


class Client(ManagedJobCalls, PoolCalls, ServiceCalls):
    """Talks to one control plane; usable from several threads, and as a context manager.

    Every POST and PUT carries an idempotency key that is the same over the retries of one call, so a retry
    after a lost answer does nothing twice. Raises ``SdkError`` only.

    ``transport`` replaces the network in tests. ``rediscover(start)`` is asked for a new endpoint after a
    refused connection; ``start`` is true until the first answer. ``trace`` gets one line per HTTP call.
    """

    # -- the control plane -----------------------------------------------------------------------------------

    def health(self) -> shape.Health:
        """Needs no token. Raises ``IncompatibleError`` where the protocol is not ours."""
        health = cast(shape.Health, self._call("GET", "/v1/health"))
        if health.get("protocol") != PROTOCOL:
            server_is_newer = health.get("protocol", 0) > PROTOCOL
            raise IncompatibleError(
                f"The control plane at {self.endpoint.url} is version {health.get('version', 'unknown')} "
                f"and speaks protocol {health.get('protocol', 'unknown')}; this client is version "
                f"{__version__} and speaks protocol {PROTOCOL}.",
                "Upgrade this client." if server_is_newer else "Upgrade the control plane.",
            )
        return health

    def check(self) -> shape.CloudChecks:
        return cast(shape.CloudChecks, self._call("GET", "/v1/check"))

    def announce_upload(self, sha256: str, size: int) -> shape.UploadTarget:
        body = {"sha256": sha256, "size": size}
        return cast(shape.UploadTarget, self._call("POST", "/v1/uploads", body))

    # -- clusters --------------------------------------------------------------------------------------------

    def plan(self, request: dict[str, Any]) -> shape.Plan:
        return cast(shape.Plan, self._call("POST", "/v1/plan", request))

    def launch(self, request: dict[str, Any]) -> shape.LaunchAccepted:
        return cast(shape.LaunchAccepted, self._call("POST", "/v1/clusters", request))

    def clusters(self, names: Sequence[str] = (), *, verbose: bool = False) -> Iterator[shape.Cluster]:
        """Newest first, page by page; names that do not exist are left out."""
        params = {"names": ",".join(names), "verbose": "true" if verbose else ""}
        yield from self._pages("/v1/clusters", "clusters", params)

    def cluster(self, name: str) -> shape.Cluster:
        return cast(
            shape.Cluster, self._call("GET", f"/v1/clusters/{_safe(name)}", params={"verbose": "true"})
        )

    def explain(self, name: str) -> shape.Explanation:
        explanation: shape.Explanation = self._call("GET", f"/v1/clusters/{_safe(name)}/explain")
        return explanation

    def costs(self, *, days: int = 30) -> shape.CostReport:
        report: shape.CostReport = self._call("GET", "/v1/costs", params={"days": str(days)})
        return report

    def budget(self) -> shape.Budget:
        return cast(shape.Budget, self._call("GET", "/v1/budget"))

    def set_budget(self, monthly: float | None) -> shape.Budget:
        """USD a calendar month; None takes the budget away."""
        return cast(shape.Budget, self._call("PUT", "/v1/budget", {"monthly": monthly}))

    def rebuild(self, places: Sequence[str] = ()) -> shape.Rebuild:
        return cast(shape.Rebuild, self._call("POST", "/v1/admin/rebuild", {"places": list(places)}))

    def rebuild_state(self) -> shape.Rebuild:
        return cast(shape.Rebuild, self._call("GET", "/v1/admin/rebuild"))

    def stop(self, name: str) -> shape.OperationAccepted:
        return cast(shape.OperationAccepted, self._call("POST", f"/v1/clusters/{_safe(name)}/stop", {}))

    def down(self, name: str, *, purge: bool = False) -> shape.OperationAccepted:
        body = {"purge": purge}
        return cast(shape.OperationAccepted, self._call("POST", f"/v1/clusters/{_safe(name)}/down", body))

    def start(self, name: str, autostop: shape.Autostop | None = None) -> shape.OperationAccepted:
        body = {"autostop": autostop}
        return cast(shape.OperationAccepted, self._call("POST", f"/v1/clusters/{_safe(name)}/start", body))

    def autostop(self, name: str, autostop: shape.Autostop | None) -> shape.Cluster:
        body = {"autostop": autostop}
        return cast(shape.Cluster, self._call("PUT", f"/v1/clusters/{_safe(name)}/autostop", body))

    def ssh_access(self, name: str, public_key: str) -> shape.SshAccess:
        """Let the key log in on the cluster's nodes; asked again it says how far that is."""
        body = {"public_key": public_key}
        return cast(shape.SshAccess, self._call("POST", f"/v1/clusters/{_safe(name)}/ssh", body))

    def open_tunnel(self, name: str, rank: int) -> shape.Tunnel:
        body = {"rank": rank}
        return cast(shape.Tunnel, self._call("POST", f"/v1/clusters/{_safe(name)}/tunnels", body))

    def endpoints(self, name: str) -> shape.Endpoints:
        return cast(shape.Endpoints, self._call("GET", f"/v1/clusters/{_safe(name)}/endpoints"))

    # -- jobs ------------------------------------------------------------------------------------------------

    def exec(self, cluster: str, request: dict[str, Any]) -> shape.JobAccepted:
        return cast(shape.JobAccepted, self._call("POST", f"/v1/clusters/{_safe(cluster)}/jobs", request))

    def jobs(
        self, cluster: str, *, skip_finished: bool = False, limit: int | None = None
    ) -> Iterator[shape.Job]:
        """Newest first, page by page; at most ``limit`` in all."""
        params = {"skip_finished": "true" if skip_finished else "", "limit": str(limit or "")}
        for count, job in enumerate(self._pages(f"/v1/clusters/{_safe(cluster)}/jobs", "jobs", params), 1):
            yield job
            if count == limit:
                return

    def job(self, cluster: str, job_id: int | Literal["latest"]) -> shape.Job:
        return cast(shape.Job, self._call("GET", f"/v1/clusters/{_safe(cluster)}/jobs/{job_id}"))

    def cancel(self, cluster: str, job_ids: Sequence[int] = (), *, all_jobs: bool = False) -> list[shape.Job]:
        """The jobs that are being cancelled."""
        body = {"job_ids": list(job_ids), "all": all_jobs}
        return cast(
            list[shape.Job], self._call("POST", f"/v1/clusters/{_safe(cluster)}/jobs/cancel", body)["jobs"]
        )

    def log_page(
        self,
        cluster: str,
        job_id: int | Literal["latest"],
        *,
        cursor: str = "",
        follow: bool = False,
        hold: bool = False,
        rank: int | None = None,
    ) -> shape.LogPage:
        """Chunks from ``cursor`` on ("" from the start, "end" only the counts). ``hold``: the answer may take
        20 s where there is nothing new."""
        path = f"/v1/clusters/{_safe(cluster)}/jobs/{job_id}/logs"
        return self._log_page(path, cursor, follow, hold, rank)

    # -- operations ------------------------------------------------------------------------------------------

    def operations(self) -> Iterator[shape.Operation]:
        """Newest first, page by page."""
        yield from self._pages("/v1/operations", "operations", {})

    def operation(self, operation_id: str, *, seen: int | None = None) -> shape.Operation:
        """With ``seen`` progress lines known already, the answer may take 20 s where there are no more."""
        params = {} if seen is None else {"wait": str(HOLD_SECONDS), "seen": str(seen)}
        path = f"/v1/operations/{_safe(operation_id)}"
        return cast(shape.Operation, self._call("GET", path, params=params, patience=HOLD_PATIENCE))


def _safe(name: str) -> str:
    """A name from a person as one segment of a path."""
    return quote(name, safe="") if name.strip(".") else "-"
