"""Requests as wishes, and wishes against policies."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.deployed.permissions import Permissions, Wish, role_of, tasks, wishes

TABLE = "arn:aws:dynamodb:r:1:table/t"


def signed(service: str, **more: str) -> dict[str, str]:
    scope = f"AWS4-HMAC-SHA256 Credential=KEY/20260101/r/{service}/aws4_request, SignedHeaders=host"
    return {
        "HTTP_AUTHORIZATION": scope,
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/",
        "QUERY_STRING": "",
        **more,
    }


def dynamo(operation: str) -> dict[str, str]:
    return signed("dynamodb", HTTP_X_AMZ_TARGET=f"DynamoDB_20120810.{operation}")


@pytest.mark.parametrize(
    ("environ", "body", "expected"),
    [
        (dynamo("GetItem"), {"TableName": "t"}, [("dynamodb:GetItem", TABLE)]),
        (dynamo("Query"), {"TableName": "t", "IndexName": "due"}, [("dynamodb:Query", TABLE + "/index/due")]),
        (
            dynamo("TransactWriteItems"),
            {"TransactItems": [{"Put": {"TableName": "t"}}, {"ConditionCheck": {"TableName": "t"}}]},
            [("dynamodb:PutItem", TABLE), ("dynamodb:ConditionCheckItem", TABLE)],
        ),
        (
            signed("states", HTTP_X_AMZ_TARGET="AWSStepFunctions.StartExecution"),
            {"stateMachineArn": "arn:m"},
            [("states:StartExecution", "arn:m")],
        ),
        (
            signed("states", HTTP_X_AMZ_TARGET="AWSStepFunctions.SendTaskSuccess"),
            {"taskToken": "x"},
            [("states:SendTaskSuccess", "*")],
        ),
        (
            signed("events", HTTP_X_AMZ_TARGET="AWSEvents.PutEvents"),
            {"Entries": [{"EventBusName": "b"}]},
            [("events:PutEvents", "arn:aws:events:r:1:event-bus/b")],
        ),
        (
            signed("s3", REQUEST_METHOD="HEAD", PATH_INFO="/b/k/x"),
            None,
            [("s3:GetObject", "arn:aws:s3:::b/k/x")],
        ),
        (signed("s3", REQUEST_METHOD="GET", PATH_INFO="/b"), None, [("s3:ListBucket", "arn:aws:s3:::b")]),
        (
            signed("lambda", PATH_INFO="/2015-03-31/functions/arn%3Af%3Alive/invocations"),
            None,
            [("lambda:InvokeFunction", "arn:f:live")],
        ),
    ],
)
def test_request_is_read_as_the_actions_that_it_needs(
    environ: dict[str, str], body: Any, expected: list[Wish]
) -> None:
    assert wishes(environ, json.dumps(body).encode(), account="1", region="r") == expected


def test_request_of_ec2_is_read_from_its_form() -> None:
    body = b"Action=CreateFleet&Version=2016-11-15"
    assert wishes(signed("ec2"), body, account="1", region="r") == [("ec2:CreateFleet", "*")]


def test_signed_url_speaks_for_the_role_that_signed_it() -> None:
    query = "X-Amz-Credential=KEY%2F20260101%2Fr%2Fs3%2Faws4_request&X-Amz-Security-Token=role"
    environ = {"QUERY_STRING": query, "REQUEST_METHOD": "PUT", "PATH_INFO": "/b/k"}
    assert role_of(environ) == "role"
    assert wishes(environ, b"", account="1", region="r") == [("s3:PutObject", "arn:aws:s3:::b/k")]


class Iam:
    def list_role_policies(self, RoleName: str) -> dict[str, Any]:  # noqa: N803 - as the SDK names it
        return {"PolicyNames": ["p"] if RoleName == "worker" else []}

    def get_role_policy(self, RoleName: str, PolicyName: str) -> dict[str, Any]:  # noqa: N803
        statement = {"Effect": "Allow", "Action": ["s3:GetObject", "ec2:*"], "Resource": "arn:aws:s3:::b/*"}
        return {"PolicyDocument": {"Statement": [statement]}}


def test_wish_is_refused_and_remembered_unless_a_policy_grants_it() -> None:
    permissions = Permissions(Iam())
    assert permissions.allow("worker", ("s3:GetObject", "arn:aws:s3:::b/k"))
    assert permissions.allow("worker", ("ec2:CreateFleet", "*"))
    assert permissions.allow("nobody", ("sts:GetCallerIdentity", "*"))
    for role, wish in (
        ("worker", ("s3:PutObject", "arn:aws:s3:::b/k")),
        ("worker", ("s3:GetObject", "arn:aws:s3:::other/k")),
        ("nobody", ("s3:GetObject", "arn:aws:s3:::b/k")),
    ):
        assert not permissions.allow(role, wish)
        assert permissions.refused[-1] == (role, wish)


def test_functions_of_a_machine_are_found_in_its_maps_too() -> None:
    task = {"Type": "Task", "Parameters": {"FunctionName": "inner"}}
    machine = {
        "States": {
            "One": {"Type": "Task", "Parameters": {"FunctionName": "outer"}},
            "Each": {"Type": "Map", "ItemProcessor": {"States": {"In": task}}},
            "End": {"Type": "Succeed"},
        }
    }
    assert list(tasks(json.dumps(machine))) == ["outer", "inner"]
