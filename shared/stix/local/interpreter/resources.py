"""What a Task's Resource means: which integration, which pattern, which function."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .paths import PathSyntaxError
from .states import Integration, Pattern

__all__ = ["function_name", "machine_name", "parse_resource"]

_SERVICE = re.compile(r"arn:aws[a-z-]*:states:[^:]*:[^:]*:(lambda:invoke|states:startExecution)(\.\S+)?")
_FUNCTION = re.compile(r"arn:aws[a-z-]*:lambda:[^:]*:[^:]*:function:([A-Za-z0-9_-]+)(?::[A-Za-z0-9_$-]+)?")
_PATTERNS: dict[str, dict[str, Pattern]] = {
    "lambda:invoke": {"": "request", ".waitForTaskToken": "token"},
    "states:startExecution": {
        "": "request",
        ".sync": "sync",
        ".sync:2": "sync2",
        ".waitForTaskToken": "token",
    },
}


def function_name(reference: str) -> str:
    """The bare name of a function given by ARN (any version or alias) or by name."""
    match = _FUNCTION.fullmatch(reference)
    return match.group(1) if match else reference


def machine_name(reference: str) -> str:
    """The bare name of a state machine given by ARN or by name."""
    return reference.rsplit(":stateMachine:", 1)[-1]


def parse_resource(raw: Mapping[str, Any]) -> tuple[Integration, Pattern, str]:
    """Raises ``PathSyntaxError`` for what does not run embedded."""
    resource = raw.get("Resource")
    if not isinstance(resource, str):
        raise PathSyntaxError(f"a Task needs a Resource, not {resource!r}")
    match = _SERVICE.fullmatch(resource)
    if match is None:
        if resource.startswith("arn:") and not _FUNCTION.fullmatch(resource):
            raise PathSyntaxError(
                f"the Resource {resource!r} is not supported; "
                "use lambda:invoke, a function or states:startExecution"
            )
        return "function", "request", function_name(resource)
    service, suffix = match.group(1), match.group(2) or ""
    if suffix not in _PATTERNS[service]:
        raise PathSyntaxError(f"{service} has no pattern {suffix!r}; it has {', '.join(_PATTERNS[service])}")
    parameters = raw.get("Parameters")
    required = "FunctionName" if service == "lambda:invoke" else "StateMachineArn"
    if not isinstance(parameters, Mapping) or not {required, f"{required}.$"} & set(parameters):
        raise PathSyntaxError(f"{service} needs {required} in its Parameters")
    if parameters.get("InvocationType", "RequestResponse") != "RequestResponse":
        raise PathSyntaxError("the InvocationType of lambda:invoke must be RequestResponse")
    return ("invoke" if service == "lambda:invoke" else "execution"), _PATTERNS[service][suffix], ""
