"""``stix deploy`` against moto's account; only the CDK command line itself is played."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner, Result

from stix.adapters.dynamodb import DynamoStateStore
from stix.adapters.dynamodb_table import create_table_request
from stix.application.records import cluster_key
from stix.cli.app import app
from stix.cli.session import Session
from stix.deployment import cdk
from stix.ports.state_store import Item
from tests.providers.aws.fresh import fresh_aws

REGION = "eu-central-1"
API = "https://api.example"


class Account:
    """What the CDK command line would do, and which commands it got."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.commands: list[list[str]] = []
        self.failing = ""

    def run(self, command: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        words = command[command.index("--output") + 2 :] if "--output" in command else command[1:]
        while words[0] == "--context":
            words = words[2:]
        self.commands.append(words)
        if words[0] == self.failing:
            return subprocess.CompletedProcess(command, 1)
        if words[0] == "bootstrap":
            ssm = boto3.client("ssm", REGION)
            ssm.put_parameter(Name="/cdk-bootstrap/hnb659fds/version", Value="30", Type="String")
        if words[0] == "deploy":
            boto3.client("dynamodb", REGION).create_table(**create_table_request("state"))
            outputs = {"ApiUrl": API, "TableName": "state", "Deployment": "stix"}
            template = {
                "Resources": {"Bucket": {"Type": "AWS::S3::Bucket"}},
                "Outputs": {name: {"Value": value} for name, value in outputs.items()},
            }
            boto3.client("cloudformation", REGION).create_stack(
                StackName="stix", TemplateBody=json.dumps(template)
            )
        return subprocess.CompletedProcess(command, 0)

    @property
    def steps(self) -> list[str]:
        return [words[0] for words in self.commands if words != ["-m", "layers.build"]]

    def stix(self, *arguments: str) -> Result:
        environ = {"STIX_HOME": str(self.home), "HOME": str(self.home)}
        return CliRunner().invoke(app, arguments, obj=Session(environ, terminal=False), catch_exceptions=True)


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": REGION,
    }.items():
        monkeypatch.setenv(name, value)
    played = Account(tmp_path)
    monkeypatch.setattr(cdk.subprocess, "run", played.run)
    with fresh_aws():
        yield played


def test_deploy_sets_up_shows_deploys_and_logs_in_when_the_account_is_new(account: Account) -> None:
    done = account.stix("deploy", "-y")
    assert done.exit_code == 0, done.output
    assert account.steps == ["bootstrap", "diff", "deploy"]
    assert json.loads((account.home / "endpoint.json").read_text())["url"] == API


def test_deploy_changes_nothing_when_nobody_can_say_yes(account: Account) -> None:
    done = account.stix("deploy")
    assert done.exit_code == 2
    assert "give -y" in done.output
    assert account.steps == []


def test_deploy_stops_and_says_so_when_a_step_fails(account: Account) -> None:
    account.failing = "diff"
    done = account.stix("deploy", "-y")
    assert "cdk diff failed (exit code 1)" in str(done.exception)
    assert account.steps == ["bootstrap", "diff"]
    assert not (account.home / "endpoint.json").exists()


def test_destroy_is_refused_with_their_names_while_clusters_are_up(account: Account) -> None:
    account.stix("deploy", "-y")
    store = DynamoStateStore("state", boto3.client("dynamodb", REGION))
    key = cluster_key("default", "c-1")
    store.put(Item(key=key, body={"name": "train"}, status="UP", live=True, due_at=1.0))
    done = account.stix("deploy", "--destroy", "-y")
    assert "still has clusters: train" in str(done.exception)
    assert "destroy" not in account.steps

    store.delete(key)
    done = account.stix("deploy", "--destroy", "-y")
    assert done.exit_code == 0, done.output
    assert account.steps[-1] == "destroy"
    assert "The table state" in done.output


@pytest.mark.parametrize("clouds", ["aws", "[]", '{"aws": 1}'])
def test_deploy_names_the_option_when_clouds_are_wrong(account: Account, clouds: str) -> None:
    done = account.stix("deploy", "--clouds", clouds)
    assert done.exit_code == 2
    assert "--clouds" in done.output
