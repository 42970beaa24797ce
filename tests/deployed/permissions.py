"""What the roles of the deployed stack may do, held against every request that a function really sends.

Actions and resources are compared, conditions are not: those that EC2's statements carry bind what its test
server does not know.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, unquote

__all__ = ["Permissions", "Wish", "role_of", "tasks", "wishes"]

Wish = tuple[str, str]
"""An action, and the ARN that it is for; ``*`` where the request does not say."""

_ALWAYS = frozenset({"sts:GetCallerIdentity"})
_WRITES = {
    "Put": "PutItem",
    "Update": "UpdateItem",
    "Delete": "DeleteItem",
    "ConditionCheck": "ConditionCheckItem",
}
_OBJECT = {"GET": "GetObject", "HEAD": "GetObject", "PUT": "PutObject", "DELETE": "DeleteObject"}


class Permissions:
    """Of the account's roles, by name. ``refused`` are the wishes that no policy grants, by role."""

    def __init__(self, iam: Any) -> None:
        self._iam = iam
        self._statements: dict[str, list[Mapping[str, Any]]] = {}
        self.refused: list[tuple[str, Wish]] = []

    def allow(self, role: str, wish: Wish) -> bool:
        """Whether one of the role's policies grants it; if not, it is remembered."""
        granted = wish[0] in _ALWAYS or any(_grants(one, wish) for one in self._of(role))
        if not granted:
            self.refused.append((role, wish))
        return granted

    def _of(self, role: str) -> list[Mapping[str, Any]]:
        if role not in self._statements:
            found: list[Mapping[str, Any]] = []
            for name in self._iam.list_role_policies(RoleName=role)["PolicyNames"]:
                policy = self._iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
                found += policy["Statement"]
            self._statements[role] = found
        return self._statements[role]


def _grants(statement: Mapping[str, Any], wish: Wish) -> bool:
    action, resource = wish
    assert statement["Effect"] == "Allow", statement
    return any(fnmatch.fnmatchcase(action, one) for one in _several(statement["Action"])) and (
        resource == "*" or any(fnmatch.fnmatchcase(resource, one) for one in _several(statement["Resource"]))
    )


def _several(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def wishes(environ: Mapping[str, Any], body: bytes, *, account: str, region: str) -> list[Wish]:
    """What a request to AWS's services asks for. An unknown kind of request is an ``AssertionError``."""
    target = str(environ.get("HTTP_X_AMZ_TARGET", ""))
    service = _service(environ)
    where = f"{region}:{account}"
    if service == "dynamodb":
        return list(_of_table(target.rpartition(".")[2], json.loads(body), where))
    if service == "states":
        arn = json.loads(body).get("stateMachineArn", "*")
        return [(f"states:{target.rpartition('.')[2]}", arn)]
    if service == "events":
        buses = {one["EventBusName"] for one in json.loads(body)["Entries"]}
        return [("events:PutEvents", f"arn:aws:events:{where}:event-bus/{bus}") for bus in sorted(buses)]
    if service == "lambda":
        function = unquote(environ["PATH_INFO"].split("/functions/")[1].split("/")[0])
        return [("lambda:InvokeFunction", function)]
    if service == "s3":
        return [_of_bucket(environ)]
    if service == "ssm":
        name = json.loads(body)["Name"]
        return [(f"ssm:{target.rpartition('.')[2]}", f"arn:aws:ssm:{region}::parameter{name}")]
    if target:
        return [(f"{service}:{target.rpartition('.')[2]}", "*")]
    (action,) = parse_qs(body.decode())["Action"]
    return [(f"{service}:{action}", "*")]


def _service(environ: Mapping[str, Any]) -> str:
    """From the signature's scope, in the header or in a signed URL."""
    signature = str(environ.get("HTTP_AUTHORIZATION", ""))
    if not signature:
        signature = parse_qs(environ["QUERY_STRING"])["X-Amz-Credential"][0]
    return signature.split("Credential=")[-1].split("/")[3]


def _of_table(operation: str, request: Mapping[str, Any], where: str) -> Iterator[Wish]:
    def table(name: str) -> str:
        return f"arn:aws:dynamodb:{where}:table/{name}"

    if operation == "TransactWriteItems":
        for part in request["TransactItems"]:
            ((kind, item),) = part.items()
            yield f"dynamodb:{_WRITES[kind]}", table(item["TableName"])
    elif operation.startswith("Batch"):
        for name in request["RequestItems"]:
            yield f"dynamodb:{operation}", table(name)
    else:
        index = f"/index/{request['IndexName']}" if "IndexName" in request else ""
        yield f"dynamodb:{operation}", table(request["TableName"]) + index


def _of_bucket(environ: Mapping[str, Any]) -> Wish:
    bucket, _, key = str(environ["PATH_INFO"]).lstrip("/").partition("/")
    if not key:
        return "s3:ListBucket", f"arn:aws:s3:::{bucket}"
    return f"s3:{_OBJECT[environ['REQUEST_METHOD']]}", f"arn:aws:s3:::{bucket}/{key}"


def role_of(environ: Mapping[str, Any]) -> str:
    """The role whose credentials a request was signed with; empty for people and for the account itself."""
    token = str(environ.get("HTTP_X_AMZ_SECURITY_TOKEN", ""))
    if not token:
        (token,) = parse_qs(str(environ.get("QUERY_STRING", ""))).get("X-Amz-Security-Token", [""])
    return token


def tasks(definition: str) -> Iterable[str]:
    """ARNs of the functions that a state machine's definition calls."""

    def states(machine: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        for state in machine["States"].values():
            yield state
            for inner in (*state.get("Branches", ()), *filter(None, [state.get("ItemProcessor")])):
                yield from states(inner)

    for state in states(json.loads(definition)):
        if state["Type"] == "Task" and "FunctionName" in state.get("Parameters", {}):
            yield str(state["Parameters"]["FunctionName"])
