"""API Gateway's WebSocket connections: posting to one, and waking agents through theirs."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools import Logger

from stix.adapters.aws_client import create_client, error_code, translated
from stix.model.errors import StixError
from stix.ports.state_store import StateStore
from stix.ports.surroundings import Sockets, connection_key

__all__ = ["GatewaySockets", "WebSocketWake"]

logger = Logger(child=True)


class GatewaySockets:
    """Implements ``Sockets``. ``endpoint`` is the API's management address."""

    def __init__(self, endpoint: str, client: Any = None):
        self._endpoint = endpoint
        self._client = client

    def post(self, connection_id: str, text: str) -> bool:
        """A refusal other than that the connection is gone is logged: the message is lost."""
        if self._client is None:
            self._client = create_client("apigatewaymanagementapi", endpoint_url=self._endpoint)
        try:
            with translated("WebSocket API"):
                self._client.post_to_connection(ConnectionId=connection_id, Data=text.encode())
        except StixError as error:
            if error.__cause__ is not None and error_code(error.__cause__) == "GoneException":
                return False
            logger.warning("a message was not posted", extra={"reason": error.message})
        return True


class WebSocketWake:
    """Implements ``Wake`` for ``node/...`` topics; other topics have no listener once deployed.

    A wake is only a hint: a connection that is gone is forgotten and nothing is raised, since the agent asks
    again by itself.
    """

    def __init__(self, store: StateStore, sockets: Sockets):
        self._store = store
        self._sockets = sockets

    def wake(self, topic: str) -> None:
        kind, _, rest = topic.partition("/")
        cluster_id, _, rank = rest.rpartition("/")
        if kind != "node" or not rank.isdigit():
            return
        key = connection_key(cluster_id, int(rank))
        item = self._store.get(key)
        if item is not None and not self._sockets.post(str(item.body["connection_id"]), "{}"):
            self._store.delete(key)
