"""What every role may do, in full: a right that is added to the stack must be added here too."""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib import resources
from typing import Any

import pytest

from tests.infrastructure.conftest import Synthesized, short

TABLE = "<StateTable.Arn>"
READ_WRITE = {
    ("dynamodb:BatchGetItem", TABLE),
    ("dynamodb:ConditionCheckItem", TABLE),
    ("dynamodb:DeleteItem", TABLE),
    ("dynamodb:GetItem", TABLE),
    ("dynamodb:PutItem", TABLE),
    ("dynamodb:Query", TABLE),
    ("dynamodb:UpdateItem", TABLE),
    ("events:PutEvents", "<Events.Arn>"),
}
LIST = {("dynamodb:Query", f"{TABLE}/index/list")}
DUE = {("dynamodb:Query", f"{TABLE}/index/due")}
OBJECTS = {
    ("s3:GetObject", "<ObjectsBucket.Arn>/*"),
    ("s3:ListBucket", "<ObjectsBucket.Arn>"),
    ("s3:PutObject", "<ObjectsBucket.Arn>/*"),
}
ALL_MACHINES = ("catalog", "job", "launch", "service", "sweep", "terminate")
MACHINES = "arn:<AWS::Partition>:states:<AWS::Region>:<AWS::AccountId>:stateMachine:stix-"
WAKE = {
    (
        "execute-api:ManageConnections",
        "arn:<AWS::Partition>:execute-api:<AWS::Region>:<AWS::AccountId>:<WakeApi>/live/POST/@connections/*",
    )
}


CALL_CLOUDS = {
    (
        "lambda:InvokeFunction",
        "arn:<AWS::Partition>:lambda:<AWS::Region>:<AWS::AccountId>:function:stix-cloud-aws:live",
    )
}


def logs(function: str) -> set[tuple[str, str]]:
    return {(f"logs:{action}", f"<{function}Logs.Arn>") for action in ("CreateLogStream", "PutLogEvents")}


def secrets(*verbs: str) -> set[tuple[str, str]]:
    listed = {("s3:ListBucket", "<SecretsBucket.Arn>")} if "Get" in verbs else set()
    return listed | {
        (f"s3:{verb}Object", f"<SecretsBucket.Arn>/{kind}/*")
        for verb in verbs
        for kind in ("jobs", "join", "managed")
    }


def policy_of(cloud: str) -> set[tuple[str, str]]:
    """What the cloud's own policy file lists, and nothing of the control plane but its own key."""
    text = resources.files(f"stix.clouds.{cloud}").joinpath("policy.json").read_text()
    listed = {
        (action, resource)
        for statement in json.loads(text)["Statement"]
        for action in as_list(statement["Action"])
        for resource in as_list(statement["Resource"])
    }
    return listed | {
        ("s3:GetObject", f"<SecretsBucket.Arn>/clouds/{cloud}.json"),
        ("s3:ListBucket", "<SecretsBucket.Arn>"),
    }


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def start(*machines: str) -> set[tuple[str, str]]:
    return {("states:StartExecution", f"{MACHINES}{machine}") for machine in machines}


def answer(*machines: str) -> set[tuple[str, str]]:
    actions = ("SendTaskFailure", "SendTaskHeartbeat", "SendTaskSuccess")
    return {(f"states:{action}", f"{MACHINES}{machine}") for action in actions for machine in machines}


def invoke(*functions: str) -> set[tuple[str, str]]:
    deliver = ("Create", "Delete", "Get", "List", "Update")
    names = {f"logs:{verb}LogDelivery" for verb in deliver} - {"logs:ListLogDelivery"}
    names |= {"logs:ListLogDeliveries", "logs:PutResourcePolicy"}
    names |= {"logs:DescribeResourcePolicies", "logs:DescribeLogGroups"}
    # The log delivery actions have no resource to name.
    unnamed = {(action, "*") for action in names}
    return unnamed | {("lambda:InvokeFunction", f"<{function}Function.Arn>:*") for function in functions}


ROLES = {
    "ApiRole": logs("Api")
    | READ_WRITE
    | LIST
    | OBJECTS
    | WAKE
    | secrets("Put", "Delete")
    | start("job", "launch", "service", "sweep", "terminate")
    | answer(*ALL_MACHINES),
    "AgentRole": logs("Agent")
    | READ_WRITE
    | LIST
    | OBJECTS
    | {("s3:DeleteObject", "<ObjectsBucket.Arn>/*")}
    | WAKE
    | secrets("Get", "Delete")
    | start("job", "service", "terminate")
    | answer(*ALL_MACHINES),
    "AuthorizeRole": logs("Authorize") | {("dynamodb:GetItem", TABLE)},
    "OptimizeRole": logs("Optimize") | READ_WRITE | OBJECTS | CALL_CLOUDS,
    "ProvisionRole": logs("Provision")
    | READ_WRITE
    | OBJECTS
    | WAKE
    | secrets("Get", "Put", "Delete")
    | CALL_CLOUDS
    | start("job", "service")
    | answer(*ALL_MACHINES),
    "MonitorRole": logs("Monitor")
    | READ_WRITE
    | LIST
    | DUE
    | {("s3:ListBucket", "<ObjectsBucket.Arn>"), ("s3:PutObject", "<ObjectsBucket.Arn>/*")}
    | secrets("Delete")
    | CALL_CLOUDS
    | start(*ALL_MACHINES)
    | answer(*ALL_MACHINES)
    | {("sqs:SendMessage", "<DeadLetters.Arn>")},
    "RecoverRole": logs("Recover")
    | READ_WRITE
    | LIST
    | OBJECTS
    | {("s3:DeleteObject", "<ObjectsBucket.Arn>/*")}
    | WAKE
    | secrets("Get", "Put", "Delete")
    | CALL_CLOUDS
    | start("job", "launch", "service", "terminate")
    | answer(*ALL_MACHINES)
    | {("sqs:SendMessage", "<DeadLetters.Arn>")},
    "AutoscaleRole": logs("Autoscale")
    | READ_WRITE
    | LIST
    | OBJECTS
    | WAKE
    | secrets("Get", "Put", "Delete")
    | CALL_CLOUDS
    | start("launch", "service", "terminate")
    | answer(*ALL_MACHINES),
    "CloudsAwsRole": logs("CloudsAws") | policy_of("aws"),
    "CatalogRole": logs("Catalog")
    | LIST
    | OBJECTS
    | {("s3:DeleteObject", "<ObjectsBucket.Arn>/*")}
    | start("catalog")
    | {("events:PutEvents", "<Events.Arn>"), ("sqs:SendMessage", "<DeadLetters.Arn>")}
    | {(f"ec2:Describe{what}", "*") for what in ("InstanceTypeOfferings", "InstanceTypes", "Regions")}
    | {("ec2:DescribeSpotPriceHistory", "*")},
    "WorkflowsLaunchRole": invoke("Optimize", "Provision", "Monitor"),
    "WorkflowsTerminateRole": invoke("Provision", "Monitor"),
    "WorkflowsSweepRole": invoke("Provision", "Monitor"),
    "WorkflowsCatalogRole": invoke("Catalog"),
    "WorkflowsJobRole": invoke("Recover"),
    "WorkflowsServiceRole": invoke("Autoscale"),
}


def statements(synthesized: Synthesized) -> Iterable[tuple[str, dict[str, Any]]]:
    for policy in synthesized.properties("AWS::IAM::Policy"):
        for role in policy["Roles"]:
            for statement in policy["PolicyDocument"]["Statement"]:
                yield short(role["Ref"]), statement


def test_roles_are_those_listed(synthesized: Synthesized) -> None:
    assert {short(name) for name in synthesized.resources("AWS::IAM::Role")} == ROLES.keys()


@pytest.mark.parametrize("role", sorted(ROLES))
def test_role_may_do_exactly_what_is_listed(synthesized: Synthesized, role: str) -> None:
    granted = {
        (action, synthesized.text(resource))
        for owner, statement in statements(synthesized)
        if owner == role
        for action in as_list(statement["Action"])
        for resource in as_list(statement["Resource"])
    }
    assert granted == ROLES[role]


def test_statements_only_allow_named_actions(synthesized: Synthesized) -> None:
    for role, statement in statements(synthesized):
        assert statement["Effect"] == "Allow"
        assert not any("*" in action for action in as_list(statement["Action"])), role
        assert "NotAction" not in statement
        assert "NotResource" not in statement


def test_roles_have_no_managed_or_inline_policies(synthesized: Synthesized) -> None:
    for role in synthesized.properties("AWS::IAM::Role"):
        assert "ManagedPolicyArns" not in role
        assert "Policies" not in role


def test_roles_are_assumed_by_one_service_each(synthesized: Synthesized) -> None:
    for name, role in synthesized.resources("AWS::IAM::Role").items():
        (statement,) = role["Properties"]["AssumeRolePolicyDocument"]["Statement"]
        expected = "states" if name.startswith("Workflows") else "lambda"
        assert statement["Principal"] == {"Service": f"{expected}.amazonaws.com"}


def test_functions_have_one_role_each(synthesized: Synthesized) -> None:
    functions = synthesized.properties("AWS::Lambda::Function")
    roles = {synthesized.text(function["Role"]) for function in functions}
    assert len(roles) == len(functions) == 10


def test_functions_are_invoked_only_by_this_deployment(synthesized: Synthesized) -> None:
    for permission in synthesized.properties("AWS::Lambda::Permission"):
        assert permission["Principal"] in {"apigateway.amazonaws.com", "events.amazonaws.com"}
        assert "SourceArn" in permission
