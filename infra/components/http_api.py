"""The HTTP API: people's routes, agents' routes, and the few that ask for no token."""

from __future__ import annotations

import json
from typing import cast

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_apigatewayv2 as apigw
from aws_cdk import aws_logs as logs
from aws_cdk.aws_apigatewayv2_authorizers import HttpLambdaAuthorizer, HttpLambdaResponseType
from aws_cdk.aws_apigatewayv2_integrations import HttpLambdaIntegration
from constructs import Construct

from infra.acknowledge import acknowledge
from infra.components.function import WorkerFunction

__all__ = ["ControlApi"]

_METHODS = (apigw.HttpMethod.GET, apigw.HttpMethod.POST, apigw.HttpMethod.PUT)
"""All that the routes use; OPTIONS and the rest are answered by the gateway itself, without a function."""

_LOGGED = {
    "request": "$context.requestId",
    "route": "$context.routeKey",
    "status": "$context.status",
    "milliseconds": "$context.responseLatency",
    "address": "$context.identity.sourceIp",
    "refused": "$context.authorizer.error",
}
"""Short, since it is paid for by the byte; never the token."""


class ControlApi(Construct):
    """Greedy routes: the functions hold the route tables, checked against the OpenAPI document."""

    def __init__(self, scope: Construct, id: str, *, deployment: str) -> None:
        super().__init__(scope, id)
        self.api = apigw.HttpApi(
            self, "Api", api_name=deployment, create_default_stage=False, description="Control plane of Stix."
        )
        log_group = logs.LogGroup(
            self,
            "AccessLogs",
            log_group_name=f"/aws/vendedlogs/apis/{deployment}",
            retention=logs.RetentionDays.ONE_MONTH,
            removal_policy=RemovalPolicy.DESTROY,
        )
        stage = apigw.HttpStage(
            self,
            "Stage",
            http_api=self.api,
            stage_name="$default",
            auto_deploy=True,
            # Slows a runaway client before it costs much; 10,000 idle nodes send 56 reports a second.
            throttle=apigw.ThrottleSettings(rate_limit=500, burst_limit=1000),
        )
        resource = cast(apigw.CfnStage, stage.node.default_child)
        resource.access_log_settings = apigw.CfnStage.AccessLogSettingsProperty(
            destination_arn=log_group.log_group_arn, format=json.dumps(_LOGGED, separators=(",", ":"))
        )

    @property
    def url(self) -> str:
        return self.api.api_endpoint

    def serve(self, *, api: WorkerFunction, agent: WorkerFunction, authorize: WorkerFunction) -> None:
        """Add the routes. Called after the functions exist, which know this API's URL."""
        authorizer = HttpLambdaAuthorizer(
            "Token",
            authorize.live,
            identity_source=["$request.header.Authorization"],
            response_types=[HttpLambdaResponseType.SIMPLE],
            # Also the longest time for which a revoked token still works.
            results_cache_ttl=Duration.seconds(60),
        )
        people = HttpLambdaIntegration("People", api.live, scope_permission_to_route=False)
        agents = HttpLambdaIntegration("Agents", agent.live, scope_permission_to_route=False)
        for path, integration in (("/v1/{proxy+}", people), ("/agent/v1/{proxy+}", agents)):
            self.api.add_routes(
                path=path, methods=list(_METHODS), integration=integration, authorizer=authorizer
            )
        self._open(
            apigw.HttpMethod.GET,
            "/v1/health",
            people,
            "Tells that the control plane answers, and its version.",
        )
        self._open(
            apigw.HttpMethod.POST,
            "/agent/v1/join",
            agents,
            "The handler itself checks the join token in the request.",
        )
        self._open(
            apigw.HttpMethod.GET,
            "/agent/v1/archive/{hash}",
            agents,
            "The agent's program is public and asked for by its hash, before the machine has joined.",
        )

    def _open(
        self, method: apigw.HttpMethod, path: str, integration: HttpLambdaIntegration, reason: str
    ) -> None:
        (route,) = self.api.add_routes(path=path, methods=[method], integration=integration)
        acknowledge(route, {"AwsSolutions-APIG4": reason})
