from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from stix.adapters.dynamodb_table import create_table_request, table_definition
from stix.runtime.schedules import SCHEDULES
from tests.infrastructure.conftest import ROOT, Synthesized, short

FUNCTIONS = (
    *("agent", "api", "authorize", "autoscale", "catalog", "monitor", "optimize", "provision"),
    "recover",
)


def functions(synthesized: Synthesized) -> dict[str, dict[str, Any]]:
    return {
        properties["FunctionName"].removeprefix("stix-"): properties
        for properties in synthesized.properties("AWS::Lambda::Function")
    }


def environment(synthesized: Synthesized, name: str) -> dict[str, str]:
    variables = functions(synthesized)[name]["Environment"]["Variables"]
    return {key: synthesized.text(value) for key, value in variables.items()}


CLOUDS = ("cloud-aws",)


def test_functions_are_those_of_the_design(synthesized: Synthesized) -> None:
    assert sorted(functions(synthesized)) == sorted(FUNCTIONS + CLOUDS)


def test_function_of_a_cloud_has_its_cloud_and_nothing_of_the_control_plane(synthesized: Synthesized) -> None:
    function = functions(synthesized)["cloud-aws"]
    assert function["Handler"] == "functions.cloud.handler.handler"
    variables = environment(synthesized, "cloud-aws")
    assert variables["STIX_CLOUD"] == "aws"
    assert "STIX_TABLE" not in variables
    # Its caller waits longer than it may run, so that what it made is always heard of.
    assert function["Timeout"] < 115


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_is_arm64_python_with_json_logs(synthesized: Synthesized, name: str) -> None:
    function = functions(synthesized)[name]
    assert function["Architectures"] == ["arm64"]
    assert function["Runtime"] == f"python{sys.version_info.major}.{sys.version_info.minor}"
    assert function["Handler"] == f"functions.{name}.handler.handler"
    assert function["LoggingConfig"]["LogFormat"] == "JSON"
    assert short(function["LoggingConfig"]["LogGroup"]["Ref"]) == f"{name.capitalize()}Logs"
    assert len(function["Layers"]) == 1
    assert function.get("TracingConfig") in (None, {"Mode": "PassThrough"})


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_has_only_the_environment_that_it_needs(synthesized: Synthesized, name: str) -> None:
    base = {"STIX_RUNTIME", "STIX_DEPLOYMENT", "STIX_TABLE"}
    base |= {"POWERTOOLS_SERVICE_NAME", "POWERTOOLS_LOG_LEVEL", "POWERTOOLS_TRACE_DISABLED"}
    changes = {"STIX_EVENT_BUS"}
    clouds, calls = {"STIX_CLOUDS"}, {"STIX_CLOUDS", "STIX_CLOUD_FUNCTION_PREFIX"}
    machines, wake = {"STIX_STATE_MACHINE_ARN_PREFIX"}, {"STIX_WAKE_ENDPOINT"}
    objects, secrets = {"STIX_OBJECTS_BUCKET"}, {"STIX_SECRETS_BUCKET"}
    expected = {
        "agent": changes | clouds | objects | secrets | machines | wake | {"STIX_API_URL", "STIX_WAKE_URL"},
        "api": changes | clouds | objects | secrets | machines | wake | {"STIX_WAKE_URL"},
        "authorize": set(),
        "autoscale": changes | calls | objects | secrets | machines | wake,
        "catalog": changes | machines | objects,
        "monitor": changes | calls | machines | objects | secrets,
        "optimize": changes | calls | objects,
        "provision": changes | calls | objects | secrets | machines | wake | {"STIX_API_URL"},
        "recover": changes | calls | objects | secrets | machines | wake,
    }
    assert environment(synthesized, name).keys() == base | expected[name]


def test_environment_names_the_resources(synthesized: Synthesized) -> None:
    agent = environment(synthesized, "agent")
    assert agent["STIX_RUNTIME"] == "aws"
    # Two stacks of one name are two deployments.
    assert agent["STIX_DEPLOYMENT"] == "stix-<AWS::StackId>///2/-/0"
    assert agent["STIX_TABLE"] == "<StateTable>"
    assert agent["STIX_OBJECTS_BUCKET"] == "<ObjectsBucket>"
    assert agent["STIX_SECRETS_BUCKET"] == "<SecretsBucket>"
    assert agent["STIX_API_URL"] == "<HttpApi.ApiEndpoint>"
    host = "<WakeApi>.execute-api.<AWS::Region>.<AWS::URLSuffix>/live"
    assert agent["STIX_WAKE_URL"] == f"wss://{host}"
    assert agent["STIX_WAKE_ENDPOINT"] == f"https://{host}"
    assert agent["STIX_STATE_MACHINE_ARN_PREFIX"].endswith(":stateMachine:stix-")


@pytest.mark.parametrize("name", ["agent", "api", "authorize"])
def test_function_answers_within_ten_seconds_when_a_person_or_node_waits(
    synthesized: Synthesized, name: str
) -> None:
    assert functions(synthesized)[name]["Timeout"] <= 10


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("optimize", 60),
        ("provision", 300),
        ("monitor", 60),
        ("catalog", 600),
        ("recover", 120),
        ("autoscale", 120),
    ],
)
def test_worker_has_the_time_that_its_longest_task_gives_it(
    synthesized: Synthesized, name: str, seconds: int
) -> None:
    assert functions(synthesized)[name]["Timeout"] == seconds


def test_scheduled_function_has_a_dead_letter_queue(synthesized: Synthesized) -> None:
    for schedule in SCHEDULES:
        target = functions(synthesized)[schedule.function]["DeadLetterConfig"]["TargetArn"]
        assert synthesized.text(target) == "<DeadLetters.Arn>"


def test_schedules_call_the_alias_with_bounded_retries(synthesized: Synthesized) -> None:
    rules = [rule for rule in synthesized.properties("AWS::Events::Rule") if "ScheduleExpression" in rule]
    assert len(rules) == len(SCHEDULES)
    called = {}
    for rule in rules:
        (target,) = rule["Targets"]
        called[synthesized.text(target["Arn"])] = (rule["ScheduleExpression"], target["Input"])
        assert target["RetryPolicy"] == {"MaximumEventAgeInSeconds": 300, "MaximumRetryAttempts": 2}
        assert synthesized.text(target["DeadLetterConfig"]["Arn"]) == "<DeadLetters.Arn>"
    assert called == {
        "<MonitorLive>": ("rate(1 minute)", '{"action":"sweep"}'),
        "<CatalogLive>": ("rate(7 hours)", '{"action":"start"}'),
    }
    asynchronous = synthesized.properties("AWS::Lambda::EventInvokeConfig")
    assert len(asynchronous) == len(SCHEDULES) + 1  # and the rule of EC2's events
    for each in asynchronous:
        assert each["MaximumRetryAttempts"] == 1


def test_events_of_ec2_about_spot_machines_reach_the_jobs(synthesized: Synthesized) -> None:
    [rule] = [rule for rule in synthesized.properties("AWS::Events::Rule") if "EventPattern" in rule]
    assert rule["EventPattern"] == {
        "source": ["aws.ec2"],
        "detail-type": ["EC2 Spot Instance Interruption Warning", "EC2 Instance Rebalance Recommendation"],
    }
    (target,) = rule["Targets"]
    assert synthesized.text(target["Arn"]) == "<RecoverLive>"
    paths = target["InputTransformer"]["InputPathsMap"]
    made = target["InputTransformer"]["InputTemplate"]
    event = {
        "region": "us-east-1",
        "time": "2026-01-02T03:04:05Z",
        "detail-type": "EC2 Spot Instance Interruption Warning",
        "detail": {"instance-id": "i-1", "instance-action": "terminate"},
    }
    for name, path in paths.items():
        value: Any = event
        for part in path.removeprefix("$.").split("."):
            value = value[part]
        made = made.replace(f"<{name}>", json.dumps(value))
    assert json.loads(made) == {
        "action": "machine_event",
        "cloud": "aws",
        "region": "us-east-1",
        "kind": "EC2 Spot Instance Interruption Warning",
        "time": "2026-01-02T03:04:05Z",
        "machine_id": "i-1",
    }


def test_state_machines_call_published_versions(synthesized: Synthesized) -> None:
    machines = {
        properties["StateMachineName"]: properties
        for properties in synthesized.properties("AWS::StepFunctions::StateMachine")
    }
    assert machines.keys() == {
        f"stix-{name}" for name in ("catalog", "job", "launch", "service", "sweep", "terminate")
    }
    versions = synthesized.resources("AWS::Lambda::Version")
    for machine in machines.values():
        used = set(re.findall(r"\$\{(\w+)\}", machine["DefinitionString"]))
        assert used == machine["DefinitionSubstitutions"].keys()
        for arn in machine["DefinitionSubstitutions"].values():
            assert arn["Ref"] in versions
        assert machine["StateMachineType"] == "STANDARD"
        assert machine["LoggingConfiguration"]["Level"] == "ERROR"
        assert machine["LoggingConfiguration"]["IncludeExecutionData"] is False


def test_versions_are_kept_when_newer_ones_are_published(synthesized: Synthesized) -> None:
    versions = synthesized.resources("AWS::Lambda::Version").values()
    assert len(versions) == len(FUNCTIONS + CLOUDS)
    assert {version["DeletionPolicy"] for version in versions} == {"Retain"}


def test_table_is_the_stores_own_definition(synthesized: Synthesized) -> None:
    (table,) = synthesized.properties("AWS::DynamoDB::Table")
    wanted = create_table_request("any")
    for key in ("BillingMode", "KeySchema"):
        assert table[key] == wanted[key]
    for key, name in (("AttributeDefinitions", "AttributeName"), ("GlobalSecondaryIndexes", "IndexName")):
        assert sorted(table[key], key=lambda entry: entry[name]) == sorted(wanted[key], key=lambda e: e[name])
    assert table["TimeToLiveSpecification"] == {
        "AttributeName": table_definition().ttl_attribute,
        "Enabled": True,
    }


def test_table_is_kept_protected_and_recoverable(synthesized: Synthesized) -> None:
    (table,) = synthesized.resources("AWS::DynamoDB::Table").values()
    assert table["DeletionPolicy"] == table["UpdateReplacePolicy"] == "Retain"
    assert table["Properties"]["DeletionProtectionEnabled"] is True
    assert table["Properties"]["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    # "SSE" here means a key in KMS that is paid for; without it the key is the one that AWS owns.
    assert table["Properties"].get("SSESpecification", {"SSEEnabled": False}) == {"SSEEnabled": False}


def test_buckets_are_private_encrypted_and_kept(synthesized: Synthesized) -> None:
    buckets = synthesized.resources("AWS::S3::Bucket")
    encryption = {}
    for name, bucket in buckets.items():
        properties = bucket["Properties"]
        assert bucket["DeletionPolicy"] == "Retain"
        assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
        assert len(properties["PublicAccessBlockConfiguration"]) == 4
        (rule,) = properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        encryption[short(name)] = rule["ServerSideEncryptionByDefault"]
    assert encryption == {
        "ObjectsBucket": {"SSEAlgorithm": "AES256"},
        # Without a key id: the account's own aws/s3, which costs nothing per month.
        "SecretsBucket": {"SSEAlgorithm": "aws:kms"},
    }


def test_buckets_queue_and_topic_refuse_plain_http(synthesized: Synthesized) -> None:
    policies = [
        *synthesized.properties("AWS::S3::BucketPolicy"),
        *synthesized.properties("AWS::SQS::QueuePolicy"),
        *synthesized.properties("AWS::SNS::TopicPolicy"),
    ]
    assert len(policies) == 4
    for policy in policies:
        assert any(
            statement["Effect"] == "Deny"
            and statement.get("Condition") == {"Bool": {"aws:SecureTransport": "false"}}
            for statement in policy["PolicyDocument"]["Statement"]
        )


def test_buckets_forget_what_is_old(synthesized: Synthesized) -> None:
    rules = {
        short(name): {rule["Id"]: rule for rule in bucket["Properties"]["LifecycleConfiguration"]["Rules"]}
        for name, bucket in synthesized.resources("AWS::S3::Bucket").items()
    }
    assert rules["ObjectsBucket"]["logs"]["ExpirationInDays"] == 90
    assert rules["ObjectsBucket"]["logs"]["Prefix"] == "logs/"
    for kind in ("jobs", "join"):
        assert rules["SecretsBucket"][f"forgotten-{kind}"]["ExpirationInDays"] == 30
        assert rules["SecretsBucket"][f"forgotten-{kind}"]["Prefix"] == f"{kind}/"
    # A cloud's key, below clouds/, stays.
    assert all("Prefix" in rule for rule in rules["SecretsBucket"].values() if "ExpirationInDays" in rule)
    for bucket in rules.values():
        assert bucket["abandoned-uploads"]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}


def test_queue_is_encrypted(synthesized: Synthesized) -> None:
    (queue,) = synthesized.properties("AWS::SQS::Queue")
    assert queue["SqsManagedSseEnabled"] is True


def test_log_groups_forget_after_a_month(synthesized: Synthesized) -> None:
    groups = synthesized.properties("AWS::Logs::LogGroup")
    assert len(groups) == len(FUNCTIONS + CLOUDS) + 2
    assert {group["RetentionInDays"] for group in groups} == {30}


def test_routes_ask_for_a_token_except_those_listed(synthesized: Synthesized) -> None:
    routes = {
        route["RouteKey"]: (synthesized.text(route["Target"]), route["AuthorizationType"])
        for route in synthesized.properties("AWS::ApiGatewayV2::Route")
        if short(route["ApiId"]["Ref"]) == "HttpApi"
    }
    open_routes = {key for key, (_, kind) in routes.items() if kind == "NONE"}
    assert open_routes == {"GET /v1/health", "POST /agent/v1/join", "GET /agent/v1/archive/{hash}"}
    for method in ("GET", "POST", "PUT"):
        assert routes[f"{method} /v1/{{proxy+}}"][1] == "CUSTOM"
        assert routes[f"{method} /agent/v1/{{proxy+}}"][1] == "CUSTOM"
    assert len(routes) == 9


def test_authorizer_is_asked_again_after_a_minute(synthesized: Synthesized) -> None:
    authorizers = synthesized.properties("AWS::ApiGatewayV2::Authorizer")
    (http,) = (entry for entry in authorizers if short(entry["ApiId"]["Ref"]) == "HttpApi")
    assert http["AuthorizerResultTtlInSeconds"] == 60
    assert http["EnableSimpleResponses"] is True
    assert http["AuthorizerPayloadFormatVersion"] == "2.0"
    assert http["IdentitySource"] == ["$request.header.Authorization"]


def test_wake_channel_asks_for_the_token_on_connect(synthesized: Synthesized) -> None:
    routes = {
        route["RouteKey"]: route["AuthorizationType"]
        for route in synthesized.properties("AWS::ApiGatewayV2::Route")
        if short(route["ApiId"]["Ref"]) == "WakeApi"
    }
    assert routes == {"$connect": "CUSTOM", "$disconnect": "NONE", "$default": "NONE"}


def test_stages_throttle(synthesized: Synthesized) -> None:
    for stage in synthesized.properties("AWS::ApiGatewayV2::Stage"):
        assert stage["DefaultRouteSettings"]["ThrottlingRateLimit"] > 0
        assert stage["DefaultRouteSettings"]["ThrottlingBurstLimit"] > 0


def test_access_log_never_holds_a_token(synthesized: Synthesized) -> None:
    formats = [
        stage["AccessLogSettings"]["Format"]
        for stage in synthesized.properties("AWS::ApiGatewayV2::Stage")
        if "AccessLogSettings" in stage
    ]
    assert len(formats) == 1
    assert "uthorization" not in formats[0]
    assert "$context.requestId" in formats[0]


def test_outputs_are_what_login_reads(synthesized: Synthesized) -> None:
    outputs = synthesized.template["Outputs"]
    assert outputs.keys() == {
        *("ApiUrl", "WakeUrl", "TableName", "ObjectsBucket", "SecretsBucket", "Deployment"),
    }
    assert synthesized.text(outputs["Deployment"]["Value"]) == "stix-<AWS::StackId>///2/-/0"


def test_template_stays_far_below_cloudformations_limits(synthesized: Synthesized) -> None:
    path = Path(synthesized.folder, "ControlPlane.template.json")
    assert path.stat().st_size < 500_000
    assert len(synthesized.template["Resources"]) < 250


def test_no_folder_shadows_the_constructs_library() -> None:
    assert not list((ROOT / "infra").rglob("constructs"))
