"""``AwsCompute``: the cloud ``aws``."""

from __future__ import annotations

import base64
import calendar
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from stix.clouds.aws.errors import refusal, translated
from stix.clouds.aws.facts import is_arm
from stix.clouds.aws.network import Network, close_ports, network_of, open_ports
from stix.clouds.aws.quotas import quotas_of
from stix.clouds.aws.settings import AwsCloud, from_config
from stix.clouds.bootstrap import boot_script
from stix.model.errors import (
    CredentialsError,
    InvalidRequestError,
    NoCapacityError,
    NotYetTerminatedError,
    ProviderError,
    QuotaExceededError,
    StixError,
    ThrottledError,
)
from stix.ports.compute import GangRequest, Machine, MachineState, Place, Quota
from stix.ports.surroundings import Clock

__all__ = ["AwsCompute", "connect"]

_STATES = {
    "pending": MachineState.PENDING,
    "running": MachineState.RUNNING,
    "stopping": MachineState.STOPPING,
    "stopped": MachineState.STOPPED,
    "shutting-down": MachineState.TERMINATING,
    "terminated": MachineState.TERMINATED,
}
_TRANSITION = re.compile(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:GMT|UTC)\)")
_PREEMPTED = "Server.SpotInstanceTermination"
_ALIVE = [state for state in _STATES if state != "terminated"]
_IMAGE = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-{arch}"
_ACCELERATED_IMAGE = (
    "/aws/service/deeplearning/ami/{arch}/base-oss-nvidia-driver-gpu-amazon-linux-2023/latest/ami-id"
)
_DISKS: Mapping[str, dict[str, Any]] = {
    "": {"VolumeType": "gp3"},
    "low": {"VolumeType": "gp3"},
    "medium": {"VolumeType": "gp3", "Iops": 6000, "Throughput": 250},
    "high": {"VolumeType": "gp3", "Iops": 12000, "Throughput": 500},
    "ultra": {"VolumeType": "gp3", "Iops": 16000, "Throughput": 1000},
    "best": {"VolumeType": "gp3", "Iops": 16000, "Throughput": 1000},
}
_DISK_GIB = 256
"""As SkyPilot's default: CUDA images and a model fit."""
_PAGE = 1000
_TELLING = (CredentialsError, InvalidRequestError, QuotaExceededError, NoCapacityError)


def connect(config: Mapping[str, Any], *, deployment: str, clock: Clock) -> AwsCompute:
    """No request is sent."""
    return AwsCompute(from_config(config), deployment=deployment)


class AwsCompute:
    """Implements ``Compute``, ``StopsMachines``, ``HoldsMore`` and ``ReportsQuotas``. A gang is one instant
    fleet.

    A fleet takes one zone for the whole gang, any of the region's where the offer names none, and starts all
    machines or none. Its launch template and, where ports are opened, its security group carry the token as
    their name and go with ``release``.
    """

    cloud = "aws"

    def __init__(self, settings: AwsCloud, *, deployment: str) -> None:
        self._settings = settings
        self._deployment = deployment
        self._lock = threading.Lock()
        self._session: Any = None
        self._clients: dict[tuple[str, str, int], Any] = {}
        self._networks: dict[str, Network] = {}
        self._images: dict[tuple[str, bool, bool], str] = {}

    # --- Compute ---

    def create(self, request: GangRequest) -> list[str]:
        offer = request.offer
        if offer.cloud != self.cloud or request.count < 1:
            raise InvalidRequestError(f"{request.count} machines of {offer.place!r} cannot be made by aws.")
        network = self._network(offer.region)
        subnets = {zone: net for zone, net in network.subnets.items() if offer.zone in ("", zone)}
        if not subnets:
            raise NoCapacityError(
                f"The VPC {network.vpc} has no subnet in {offer.zone}.", provider_code="NoSubnet"
            )
        place = Place(self.cloud, offer.region)
        try:
            self._make_template(request, network)
            return self._make_fleet(request, place, subnets)
        except ThrottledError:
            raise
        except ProviderError as error:
            if error.provider_code == "IdempotentParameterMismatch":
                raise  # The token's first gang lives.
            # Refused: the attempt is over. What cannot be deleted yet (a group that ending machines still
            # have) costs nothing.
            with suppress(StixError):
                self.release(place, request.token)
            raise

    def _make_fleet(self, request: GangRequest, place: Place, subnets: Mapping[str, str]) -> list[str]:
        with translated():
            # Sent once: a repetition by the SDK would hide that the outcome of the first is unknown.
            answer = self._client("ec2", place.region, attempts=1).create_fleet(**_fleet(request, subnets))
        ids = [str(one) for group in answer.get("Instances") or () for one in group["InstanceIds"]]
        if len(ids) == request.count:
            return ids
        if ids:
            self.terminate(place, ids)
        raise _why(answer.get("Errors") or (), len(ids), request.count)

    def describe(self, place: Place, machine_ids: Sequence[str]) -> list[Machine]:
        known = {
            machine.id: machine
            for start in range(0, len(machine_ids), 200)
            for machine in self._find(
                place.region, [{"Name": "instance-id", "Values": list(machine_ids[start : start + 200])}]
            )
        }
        gone = {
            one: Machine(one, MachineState.TERMINATED, {}, reason="EC2 does not know it")
            for one in machine_ids
        }
        return [known.get(machine_id, gone[machine_id]) for machine_id in machine_ids]

    def terminate(self, place: Place, machine_ids: Sequence[str]) -> None:
        ids = [m.id for m in self.describe(place, machine_ids) if m.state is not MachineState.TERMINATED]
        if ids:
            with translated("InvalidInstanceID.NotFound"):
                self._client("ec2", place.region).terminate_instances(InstanceIds=ids)

    def list_tagged(self, place: Place, deployment: str) -> Iterator[Machine]:
        return self._find(
            place.region,
            [
                {"Name": "tag:stix-deployment", "Values": [deployment]},
                {"Name": "instance-state-name", "Values": _ALIVE},
            ],
        )

    def identity(self) -> str:
        with translated():
            who = self._client("sts", "us-east-1").get_caller_identity()
        return f"{who['Arn']} in account {who['Account']}"

    # --- StopsMachines ---

    def stop(self, place: Place, machine_ids: Sequence[str]) -> None:
        going = (MachineState.PENDING, MachineState.RUNNING)
        ids = [machine.id for machine in self.describe(place, machine_ids) if machine.state in going]
        if ids:
            with translated():
                self._client("ec2", place.region).stop_instances(InstanceIds=ids)

    def start(self, place: Place, machine_ids: Sequence[str]) -> None:
        """A running machine is success. Raises ``NotYetTerminatedError`` while one is still stopping."""
        stopped = []
        for machine in self.describe(place, machine_ids):
            if machine.state in (MachineState.TERMINATING, MachineState.TERMINATED):
                raise InvalidRequestError(f"{machine.id} cannot be started: it was terminated.")
            if machine.state is MachineState.STOPPING:
                raise NotYetTerminatedError(f"{machine.id} cannot be started yet: it is still stopping.")
            if machine.state is MachineState.STOPPED:
                stopped.append(machine.id)
        if stopped:
            with translated():
                self._client("ec2", place.region).start_instances(InstanceIds=stopped)

    # --- ReportsQuotas ---

    def quotas(self, place: Place) -> list[Quota]:
        with translated():
            pages = self._client("service-quotas", place.region).get_paginator("list_service_quotas")
            found = [quota for page in pages.paginate(ServiceCode="ec2") for quota in page["Quotas"]]
        return quotas_of(found)

    # --- HoldsMore ---

    def release(self, place: Place, token: str) -> None:
        ec2 = self._client("ec2", place.region)
        close_ports(ec2, token)
        with translated("InvalidLaunchTemplateName.NotFoundException", "InvalidLaunchTemplateId.NotFound"):
            ec2.delete_launch_template(LaunchTemplateName=_template_name(token))

    # --- parts of a gang ---

    def _make_template(self, request: GangRequest, network: Network) -> None:
        ec2 = self._client("ec2", request.offer.region)
        groups = open_ports(ec2, network, request.token, request.ports, self._deployment)
        data = {
            "ImageId": self._image(request),
            "UserData": base64.b64encode(boot_script(request, self.cloud).encode()).decode(),
            "BlockDeviceMappings": [
                {
                    "DeviceName": "/dev/xvda",
                    "Ebs": {
                        **_DISKS[request.disk_tier],
                        "VolumeSize": request.disk_size_gib or _DISK_GIB,
                        "Encrypted": True,
                        "DeleteOnTermination": True,
                    },
                }
            ],
            "SecurityGroupIds": groups,
            # A machine that powers itself off (its agent cannot join, its cluster is gone) is gone.
            "InstanceInitiatedShutdownBehavior": "terminate",
            "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 2},
            "TagSpecifications": [
                {"ResourceType": kind, "Tags": [{"Key": k, "Value": v} for k, v in request.tags.items()]}
                for kind in ("instance", "volume")
            ],
        }
        if self._settings.instance_profile:
            data["IamInstanceProfile"] = {"Name": self._settings.instance_profile}
        reservation = self._settings.capacity_reservations.get(request.offer.instance_type)
        if reservation and not request.offer.spot:
            target = {"CapacityReservationId": reservation}
            data["CapacityReservationSpecification"] = {"CapacityReservationTarget": target}
        with translated("InvalidLaunchTemplateName.AlreadyExistsException"):
            ec2.create_launch_template(
                LaunchTemplateName=_template_name(request.token),
                LaunchTemplateData=data,
                TagSpecifications=[
                    {
                        "ResourceType": "launch-template",
                        "Tags": [{"Key": "stix-deployment", "Value": self._deployment}],
                    }
                ],
            )

    def _image(self, request: GangRequest) -> str:
        if request.image and not request.image.startswith("docker:"):
            return request.image
        offer = request.offer
        accelerated, arm = bool(offer.accelerator), is_arm(offer.instance_type)
        given = self._settings.accelerated_images if accelerated else self._settings.images
        if offer.region in given:
            return given[offer.region]
        key = (offer.region, accelerated, arm)
        if key not in self._images:
            name = (_ACCELERATED_IMAGE if accelerated else _IMAGE).format(arch="arm64" if arm else "x86_64")
            with translated():
                found = self._client("ssm", offer.region).get_parameter(Name=name)
            self._images[key] = str(found["Parameter"]["Value"])
        return self._images[key]

    def _network(self, region: str) -> Network:
        with self._lock:
            found = self._networks.get(region)
        if found is None:
            found = network_of(
                self._client("ec2", region),
                deployment=self._deployment,
                vpc_id=self._settings.vpc_id.get(region, ""),
            )
            with self._lock:
                self._networks[region] = found
        return found

    def _find(self, region: str, filters: list[dict[str, Any]]) -> Iterator[Machine]:
        with translated():
            pages = self._client("ec2", region).get_paginator("describe_instances")
            # A list by ids may not be cut into pages of a size, and needs none.
            options = {} if filters[0]["Name"] == "instance-id" else {"PaginationConfig": {"PageSize": _PAGE}}
            for page in pages.paginate(Filters=filters, **options):
                for reservation in page["Reservations"]:
                    for instance in reservation["Instances"]:
                        yield _machine(instance)

    def _client(self, service: str, region: str, *, attempts: int = 2) -> Any:
        import botocore.config
        import botocore.session

        key = (service, region, attempts)
        with self._lock:
            if key not in self._clients:
                self._session = self._session or botocore.session.get_session()
                with translated():
                    self._clients[key] = self._session.create_client(
                        service,
                        region_name=region,
                        endpoint_url=self._settings.endpoint_url or None,
                        config=botocore.config.Config(
                            connect_timeout=5,
                            read_timeout=30,
                            retries={"mode": "standard", "total_max_attempts": attempts},
                            user_agent_extra="stix",
                        ),
                    )
            return self._clients[key]


def _template_name(token: str) -> str:
    return f"stix-{token}"


def _fleet(request: GangRequest, subnets: Mapping[str, str]) -> dict[str, Any]:
    offer = request.offer
    together = {
        "SingleAvailabilityZone": True,
        "SingleInstanceType": True,
        "MinTargetCapacity": request.count,
    }
    market = "spot" if offer.spot else "on-demand"
    options = (
        {"SpotOptions": {"AllocationStrategy": "price-capacity-optimized", **together}}
        if offer.spot
        else {"OnDemandOptions": {"AllocationStrategy": "lowest-price", **together}}
    )
    return {
        "Type": "instant",
        "ClientToken": request.token,
        "TargetCapacitySpecification": {
            "TotalTargetCapacity": request.count,
            "DefaultTargetCapacityType": market,
        },
        "LaunchTemplateConfigs": [
            {
                "LaunchTemplateSpecification": {
                    "LaunchTemplateName": _template_name(request.token),
                    "Version": "$Latest",
                },
                "Overrides": [
                    {"InstanceType": offer.instance_type, "SubnetId": subnet}
                    for _, subnet in sorted(subnets.items())
                ],
            }
        ],
        **options,
    }


def _why(errors: Sequence[Mapping[str, Any]], got: int, wanted: int) -> StixError:
    """What a fleet's errors, one or more for each zone, mean together: that which no other zone would heal
    counts first."""
    found = [refusal(str(one.get("ErrorCode")), str(one.get("ErrorMessage", ""))) for one in errors]
    for kind in _TELLING:
        for error in found:
            if isinstance(error, kind):
                return error
    if found:
        return found[0]
    code = "UnfulfillableCapacity"
    return refusal(code, f"{got} of {wanted} machines could be had")


def _moment(words: str) -> float:
    """Of ``User initiated (2026-11-27 07:15:00 GMT)``; 0 where there is none."""
    found = _TRANSITION.search(words)
    return float(calendar.timegm(time.strptime(found.group(1), "%Y-%m-%d %H:%M:%S"))) if found else 0.0


def _machine(instance: Mapping[str, Any]) -> Machine:
    state = _STATES[instance["State"]["Name"]]
    reason = instance.get("StateReason") or {}
    code = str(reason.get("Code", ""))
    ended = state not in (MachineState.PENDING, MachineState.RUNNING)
    return Machine(
        id=str(instance["InstanceId"]),
        state=state,
        tags={str(tag["Key"]): str(tag["Value"]) for tag in instance.get("Tags") or ()},
        address=str(instance.get("PrivateIpAddress") or ""),
        reason=f"{code}: {reason.get('Message', '')}" if ended and code else "",
        public_address=str(instance.get("PublicIpAddress") or ""),
        zone=str(instance["Placement"]["AvailabilityZone"]),
        preempted=code == _PREEMPTED,
        ended_at=_moment(str(instance.get("StateTransitionReason") or "")) if ended else 0.0,
    )
