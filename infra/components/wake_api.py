"""The WebSocket API: a channel per node, on which "ask for commands" arrives at once (decision 0003), and the
relay of tunnels to nodes (decision 0012)."""

from __future__ import annotations

from aws_cdk import Aws
from aws_cdk import aws_apigatewayv2 as apigw
from aws_cdk import aws_iam as iam
from aws_cdk.aws_apigatewayv2_authorizers import WebSocketLambdaAuthorizer
from aws_cdk.aws_apigatewayv2_integrations import WebSocketLambdaIntegration
from constructs import Construct

from infra.acknowledge import acknowledge, allow
from infra.components.function import WorkerFunction

__all__ = ["WakeApi"]

_STAGE = "live"
_OPENED_ALREADY = (
    "A WebSocket asks for its token once, on $connect; the other routes exist only inside that connection."
)


class WakeApi(Construct):
    """Nodes, and people at the other end of a tunnel, connect with their token; the control plane posts to
    connections. Only what comes through a tunnel is carried on."""

    def __init__(self, scope: Construct, id: str, *, deployment: str) -> None:
        super().__init__(scope, id)
        self.api = apigw.WebSocketApi(
            self,
            "Api",
            api_name=f"{deployment}-wake",
            description="Wakes the nodes of Stix, and carries tunnels to them.",
            route_selection_expression="$request.body.type",
        )
        stage = apigw.WebSocketStage(
            self,
            "Stage",
            web_socket_api=self.api,
            stage_name=_STAGE,
            auto_deploy=True,
            throttle=apigw.ThrottleSettings(rate_limit=500, burst_limit=1000),
        )
        reason = (
            "A WebSocket API can log accesses only with a role set for the whole account and region, which a"
            " stack must not overwrite; $connect and $disconnect are logged by their function."
        )
        acknowledge(stage, {"AwsSolutions-APIG1": reason, "Serverless-APIGWAccessLogging": reason})

    @property
    def url(self) -> str:
        """Where nodes and people connect."""
        return f"wss://{self._host}/{_STAGE}"

    @property
    def management_url(self) -> str:
        """Where the control plane posts to a connection."""
        return f"https://{self._host}/{_STAGE}"

    def serve(self, *, agent: WorkerFunction, authorize: WorkerFunction) -> None:
        """Add the routes. Called after the functions exist, which know this API's URLs."""
        self.api.add_route(
            "$connect",
            integration=WebSocketLambdaIntegration("OnConnect", agent.live),
            authorizer=WebSocketLambdaAuthorizer(
                "Token", authorize.live, identity_source=["route.request.header.Authorization"]
            ),
        )
        for route in ("$disconnect", "$default"):
            # "Default" alone is an id that CDK hides, so that two resources would get one logical id.
            name = f"On{route.removeprefix('$').capitalize()}"
            added = self.api.add_route(route, integration=WebSocketLambdaIntegration(name, agent.live))
            acknowledge(added, {"AwsSolutions-APIG4": _OPENED_ALREADY})

    def grant_post(self, role: iam.IRole) -> None:
        """Post to any node's connection; not read or close it."""
        arn = f"arn:{Aws.PARTITION}:execute-api:{Aws.REGION}:{Aws.ACCOUNT_ID}:{self.api.api_id}/{_STAGE}"
        allow(
            role,
            "execute-api:ManageConnections",
            on=[f"{arn}/POST/@connections/*"],
            wildcard="A connection's id is known only while it lasts.",
        )

    @property
    def _host(self) -> str:
        return f"{self.api.api_id}.execute-api.{Aws.REGION}.{Aws.URL_SUFFIX}"
