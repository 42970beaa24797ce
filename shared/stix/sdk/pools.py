"""The client's calls about pools, and the logs of their workers' setup."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from stix.sdk import responses_pools as shape
from stix.sdk.calls import Calls
from stix.sdk.log_stream import LogReader
from stix.sdk.responses import LogPage

if TYPE_CHECKING:
    from stix.sdk.client import Client

__all__ = ["PoolCalls", "WorkerLogReader"]


class PoolCalls(Calls):
    """One method per route of pools."""

    def apply_pool(self, name: str, request: dict[str, Any]) -> shape.PoolAccepted:
        return cast(shape.PoolAccepted, self._call("PUT", f"/v1/pools/{name}", request))

    def pools(self) -> Iterator[shape.Pool]:
        """Newest first, page by page, without their workers."""
        yield from self._pages("/v1/pools", "pools", {})

    def pool(self, name: str) -> shape.Pool:
        return cast(shape.Pool, self._call("GET", f"/v1/pools/{name}"))

    def pool_down(self, name: str, *, drain: bool = False) -> None:
        """Its jobs are cancelled or, with ``drain``, end first."""
        self._call("POST", f"/v1/pools/{name}/down", {"drain": drain})

    def worker_log_page(
        self,
        name: str,
        worker: int,
        *,
        cursor: str = "",
        follow: bool = False,
        hold: bool = False,
        rank: int | None = None,
    ) -> LogPage:
        """As ``Client.log_page``, of a worker's setup."""
        path = f"/v1/pools/{name}/workers/{worker}/logs"
        return self._log_page(path, cursor, follow, hold, rank)


class WorkerLogReader(LogReader):
    """Reads the log of the setup of worker ``worker`` of the pool ``name``."""

    def __init__(self, client: Client, name: str, worker: int) -> None:
        super().__init__(client, "", worker)
        self._name, self._worker = name, worker

    def page(
        self, cursor: str, *, follow: bool = False, hold: bool = False, rank: int | None = None
    ) -> LogPage:
        rank = self.rank if rank is None else rank
        return self.client.worker_log_page(
            self._name, self._worker, cursor=cursor, follow=follow, hold=hold, rank=rank
        )
