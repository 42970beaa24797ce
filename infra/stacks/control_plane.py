"""The whole control plane: everything here costs nothing, or next to it, while nothing happens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aws_cdk import CfnOutput, Stack, Tags
from aws_cdk import aws_events as events
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.acknowledge import acknowledge, allow
from infra.assets import Assets
from infra.components.alarms import Alarms
from infra.components.buckets import ObjectsBucket, SecretsBucket
from infra.components.cloud_functions import CloudFunctions
from infra.components.dashboard import Dashboard
from infra.components.function import WorkerFunction, deployment_id
from infra.components.http_api import ControlApi
from infra.components.interruptions import Interruptions
from infra.components.layer import PackageLayer
from infra.components.schedules import Schedules
from infra.components.table import StateTable
from infra.components.wake_api import WakeApi
from infra.components.workflows import Workflows, arn_prefix, task_seconds
from stix.adapters.dynamodb_table import DUE_INDEX, LIST_INDEX
from stix.runtime.schedules import SCHEDULES

__all__ = ["ControlPlane"]

_REQUEST_SECONDS = 10
"""No handler waits longer; the HTTP API itself would give up after 30."""


@dataclass(frozen=True, slots=True)
class _Size:
    memory_mib: int
    timeout_seconds: int


class ControlPlane(Stack):
    """One deployment, found by its name: the stack, the functions and the state machines all carry it."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        deployment: str,
        assets: Assets,
        clouds: Mapping[str, Mapping[str, Any]],
        alarm_email: str | None = None,
        dashboard: bool = True,
        gateways: Mapping[str, str] | None = None,
    ) -> None:
        """``clouds``: the settings of each cloud that is to be used, by its name. ``gateways``: variables
        that say how many gateways services have, and where."""
        super().__init__(
            scope,
            id,
            stack_name=deployment,
            description="Stix: runs AI and batch work on the cheapest cloud.",
        )
        Tags.of(self).add("stix-deployment", deployment)
        self._deployment = deployment
        self._gateways = dict(gateways or {})
        self._assets = assets
        self._table = StateTable(self, "State")
        self._objects = ObjectsBucket(self, "Objects")
        self._secrets = SecretsBucket(self, "Secrets")
        self._bus = events.EventBus(self, "Events", event_bus_name=deployment)
        self._http = ControlApi(self, "Http", deployment=deployment)
        self._wake = WakeApi(self, "Wake", deployment=deployment)
        self._dead_letters = sqs.Queue(
            self, "DeadLetters", encryption=sqs.QueueEncryption.SQS_MANAGED, enforce_ssl=True
        )
        acknowledge(
            self._dead_letters,
            {
                "Serverless-SQSRedrivePolicy": "This is the dead-letter queue itself.",
            },
        )
        definitions = {name: assets.state_machine(name) for name in assets.state_machine_names()}
        layer = PackageLayer(
            self,
            "Package",
            folder=assets.layer("core"),
            description="The package stix and what it imports.",
        )
        functions = self._functions(task_seconds(definitions), layer)
        self._clouds = CloudFunctions(
            self,
            "Clouds",
            deployment=deployment,
            clouds=clouds,
            assets=assets,
            package=layer,
            secrets=self._secrets,
        )
        self._permit(functions, machines=list(definitions))
        self._http.serve(api=functions["api"], agent=functions["agent"], authorize=functions["authorize"])
        self._wake.serve(agent=functions["agent"], authorize=functions["authorize"])
        workflows = Workflows(
            self, "Workflows", deployment=deployment, definitions=definitions, functions=functions
        )
        Schedules(
            self, "Schedules", schedules=SCHEDULES, functions=functions, dead_letters=self._dead_letters
        )
        if "aws" in clouds:
            Interruptions(
                self, "Interruptions", recover=functions["recover"], dead_letters=self._dead_letters
            )
        alarms = Alarms(
            self,
            "Alarms",
            deployment=deployment,
            api=self._http.api,
            dead_letters=self._dead_letters,
            function_logs=[
                function.log_group for function in (*functions.values(), *self._clouds.functions.values())
            ],
            workflow_logs=workflows.log_group,
            email=alarm_email,
        )
        if dashboard:
            Dashboard(
                self,
                "Dashboard",
                deployment=deployment,
                api=self._http.api,
                table=self._table.table,
                dead_letters=self._dead_letters,
                functions=functions,
                machines=list(definitions),
                alarms=alarms,
            )
        self._export()

    def _functions(self, task_seconds: dict[str, int], layer: PackageLayer) -> dict[str, WorkerFunction]:
        """Memory buys processor time: people wait for ``api``, a heartbeat is small, a sweep mostly waits."""
        sizes = {
            "api": _Size(1024, _REQUEST_SECONDS),
            "agent": _Size(512, _REQUEST_SECONDS),
            "authorize": _Size(512, _REQUEST_SECONDS),
            "optimize": _Size(1024, task_seconds["optimize"]),
            "provision": _Size(512, task_seconds["provision"]),
            "monitor": _Size(256, task_seconds["monitor"]),
            # Compiles some hundred thousand offers into one file.
            "catalog": _Size(1024, task_seconds["catalog"]),
            # Looks for the offers of a job's next machines.
            "recover": _Size(512, task_seconds["recover"]),
            # The same for a service's next replicas.
            "autoscale": _Size(512, task_seconds["autoscale"]),
        }
        scheduled = {schedule.function for schedule in SCHEDULES} | {"recover"}
        return {
            name: WorkerFunction(
                self,
                name.capitalize(),
                deployment=self._deployment,
                name=name,
                code=lambda_.Code.from_asset(self._assets.function(name)),
                layers=[layer],
                memory_mib=size.memory_mib,
                timeout_seconds=size.timeout_seconds,
                environment={"STIX_TABLE": self._table.table.table_name},
                dead_letters=self._dead_letters if name in scheduled else None,
            )
            for name, size in sizes.items()
        }

    def _permit(self, functions: dict[str, WorkerFunction], *, machines: list[str]) -> None:
        """Each function's rights and the environment that goes with them, one paragraph a function."""
        api, agent, authorize = functions["api"], functions["agent"], functions["authorize"]
        optimize, provision, monitor = functions["optimize"], functions["provision"], functions["monitor"]
        catalog, recover, autoscale = functions["catalog"], functions["recover"], functions["autoscale"]

        self._table.grant_get(authorize.role)

        # Who decides about machines knows which clouds there are; who makes them calls the clouds' functions.
        for function in (api, agent, optimize, provision, monitor, recover, autoscale):
            function.set(STIX_CLOUDS=self._clouds.names, **self._gateways)
        for function in (optimize, provision, monitor, recover, autoscale):
            self._clouds.grant_call(function)

        self._use_state(api, LIST_INDEX)
        self._use_objects(api, "s3:GetObject", "s3:PutObject")
        self._use_secrets(api, "s3:PutObject", "s3:DeleteObject")
        self._start(api, "job", "launch", "service", "sweep", "terminate")
        # Whoever takes a cluster down ends the wait of the run that launches it.
        self._answer(api, machines)
        self._wake_nodes(api)
        # It tells both ends of a tunnel where to meet.
        api.set(STIX_WAKE_URL=self._wake.url)

        # A node's last report ends its job: the job's secrets go with it, and autostop may end the cluster.
        # A gateway's agent is told which services there are.
        self._use_state(agent, LIST_INDEX)
        # A new checkpoint makes parts of the one before it needless.
        self._use_objects(agent, "s3:GetObject", "s3:PutObject", "s3:DeleteObject")
        self._use_secrets(agent, "s3:GetObject", "s3:DeleteObject")
        self._start(agent, "job", "service", "terminate")
        self._answer(agent, machines)
        self._wake_nodes(agent)
        agent.set(STIX_API_URL=self._http.url, STIX_WAKE_URL=self._wake.url)

        self._use_state(optimize)
        self._use_objects(optimize, "s3:GetObject", "s3:PutObject")

        # The join token of a gang waits in a secret until its user-data is made, perhaps by a second try.
        self._use_state(provision)
        self._use_objects(provision, "s3:GetObject", "s3:PutObject")
        self._use_secrets(provision, "s3:GetObject", "s3:PutObject", "s3:DeleteObject")
        self._start(provision, "job", "service")
        self._answer(provision, machines)
        self._wake_nodes(provision)
        provision.set(STIX_API_URL=self._http.url)

        # A job whose cluster is gone is ended by the sweep, and its secrets with it.
        self._use_state(monitor, DUE_INDEX, LIST_INDEX)
        self._use_secrets(monitor, "s3:DeleteObject")
        # A gateway that was lost is launched anew, with the document of what its machine sets up.
        self._use_objects(monitor, "s3:PutObject")
        self._start(monitor, *machines)
        # It ends a run's wait for nodes whose machines will never boot.
        self._answer(monitor, machines)

        # A job's clusters are launched and let go as people's are; its secrets and checkpoints end with it.
        # Nothing is launched beyond the month's budget, which the ledger tells.
        self._use_state(recover, LIST_INDEX)
        self._use_objects(recover, "s3:GetObject", "s3:PutObject", "s3:DeleteObject")
        self._use_secrets(recover, "s3:GetObject", "s3:PutObject", "s3:DeleteObject")
        # A notice of EC2's may be of a service's machine.
        self._start(recover, "job", "launch", "service", "terminate")
        self._answer(recover, machines)
        self._wake_nodes(recover)

        # A service's clusters, likewise; its requests and logs are nobody's to delete.
        self._use_state(autoscale, LIST_INDEX)
        self._use_objects(autoscale, "s3:GetObject", "s3:PutObject")
        self._use_secrets(autoscale, "s3:GetObject", "s3:PutObject", "s3:DeleteObject")
        self._start(autoscale, "launch", "service", "terminate")
        self._answer(autoscale, machines)
        self._wake_nodes(autoscale)

        # It looks whether any place was used lately, and never at anything else in the table.
        self._table.grant_index(catalog.role, LIST_INDEX)
        allow(catalog.role, "events:PutEvents", on=[self._bus.event_bus_arn])
        catalog.set(STIX_EVENT_BUS=self._bus.event_bus_name)
        self._use_objects(catalog, "s3:GetObject", "s3:PutObject", "s3:DeleteObject")
        self._start(catalog, "catalog")
        allow(
            catalog.role,
            *("ec2:DescribeInstanceTypeOfferings", "ec2:DescribeInstanceTypes", "ec2:DescribeRegions"),
            "ec2:DescribeSpotPriceHistory",
            on=["*"],
            wildcard="EC2's lists of what it offers have no resource to name.",
        )

    def _use_state(self, function: WorkerFunction, *indexes: str) -> None:
        """Read and write items; who changes items also says so on the bus."""
        self._table.grant_read_write(function.role)
        for index in indexes:
            self._table.grant_index(function.role, index)
        allow(function.role, "events:PutEvents", on=[self._bus.event_bus_arn])
        function.set(STIX_EVENT_BUS=self._bus.event_bus_name)

    def _use_objects(self, function: WorkerFunction, *actions: str) -> None:
        self._objects.grant(function.role, *actions)
        self._objects.grant_list(function.role)
        function.set(STIX_OBJECTS_BUCKET=self._objects.bucket.bucket_name)

    def _use_secrets(self, function: WorkerFunction, *actions: str) -> None:
        self._secrets.grant(function.role, *actions)
        if "s3:GetObject" in actions:
            self._secrets.grant_list(function.role)
        function.set(STIX_SECRETS_BUCKET=self._secrets.bucket.bucket_name)

    def _start(self, function: WorkerFunction, *machines: str) -> None:
        prefix = arn_prefix(self._deployment)
        allow(function.role, "states:StartExecution", on=[f"{prefix}{name}" for name in machines])
        function.set(STIX_STATE_MACHINE_ARN_PREFIX=prefix)

    def _answer(self, function: WorkerFunction, machines: list[str]) -> None:
        """Answer the task tokens of runs."""
        prefix = arn_prefix(self._deployment)
        allow(
            function.role,
            *("states:SendTaskSuccess", "states:SendTaskFailure", "states:SendTaskHeartbeat"),
            on=[f"{prefix}{name}" for name in machines],
        )
        function.set(STIX_STATE_MACHINE_ARN_PREFIX=prefix)

    def _wake_nodes(self, function: WorkerFunction) -> None:
        self._wake.grant_post(function.role)
        function.set(STIX_WAKE_ENDPOINT=self._wake.management_url)

    def _export(self) -> None:
        """What ``stix api login`` reads. Output names are part of its contract."""
        outputs = {
            "ApiUrl": (self._http.url, "Where the command line sends its requests."),
            "WakeUrl": (self._wake.url, "Where the nodes' wake channel connects."),
            "TableName": (
                self._table.table.table_name,
                "The table; its first token item is written by an admin.",
            ),
            "ObjectsBucket": (self._objects.bucket.bucket_name, "Uploads, plans and logs."),
            "SecretsBucket": (
                self._secrets.bucket.bucket_name,
                "A cloud's key, where it needs one, is its object clouds/CLOUD.json.",
            ),
            "Deployment": (deployment_id(self._deployment), "What stands on the tags of its machines."),
        }
        for name, (value, description) in outputs.items():
            CfnOutput(self, name, value=value, description=description)
