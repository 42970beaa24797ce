"""The network that machines are made in: the account's own where it has one, else ours. All idempotent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stix.clouds.aws.errors import translated
from stix.model.errors import InvalidRequestError, NotYetTerminatedError

__all__ = ["Network", "close_ports", "network_of", "open_ports"]

_DEPLOYMENT = "stix-deployment"


@dataclass(frozen=True, slots=True)
class Network:
    """``subnets``: one for each zone that has any, by zone. ``group`` lets machines of the deployment reach
    each other, and nobody else in."""

    vpc: str
    subnets: Mapping[str, str]
    group: str


def network_of(ec2: Any, *, deployment: str, vpc_id: str) -> Network:
    """Found, or made where nothing is there. Raises ``ProviderError``."""
    with translated():
        vpc = vpc_id or _find_vpc(ec2, deployment) or _make_vpc(ec2, deployment)
        pages = ec2.get_paginator("describe_subnets").paginate(Filters=_filter("vpc-id", vpc))
        subnets: dict[str, str] = {}
        for page in pages:
            for subnet in sorted(page["Subnets"], key=lambda one: str(one["SubnetId"])):
                # Of several in a zone those that give public addresses: machines call out.
                if subnet["MapPublicIpOnLaunch"] or subnet["AvailabilityZone"] not in subnets:
                    subnets[subnet["AvailabilityZone"]] = subnet["SubnetId"]
        if not subnets:
            raise InvalidRequestError(
                f"The VPC {vpc} has no subnet.", hint="Give it one, or name another in clouds.aws.vpc_id."
            )
        group = _group(ec2, vpc, f"stix-{deployment}", deployment, "Machines reach each other.")
        with translated("InvalidPermission.Duplicate"):
            ec2.authorize_security_group_ingress(
                GroupId=group, IpPermissions=[{"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]}]
            )
    return Network(vpc, subnets, group)


def open_ports(ec2: Any, network: Network, token: str, ports: Sequence[str], deployment: str) -> list[str]:
    """The groups of a gang: the deployment's, and one that opens its ports to the world if it has any."""
    if not ports:
        return [network.group]
    with translated():
        group = _group(ec2, network.vpc, f"stix-{token}", deployment, "Ports that a cluster opens.")
        for port in ports:
            first, _, last = port.partition("-")
            permission = {
                "IpProtocol": "tcp",
                "FromPort": int(first),
                "ToPort": int(last or first),
                "IpRanges": [{"CidrIp": "0.0.0.0/0"}],
                "Ipv6Ranges": [{"CidrIpv6": "::/0"}],
            }
            with translated("InvalidPermission.Duplicate"):
                ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[permission])
    return [network.group, group]


def close_ports(ec2: Any, token: str) -> None:
    """Delete the gang's own group. Raises ``NotYetTerminatedError`` while a machine still has it."""
    with translated():
        groups = ec2.describe_security_groups(Filters=_filter("group-name", f"stix-{token}"))[
            "SecurityGroups"
        ]
    for group in groups:
        try:
            with translated("InvalidGroup.NotFound"):
                ec2.delete_security_group(GroupId=group["GroupId"])
        except InvalidRequestError as error:
            if error.provider_code not in ("DependencyViolation", "InvalidGroup.InUse"):
                raise
            raise NotYetTerminatedError(error.message) from error


def _find_vpc(ec2: Any, deployment: str) -> str:
    for filters in (_filter("is-default", "true"), _filter(f"tag:{_DEPLOYMENT}", deployment)):
        found = ec2.describe_vpcs(Filters=filters)["Vpcs"]
        if found:
            return str(sorted(one["VpcId"] for one in found)[0])
    return ""


def _make_vpc(ec2: Any, deployment: str) -> str:
    """A VPC of ours with a public subnet in every zone. A call that was cut off leaves parts, which cost
    nothing; the tag finds the VPC again."""
    vpc = str(
        ec2.create_vpc(CidrBlock="10.42.0.0/16", TagSpecifications=_tags("vpc", deployment))["Vpc"]["VpcId"]
    )
    gateway = ec2.create_internet_gateway(TagSpecifications=_tags("internet-gateway", deployment))
    gateway_id = gateway["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway_id, VpcId=vpc)
    tables = ec2.describe_route_tables(Filters=_filter("vpc-id", vpc))["RouteTables"]
    ec2.create_route(
        RouteTableId=tables[0]["RouteTableId"], DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway_id
    )
    zones = ec2.describe_availability_zones(Filters=_filter("zone-type", "availability-zone"))
    for number, zone in enumerate(zones["AvailabilityZones"]):
        subnet = ec2.create_subnet(
            VpcId=vpc,
            CidrBlock=f"10.42.{16 * number}.0/20",
            AvailabilityZone=zone["ZoneName"],
            TagSpecifications=_tags("subnet", deployment),
        )["Subnet"]["SubnetId"]
        ec2.modify_subnet_attribute(SubnetId=subnet, MapPublicIpOnLaunch={"Value": True})
    return vpc


def _group(ec2: Any, vpc: str, name: str, deployment: str, description: str) -> str:
    filters = [*_filter("group-name", name), *_filter("vpc-id", vpc)]
    found = ec2.describe_security_groups(Filters=filters)["SecurityGroups"]
    if not found:
        with translated("InvalidGroup.Duplicate"):
            made = ec2.create_security_group(
                GroupName=name,
                VpcId=vpc,
                Description=description,
                TagSpecifications=_tags("security-group", deployment),
            )
            return str(made["GroupId"])
        found = ec2.describe_security_groups(Filters=filters)["SecurityGroups"]
    return str(found[0]["GroupId"])


def _filter(name: str, value: str) -> list[dict[str, Any]]:
    return [{"Name": name, "Values": [value]}]


def _tags(kind: str, deployment: str) -> list[dict[str, Any]]:
    return [{"ResourceType": kind, "Tags": [{"Key": _DEPLOYMENT, "Value": deployment}]}]
