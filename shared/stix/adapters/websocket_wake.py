"""Waking agents through API Gateway's WebSocket connections."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools import Logger

from stix.adapters.aws_client import create_client, error_code, translated
from stix.model.errors import StixError
from stix.ports.state_store import StateStore
from stix.ports.surroundings import connection_key

__all__ = ["WebSocketWake"]

logger = Logger(child=True)


class WebSocketWake:
    """Implements ``Wake`` for ``node/...`` topics; other topics have no listener once deployed.

    A wake is only a hint: a connection that is gone is forgotten and nothing is raised, since the agent asks
    again by itself.
    """

    def __init__(self, store: StateStore, endpoint: str, client: Any = None):
        self._store = store
        self._endpoint = endpoint
        self._client = client

    def wake(self, topic: str) -> None:
        kind, _, rest = topic.partition("/")
        cluster_id, _, rank = rest.rpartition("/")
        if kind != "node" or not rank.isdigit():
            return
        key = connection_key(cluster_id, int(rank))
        item = self._store.get(key)
        if item is None:
            return
        try:
            with translated("wake channel"):
                self._post(str(item.body["connection_id"]))
        except StixError as error:
            if error.__cause__ is not None and error_code(error.__cause__) == "GoneException":
                self._store.delete(key)
                return
            logger.warning("wake failed", extra={"topic": topic, "reason": error.message})

    def _post(self, connection_id: str) -> None:
        if self._client is None:
            self._client = create_client("apigatewaymanagementapi", endpoint_url=self._endpoint)
        self._client.post_to_connection(ConnectionId=connection_id, Data=b"{}")
