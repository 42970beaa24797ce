"""AWS for one test: the real adapter and SDK against EC2 on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from stix.adapters.system import SystemClock
from stix.clouds.aws.compute import AwsCompute, connect
from stix.clouds.aws.errors import REFUSALS
from stix.model.errors import ProviderError
from stix.ports.compute import GangRequest, Place
from tests.contract.cloud_world import CloudWorld
from tests.providers.aws.server import AwsServer
from tests.providers.faults import Kind

REGION = "us-east-1"


class World(CloudWorld):
    place = Place("aws", REGION)
    shape: ClassVar[Mapping[str, Any]] = {
        "instance_type": "m5.large",
        "price": 0.1,
        "vcpus": 2,
        "memory_gib": 8,
    }
    refusals: ClassVar[Mapping[str, type[ProviderError]]] = REFUSALS

    def __init__(self, folder: Path) -> None:
        self._environment = pytest.MonkeyPatch()
        self._environment.setenv("AWS_ACCESS_KEY_ID", "test")
        self._environment.setenv("AWS_SECRET_ACCESS_KEY", "test")
        self._environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
        self.server = AwsServer()

    def compute(self, *, deployment: str = "dep") -> AwsCompute:
        return connect({"endpoint_url": self.server.url}, deployment=deployment, clock=SystemClock())

    def greedy_request(self, token: str) -> GangRequest:
        self.server.room = 2
        return self.request(token, 3)

    def capacity(self, machines: int) -> None:
        self.server.room = machines

    def refuse(self, code: str) -> None:
        self.server.faults.add(Kind.REFUSE, "CreateFleet", code=code)

    def lose_answer(self) -> None:
        self.server.faults.add(Kind.LOSE_ANSWER, "CreateFleet")

    def deliver_twice(self) -> None:
        self.server.faults.add(Kind.TWICE, "CreateFleet")

    def short_pages(self, size: int) -> None:
        # EC2 takes pages of 5 and more; the server cuts them shorter still, as EC2 may.
        self.server.page_size = max(5, size) if size > 2 else 2

    def add_machines(self, count: int, *, deployment: str) -> None:
        self.server.page_size = 100
        self.server.client("ec2").run_instances(
            ImageId="ami-12c6146b",
            InstanceType="m5.large",
            MinCount=count,
            MaxCount=count,
            TagSpecifications=[
                {
                    "ResourceType": "instance",
                    "Tags": [
                        {"Key": "stix-deployment", "Value": deployment},
                        {"Key": "stix-intent", "Value": "x"},
                    ],
                }
            ],
        )

    def preempt(self, machine_id: str) -> None:
        self.server.preempt(machine_id)

    def announce_preemption(self, machine_id: str) -> str:
        return self.server.announce_preemption(machine_id)

    def disks(self, machine_id: str) -> set[str]:
        filters = [{"Name": "attachment.instance-id", "Values": [machine_id]}]
        volumes = self.server.client("ec2").describe_volumes(Filters=filters)["Volumes"]
        return {volume["VolumeId"] for volume in volumes}

    def leftovers(self) -> list[str]:
        ec2 = self.server.client("ec2")
        templates = [one["LaunchTemplateName"] for one in ec2.describe_launch_templates()["LaunchTemplates"]]
        groups = [one["GroupName"] for one in ec2.describe_security_groups()["SecurityGroups"]]
        # The deployment's own group stays: it costs nothing and the next gang needs it.
        return templates + [name for name in groups if name.startswith("stix-") and len(name) == 37]

    def settle(self) -> None:
        self.server.settle()

    def close(self) -> None:
        self.server.close()
        self._environment.undo()
        assert self.server.violations == []
