"""Routes of people on the machines: logins, tunnels, endpoints."""

from __future__ import annotations

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response

from stix.api import v1_access
from stix.application.endpoints import endpoints
from stix.application.ssh_access import give_access
from stix.application.tunnels import open_tunnel
from stix.runtime.bootstrap import bootstrap
from stix.runtime.http import answer, read_request, user_of

__all__ = ["add_routes"]


def add_routes(app: APIGatewayHttpResolver) -> None:
    """Add ``/v1/clusters/{name}/ssh``, ``.../tunnels`` and ``.../endpoints``."""

    @app.post("/v1/clusters/<name>/ssh")
    def ssh(name: str) -> Response[str]:
        who, request = user_of(app), read_request(app, v1_access.SshRequest)
        return answer(give_access(bootstrap(), who, name, request.public_key))

    @app.post("/v1/clusters/<name>/tunnels")
    def tunnel(name: str) -> Response[str]:
        who, request = user_of(app), read_request(app, v1_access.TunnelRequest)
        return answer(open_tunnel(bootstrap(), who, name, request.rank), 201)

    @app.get("/v1/clusters/<name>/endpoints")
    def show_endpoints(name: str) -> Response[str]:
        return answer(endpoints(bootstrap(), user_of(app), name))
