"""The client's calls about services."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from stix.sdk import responses_services as shape
from stix.sdk.calls import HOLD_SECONDS, Calls
from stix.sdk.log_stream import LogReader
from stix.sdk.responses import LogPage
from stix.sdk.retrying import HOLD_PATIENCE

if TYPE_CHECKING:
    from stix.sdk.client import Client

__all__ = ["ReplicaLogReader", "ServiceCalls"]


def _path(name: str, rest: str = "") -> str:
    return f"/v1/services/{quote(name, safe='')}{rest}"


class ServiceCalls(Calls):
    """One method per route of services."""

    def serve_up(self, request: dict[str, Any]) -> shape.ServiceAccepted:
        return cast(shape.ServiceAccepted, self._call("POST", "/v1/services", request))

    def serve_update(self, name: str, request: dict[str, Any]) -> shape.ServiceAccepted:
        return cast(shape.ServiceAccepted, self._call("POST", _path(name, "/versions"), request))

    def services(self) -> Iterator[shape.Service]:
        """Newest first, page by page."""
        yield from self._pages("/v1/services", "services", {})

    def service(self, name: str, *, seen: int | None = None) -> shape.Service:
        """With the ``item`` that is known already, the answer may take 20 s where there is no newer one."""
        params = {} if seen is None else {"wait": str(HOLD_SECONDS), "seen": str(seen)}
        return cast(shape.Service, self._call("GET", _path(name), params=params, patience=HOLD_PATIENCE))

    def serve_down(self, name: str, *, purge: bool = False) -> shape.Service:
        return cast(shape.Service, self._call("POST", _path(name, "/down"), {"purge": purge}))

    def terminate_replica(self, name: str, replica: int, *, purge: bool = False) -> shape.Service:
        path = _path(name, f"/replicas/{replica}/terminate")
        return cast(shape.Service, self._call("POST", path, {"purge": purge}))

    def explain_service(self, name: str) -> shape.ServiceExplanation:
        return cast(shape.ServiceExplanation, self._call("GET", _path(name, "/explain")))

    def replica_log_page(
        self,
        name: str,
        replica: int,
        *,
        cursor: str = "",
        follow: bool = False,
        hold: bool = False,
        rank: int | None = None,
    ) -> LogPage:
        """As ``Client.log_page``, of one replica of a service."""
        path = _path(name, f"/replicas/{replica}/logs")
        return self._log_page(path, cursor, follow, hold, rank)


class ReplicaLogReader(LogReader):
    """Reads the log of one replica, also after its machines are gone. ``rank`` narrows it to one node."""

    def __init__(self, client: Client, name: str, replica: int, *, rank: int | None = None) -> None:
        super().__init__(client, name, replica, rank=rank)
        self._name, self._replica = name, replica

    def page(
        self, cursor: str, *, follow: bool = False, hold: bool = False, rank: int | None = None
    ) -> LogPage:
        rank = self.rank if rank is None else rank
        return self.client.replica_log_page(
            self._name, self._replica, cursor=cursor, follow=follow, hold=hold, rank=rank
        )
