"""A real API server that is above its rate limit for one service account, and for nobody else."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from tests.substrate.kubernetes.tenant import LATENCY_SECONDS, Tenant

__all__ = ["Crowd"]

_FLOW = "/apis/flowcontrol.apiserver.k8s.io/v1beta1"
_KINDS = ("flowschemas", "prioritylevelconfigurations")


class Crowd:
    """Takes all seats that the server has for a tenant's account, with requests whose bodies do not arrive.

    From its making to ``close``.
    """

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._seated: list[socket.socket] = []
        self._limit()
        token = tenant.token()
        path = f"/api/v1/namespaces/{tenant.namespace}/pods"
        head = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
            "Content-Type: application/json\r\nContent-Length: 9\r\n\r\n"
        )

        def full() -> bool:
            self._seated.append(self._send(head))
            return tenant.plane.status(path, token) == 429

        tenant.until(full, "the API server refuses more")

    def close(self) -> None:
        for one in self._seated:
            one.close()
        for kind in _KINDS:
            self._tenant.plane.call("DELETE", f"{_FLOW}/{kind}/{self._tenant.namespace}", absent=True)
        time.sleep(LATENCY_SECONDS)

    def _limit(self) -> None:
        namespace = self._tenant.namespace
        level = {"assuredConcurrencyShares": 1, "limitResponse": {"type": "Reject"}}
        everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}
        account = {"name": "stix", "namespace": namespace}
        rule = {
            "subjects": [{"kind": "ServiceAccount", "serviceAccount": account}],
            "resourceRules": [{**everything, "clusterScope": True}],
        }
        flow = {
            "priorityLevelConfiguration": {"name": namespace},
            "matchingPrecedence": 100,
            "rules": [rule],
        }
        self._make("prioritylevelconfigurations", {"type": "Limited", "limited": level})
        self._make("flowschemas", flow)

    def _make(self, kind: str, spec: Mapping[str, Any]) -> None:
        body = {"metadata": {"name": self._tenant.namespace}, "spec": spec}
        self._tenant.plane.call("POST", f"{_FLOW}/{kind}", body)

    def _send(self, head: str) -> socket.socket:
        address = urlsplit(self._tenant.plane.url)
        raw = socket.create_connection((str(address.hostname), int(address.port or 0)))
        trusted = ssl.create_default_context(cafile=self._tenant.plane.authority)
        connection = trusted.wrap_socket(raw, server_hostname=address.hostname)
        connection.sendall(head.encode())
        return connection
