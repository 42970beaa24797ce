"""Findings of the rule packs that are accepted, each with its reason, next to the thing that it is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aws_cdk import Acknowledgment, Stack, Validations
from aws_cdk import aws_iam as iam
from constructs import IConstruct

__all__ = ["acknowledge", "allow"]


def acknowledge(scope: IConstruct, reasons: Mapping[str, str]) -> None:
    """Accept findings on ``scope`` and everything below it; ``reasons`` maps the rule's id to why."""
    Validations.of(scope).acknowledge(
        *(Acknowledgment(id=rule, reason=reason) for rule, reason in reasons.items())
    )


def allow(role: iam.IRole, *actions: str, on: list[str], wildcard: str = "") -> None:
    """Add a statement to the role. A resource with ``*`` in it needs a reason, ``wildcard``."""
    role.add_to_principal_policy(iam.PolicyStatement(actions=list(actions), resources=on))
    if wildcard:
        patterns = [_readable(Stack.of(role).resolve(resource)) for resource in on]
        acknowledge(role, {f"AwsSolutions-IAM5[Resource::{pattern}]": wildcard for pattern in patterns})


def _readable(resolved: Any) -> str:
    """A resolved string as the rule packs spell it: references in angle brackets."""
    if isinstance(resolved, str):
        return resolved
    match resolved:
        case {"Ref": name}:
            return f"<{name}>"
        case {"Fn::GetAtt": [name, attribute]}:
            return f"<{name}.{attribute}>"
        case {"Fn::Join": [separator, parts]}:
            return str(separator).join(_readable(part) for part in parts)
    raise TypeError(f"not a reference: {resolved!r}")
