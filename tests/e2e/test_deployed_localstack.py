"""The synthesized stack on LocalStack's free services, in host mode: a second opinion beside moto's.

`make e2e-full` builds LocalStack's own environment and runs this; with STIX_LOCALSTACK_IMAGE it runs that
image on this machine's Docker engine instead. What its free services lack is left out of the template by
name; requests reach the functions as API Gateway would send them; the test plays the agents.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from stix.adapters.s3 import S3ObjectStore
from stix.catalog.index_compile import compile_index
from stix.catalog.publish import publish_index
from stix.catalog.row import CatalogRow
from stix.local.http_events import HttpRequest, http_event
from tests.deployed.stack import _publish, stack_name
from tests.deployed.synthesis import synthesize
from tests.e2e.embedded import await_that
from tests.localstack.server import ACCOUNT, REGION, Container, HostMode, LocalStack
from tests.localstack.template import LACKING, without_lacking

pytestmark = [pytest.mark.localstack, pytest.mark.xdist_group("e2e-localstack")]

ASSETS = f"cdk-hnb659fds-assets-{ACCOUNT}-{REGION}"
PERSON = {"kind": "user", "workspace": "default", "user": "ann"}


class Stack:
    """``outputs`` and ``resources`` (types by logical id) of the stack; ``left_out`` is not among them."""

    def __init__(self, local: LocalStack, assembly: Path) -> None:
        self.local = local
        (file,) = assembly.glob("*.template.json")
        template, self.left_out = without_lacking(json.loads(file.read_text()))
        local.client("ssm").put_parameter(
            Name=template["Parameters"]["BootstrapVersion"]["Default"], Value="30", Type="String"
        )
        s3 = local.client("s3")
        _publish(s3, assembly, ACCOUNT, REGION)
        s3.put_object(Bucket=ASSETS, Key="template.json", Body=json.dumps(template).encode())
        self.name = stack_name(assembly)
        formation = local.client("cloudformation")
        formation.create_stack(
            StackName=self.name,
            TemplateURL=f"{local.inner_url}/{ASSETS}/template.json",
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )

        def ended() -> dict[str, Any] | None:
            (stack,) = formation.describe_stacks(StackName=self.name)["Stacks"]
            return stack if stack["StackStatus"] != "CREATE_IN_PROGRESS" else None

        self.created = await_that("the stack", ended, seconds=300, every=1)
        self.outputs = {one["OutputKey"]: one["OutputValue"] for one in self.created.get("Outputs", ())}
        found = formation.describe_stack_resources(StackName=self.name)["StackResources"]
        self.resources = {one["LogicalResourceId"]: one for one in found}

    def invoke(self, function: str, payload: Any) -> Any:
        answer = self.local.client("lambda").invoke(
            FunctionName=f"{self.name}-{function}:live", Payload=json.dumps(payload).encode()
        )
        told = json.loads(answer["Payload"].read())
        assert "FunctionError" not in answer, told
        return told

    def request(
        self, method: str, path: str, body: Any = None, who: dict[str, Any] | None = None, token: str = ""
    ) -> Any:
        """As API Gateway sends it to the function behind the route. Asserts success."""
        headers = {"host": "api.example", "content-type": "application/json"}
        if token:
            headers["authorization"] = f"Bearer {token}"
        data = b"" if body is None else json.dumps(body).encode()
        request = HttpRequest(method, path, "", tuple(headers.items()), "192.0.2.1", body=data)
        function = "agent" if path.startswith("/agent/") else "api"
        answer = self.invoke(function, http_event(request, "ANY", who))
        assert answer["statusCode"] < 300, answer
        return json.loads(answer["body"])

    def runs(self, machine: str) -> Counter[str]:
        """Its executions by status."""
        states = self.local.client("stepfunctions")
        arn = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{self.name}-{machine}"
        return Counter(one["status"] for one in states.list_executions(stateMachineArn=arn)["executions"])

    def cluster(self, name: str) -> dict[str, Any]:
        found = self.request("GET", "/v1/clusters", who=PERSON)["clusters"]
        return next((one for one in found if one["name"] == name), {})


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    environment, image = os.environ.get("STIX_LOCALSTACK"), os.environ.get("STIX_LOCALSTACK_IMAGE")
    if not environment and not image:
        pytest.skip("STIX_LOCALSTACK names no environment with LocalStack: `make e2e-full` builds one")
    folder = tmp_path_factory.mktemp("localstack")
    local = Container(folder, image) if image else HostMode(folder, Path(str(environment)).absolute())
    try:
        local.wait_ready()
        assembly = synthesize(folder / "assembly")
        local.adapt(assembly)
        made = Stack(local, assembly)
        _publish_prices(made, folder / "prices")
        yield made
    finally:
        local.stop()


def _publish_prices(stack: Stack, file: Path) -> None:
    rows = [
        CatalogRow("aws", REGION, f"{REGION}{zone}", "m5.large", 2, 8, price=0.096, as_of=time.time())
        for zone in "ab"
    ]
    compile_index(rows, file)
    publish_index(S3ObjectStore(stack.outputs["ObjectsBucket"], stack.local.client("s3")), file)


def test_stack_is_created(stack: Stack) -> None:
    assert stack.created["StackStatus"] == "CREATE_COMPLETE"
    states = {one["ResourceStatus"] for one in stack.resources.values()}
    assert states == {"CREATE_COMPLETE"}
    print(f"\n{len(stack.resources)} resources, {len(stack.left_out)} left out")


@pytest.mark.parametrize("kind", sorted(LACKING))
def test_resources_of_a_kind_exist(stack: Stack, kind: str) -> None:
    """One line for each kind that LocalStack's free services lack, so that nobody takes it for tested."""
    lacking = [name for name, found in stack.left_out.items() if found == kind]
    assert lacking, f"the template has no {kind} any more: take it out of LACKING"
    pytest.skip(f"{len(lacking)} of {kind} are left out: {LACKING[kind]}")


def test_functions_run_from_their_artifacts(stack: Stack) -> None:
    assert stack.request("GET", "/v1/health")["runtime"] == "aws"
    assert stack.invoke("monitor", {"action": "sweep"})["skipped"] == 0


def test_rule_invokes_the_sweep_every_minute(stack: Stack) -> None:
    """EventBridge itself: nobody calls it here."""

    def sweeps() -> int:
        return stack.local.logs().get(f"{stack.name}-monitor", "").count('"action":"sweep"')

    before = sweeps()
    await_that("the rule fires", lambda: sweeps() > before, seconds=150, every=1)


def test_machines_launch_and_terminate_a_gang(stack: Stack) -> None:
    """The state machines' own definitions, Lambda's task token included."""
    asked = {"task": {"num_nodes": 2, "run": "true", "resources": {"infra": f"aws/{REGION}", "cpus": 2}}}
    stack.request("POST", "/v1/clusters", {**asked, "cluster": "train"}, who=PERSON)
    ec2 = stack.local.client("ec2")

    def machines() -> list[dict[str, Any]]:
        groups = ec2.describe_instances(
            Filters=[{"Name": "instance-state-name", "Values": ["pending", "running"]}]
        )["Reservations"]
        return [one for group in groups for one in group["Instances"]]

    await_that("two machines", lambda: len(machines()) == 2, seconds=120, every=1)
    assert stack.runs("launch") == {"RUNNING": 1}
    attribute = ec2.describe_instance_attribute(InstanceId=machines()[0]["InstanceId"], Attribute="userData")[
        "UserData"
    ]["Value"]
    script = base64.b64decode(attribute)
    script = gzip.decompress(script) if script[:2] == b"\x1f\x8b" else script
    (join_token,) = set(re.findall(rb"stixj\.[\w.-]+", script))
    for one in machines():
        body = {"machine_id": one["InstanceId"], "address": one["PrivateIpAddress"], "peer_port": 7000}

        def joined(body: dict[str, Any] = body) -> Any:
            with suppress(AssertionError):  # the provider's answer is not recorded yet
                return stack.request("POST", "/agent/v1/join", body, token=join_token.decode())

        assert await_that("a node joins", joined, every=0.5)["num_nodes"] == 2
    await_that("the run ends", lambda: stack.runs("launch") == {"SUCCEEDED": 1}, every=0.5)
    assert stack.cluster("train")["status"] == "UP"

    stack.request("POST", "/v1/clusters/train/down", {}, who=PERSON)
    await_that("the run ends", lambda: stack.runs("terminate") == {"SUCCEEDED": 1}, every=0.5)
    assert machines() == []
    assert stack.cluster("train") == {}


def test_run_is_waited_for_when_another_machine_starts_it(stack: Stack) -> None:
    """``states:startExecution.sync``, which moto's interpreter cannot do."""
    states = stack.local.client("stepfunctions")
    sweep = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{stack.name}-sweep"
    call = {
        "Type": "Task",
        "Resource": "arn:aws:states:::states:startExecution.sync",
        "Parameters": {"StateMachineArn": sweep, "Input": {"mode": "sweep"}},
        "End": True,
    }
    role = f"arn:aws:iam::{ACCOUNT}:role/caller"
    definition = json.dumps({"StartAt": "Sweep", "States": {"Sweep": call}})
    caller = states.create_state_machine(name="caller", definition=definition, roleArn=role)
    run = states.start_execution(stateMachineArn=caller["stateMachineArn"])["executionArn"]

    def ended() -> dict[str, Any] | None:
        found = states.describe_execution(executionArn=run)
        return found if found["status"] != "RUNNING" else None

    found = await_that("the caller's run", ended, every=0.5)
    assert found["status"] == "SUCCEEDED", found
    assert stack.runs("sweep")["SUCCEEDED"] >= 1
