"""The first token of a deployment: whoever may write its table may make one."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Any

from stix.adapters.aws_client import create_client, error_code
from stix.adapters.dynamodb import DynamoStateStore
from stix.application.tokens import write_user_token
from stix.model.errors import NotFoundError, UnavailableError

__all__ = ["StackOutputs", "make_token", "read_outputs"]


@dataclass(frozen=True, slots=True)
class StackOutputs:
    """What the stack says of itself."""

    api_url: str
    table: str
    deployment: str


def read_outputs(stack: str, client: Any = None) -> StackOutputs:
    """The outputs of a deployed stack, with the caller's own credentials and region.

    Raises ``NotFoundError`` for no such stack or one that is not a control plane, ``UnavailableError``.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        formation = create_client("cloudformation") if client is None else client
        found = formation.describe_stacks(StackName=stack)["Stacks"][0]
    except ClientError as error:
        if error_code(error) == "ValidationError":
            raise NotFoundError(
                f"There is no stack {stack!r} in this account and region.",
                hint="Check AWS_PROFILE and AWS_REGION, or deploy it with `stix deploy`.",
                code="stack_not_found",
            ) from error
        raise UnavailableError(f"AWS refused to describe the stack: {error}") from error
    except BotoCoreError as error:
        hint = "Set AWS credentials and AWS_REGION."
        raise UnavailableError(
            f"AWS cannot be asked for the stack: {str(error).rstrip('.')}.", hint=hint
        ) from error
    outputs = {entry["OutputKey"]: entry["OutputValue"] for entry in found.get("Outputs", ())}
    try:
        return StackOutputs(outputs["ApiUrl"].rstrip("/"), outputs["TableName"], outputs["Deployment"])
    except KeyError as missing:
        raise NotFoundError(
            f"The stack {stack!r} has no output {missing}.",
            hint="Name the stack of a Stix control plane; its name is the deployment's.",
            code="stack_not_found",
        ) from None


def make_token(outputs: StackOutputs, *, user: str, workspace: str, client: Any = None) -> str:
    """A new token for ``user``; the deployment's table gets its hash, the token itself is kept nowhere."""
    token = secrets.token_urlsafe(32)
    store = DynamoStateStore(outputs.table, client)
    write_user_token(store, token=token, workspace=workspace, user=user, now=time.time())
    return token
