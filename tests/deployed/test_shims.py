"""Shims make what moto then shows through the services' own APIs, and refuse what they would lose."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.deployed import shims
from tests.deployed.api_gateway import Authorizer, context_of_policy, read_apis
from tests.deployed.interpreter import running_interpreter
from tests.providers.aws.server import AwsServer

pytestmark = pytest.mark.xdist_group("e2e-deployed")

FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:f:live"
URI = f"arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/{FUNCTION}/invocations"


@pytest.fixture(scope="module")
def server() -> Iterator[AwsServer]:
    made = AwsServer()
    with shims.registered():
        yield made
    made.close()


def create(server: AwsServer, name: str, resources: dict[str, Any], **outputs: Any) -> dict[str, str]:
    template = {
        "Resources": {key: {"Type": kind, "Properties": given} for key, (kind, given) in resources.items()},
        "Outputs": {key: {"Value": value} for key, value in outputs.items()},
    }
    formation = server.client("cloudformation")
    formation.create_stack(StackName=name, TemplateBody=json.dumps(template))
    (stack,) = formation.describe_stacks(StackName=name)["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    return {one["OutputKey"]: one["OutputValue"] for one in stack.get("Outputs", ())}


def test_apis_are_read_as_the_template_has_them(server: AwsServer) -> None:
    ref = {"Ref": "Api"}
    resources = {
        "Api": ("AWS::ApiGatewayV2::Api", {"Name": "a", "ProtocolType": "HTTP"}),
        "Stage": ("AWS::ApiGatewayV2::Stage", {"ApiId": ref, "StageName": "$default"}),
        "Who": (
            "AWS::ApiGatewayV2::Authorizer",
            {
                "ApiId": ref,
                "Name": "Token",
                "AuthorizerType": "REQUEST",
                "AuthorizerUri": URI,
                "AuthorizerPayloadFormatVersion": "2.0",
                "AuthorizerResultTtlInSeconds": 45,
                "IdentitySource": ["$request.header.X-Token"],
            },
        ),
        "To": (
            "AWS::ApiGatewayV2::Integration",
            {"ApiId": ref, "IntegrationType": "AWS_PROXY", "IntegrationUri": FUNCTION},
        ),
        "Route": (
            "AWS::ApiGatewayV2::Route",
            {
                "ApiId": ref,
                "RouteKey": "GET /x",
                "Target": {"Fn::Join": ["", ["integrations/", {"Ref": "To"}]]},
                "AuthorizationType": "CUSTOM",
                "AuthorizerId": {"Ref": "Who"},
            },
        ),
    }
    told = create(server, "apis", resources, Url={"Fn::GetAtt": ["Api", "ApiEndpoint"]})
    ((api_id, api),) = read_apis(server.client("apigatewayv2")).items()
    assert told["Url"] == f"https://{api_id}.execute-api.us-east-1.amazonaws.com"
    route = api.routes["GET /x"]
    assert (api.protocol, api.stage, route.function) == ("HTTP", "$default", FUNCTION)
    assert route.authorizer is not None
    assert route.authorizer == Authorizer(route.authorizer.id, FUNCTION, 45, "X-Token")


def test_state_machine_runs_with_its_placeholders_filled(server: AwsServer) -> None:
    definition = '{"StartAt":"P","States":{"P":{"Type":"Pass","Result":{"by":"${Name}"},"End":true}}}'
    given = {
        "StateMachineName": "machine",
        "StateMachineType": "STANDARD",
        "RoleArn": "arn:aws:iam::123456789012:role/r",
        "DefinitionString": definition,
        "DefinitionSubstitutions": {"Name": {"Ref": "AWS::Region"}},
    }
    with running_interpreter(server.client("lambda"), time.time):
        resources = {"M": ("AWS::StepFunctions::StateMachine", given)}
        arn = create(server, "machines", resources, Arn={"Ref": "M"})["Arn"]
        runs = server.client("stepfunctions")
        run = runs.start_execution(stateMachineArn=arn, input="{}")["executionArn"]
        while (found := runs.describe_execution(executionArn=run))["status"] == "RUNNING":
            pass
    assert (found["status"], json.loads(found["output"])) == ("SUCCEEDED", {"by": "us-east-1"})


def test_property_is_refused_by_name_when_its_shim_would_lose_it() -> None:
    given = {"ApiId": "a", "RouteKey": "GET /", "Target": "t", "ApiKeyRequired": True}
    with pytest.raises(shims.UnknownPropertyError, match="ApiGatewayV2::Route has ApiKeyRequired"):
        shims.Route.create_from_cloudformation_json("n", {"Properties": given}, "1", "r")


def test_policy_of_an_authorizer_lets_in_only_what_it_allows() -> None:
    def answer(effect: str, resource: str) -> dict[str, Any]:
        statement = {"Action": "execute-api:Invoke", "Effect": effect, "Resource": resource}
        return {
            "principalId": "p",
            "policyDocument": {"Statement": [statement]},
            "context": {"rank": 0, "kind": "node"},
        }

    assert context_of_policy(answer("Allow", "arn:x/*"), "arn:x/$connect") == {
        "principalId": "p",
        "kind": "node",
        "rank": "0",
    }
    assert context_of_policy(answer("Deny", "arn:x/*"), "arn:x/$connect") is None
    assert context_of_policy(answer("Allow", "arn:y/*"), "arn:x/$connect") is None
