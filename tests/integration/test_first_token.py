"""The first token of a deployment, made from a stack's outputs with an operator's own credentials."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from moto import mock_aws

from stix.adapters.aws_client import create_client
from stix.adapters.dynamodb import DynamoStateStore
from stix.adapters.dynamodb_table import create_table_request
from stix.application.tokens import UserPrincipal, authenticate
from stix.deployment.first_token import make_token, read_outputs
from stix.model.errors import NotFoundError

REGION = "us-east-1"


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": REGION,
    }.items():
        monkeypatch.setenv(name, value)
    with mock_aws():
        yield SimpleNamespace(
            formation=boto3.client("cloudformation", REGION), dynamo=boto3.client("dynamodb", REGION)
        )


def deploy(clients: Any, stack: str, outputs: dict[str, str]) -> None:
    template = {
        "Resources": {"Bucket": {"Type": "AWS::S3::Bucket"}},
        "Outputs": {name: {"Value": value} for name, value in outputs.items()},
    }
    clients.formation.create_stack(StackName=stack, TemplateBody=json.dumps(template))


def test_token_is_accepted_when_made_from_a_stack(clients: Any) -> None:
    clients.dynamo.create_table(**create_table_request("state"))
    deploy(clients, "whole", {"ApiUrl": "https://api.example/", "TableName": "state", "Deployment": "stix"})

    outputs = read_outputs("whole", clients.formation)
    token = make_token(outputs, user="ada", workspace="default", client=clients.dynamo)

    assert outputs.api_url == "https://api.example"
    world: Any = SimpleNamespace(store=DynamoStateStore("state", clients.dynamo))
    assert authenticate(world, token) == UserPrincipal("default", "ada")
    assert authenticate(world, token + "x") is None


def test_stack_is_named_when_it_does_not_exist(clients: Any) -> None:
    with pytest.raises(NotFoundError, match="no stack 'absent'"):
        read_outputs("absent", clients.formation)


def test_missing_output_is_named_when_the_stack_is_another(clients: Any) -> None:
    deploy(clients, "another", {"ApiUrl": "https://api.example/"})
    with pytest.raises(NotFoundError, match="TableName"):
        read_outputs("another", clients.formation)


def test_region_is_that_of_aws_region_when_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    assert create_client("sts").meta.region_name == "us-west-2"
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    assert create_client("sts").meta.region_name == "eu-central-1"
