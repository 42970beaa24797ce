"""The AWS account that a deployment goes to, asked with the operator's own credentials."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stix.adapters.aws_client import create_client, error_code, new_session, translated
from stix.adapters.dynamodb import DynamoStateStore
from stix.deployment.first_token import StackOutputs
from stix.model.cluster import Cluster, Tombstone
from stix.model.errors import InvalidInputError
from stix.ports.state_store import SHARDS

__all__ = ["Account", "account", "is_bootstrapped", "unfinished"]

_BOOTSTRAP = "/cdk-bootstrap/hnb659fds/version"
"""Where `cdk bootstrap` with CDK's default qualifier says which version it made."""
_FAR = 1e11
"""Seconds; later than any date by which an item must be looked at."""


@dataclass(frozen=True, slots=True)
class Account:
    id: str
    region: str
    caller: str


def account() -> Account:
    """Raises ``InvalidInputError`` without a region, ``UnavailableError`` without usable credentials."""
    region = new_session().get_config_variable("region")
    if not region:
        raise InvalidInputError(
            "No AWS region is set.", hint="Set AWS_REGION, for example: AWS_REGION=eu-central-1 stix deploy"
        )
    with translated("AWS account"):
        who = create_client("sts").get_caller_identity()
    return Account(str(who["Account"]), str(region), str(who["Arn"]))


def is_bootstrapped(client: Any = None) -> bool:
    """Whether CDK's bucket and roles exist in this account and region."""
    from botocore.exceptions import ClientError

    ssm = client or create_client("ssm")
    with translated("CDK bootstrap version"):
        try:
            ssm.get_parameter(Name=_BOOTSTRAP)
        except ClientError as error:
            if error_code(error) != "ParameterNotFound":
                raise
            return False
    return True


def unfinished(outputs: StackOutputs, client: Any = None) -> list[str]:
    """Names of the clusters that have not ended, and of forgotten ones that are still watched."""
    store = DynamoStateStore(outputs.table, client)
    names: set[str] = set()
    for kind in (Cluster.kind, Tombstone.kind):
        for shard in range(SHARDS):
            for entry in store.due(kind, shard, _FAR):
                item = store.get(entry.key)
                if item is not None and item.live:
                    names.add(str(item.body.get("name") or item.key.id))
    return sorted(names)
