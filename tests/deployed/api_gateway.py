"""API Gateway's APIs as they are deployed: routes, integrations, authorizers, and who may invoke whom."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.deployed.runtime_api import Outcome

__all__ = [
    "Api",
    "Authorizer",
    "InvokeAs",
    "NotPermittedError",
    "Route",
    "context_of_policy",
    "is_permitted",
    "read_apis",
]

InvokeAs = Callable[[str, bytes, str, str], Outcome]
"""Function's ARN, payload, service's principal, source ARN -> outcome; raises ``NotPermittedError``."""
_FUNCTION = re.compile(r"arn:aws:lambda:[^/]+")


class NotPermittedError(Exception):
    """The function's own policy does not let the caller invoke it."""


@dataclass(frozen=True, slots=True)
class Authorizer:
    id: str
    function: str
    seconds: int
    """For how long a decision is kept."""
    identity: str
    """Name of the header that says who asks."""


@dataclass(frozen=True, slots=True)
class Route:
    key: str
    function: str
    authorizer: Authorizer | None

    def source(self, api: str, stage: str, region: str, account: str) -> str:
        method, _, path = self.key.partition(" ")
        what = f"{method}{path}" if path else method
        return f"arn:aws:execute-api:{region}:{account}:{api}/{stage}/{what}"


@dataclass(frozen=True, slots=True)
class Api:
    id: str
    protocol: str
    stage: str
    routes: Mapping[str, Route]


def read_apis(client: Any) -> dict[str, Api]:
    """Every API that is deployed, by its id; ``client`` is the service's own."""
    found = {}
    for api in client.get_apis()["Items"]:
        api_id = api["ApiId"]
        (stage,) = client.get_stages(ApiId=api_id)["Items"]
        integrations = {one["IntegrationId"]: one for one in client.get_integrations(ApiId=api_id)["Items"]}
        routes = {}
        for route in client.get_routes(ApiId=api_id)["Items"]:
            integration = integrations[route["Target"].removeprefix("integrations/")]
            assert integration["IntegrationType"] == "AWS_PROXY", integration
            authorizer = None
            if route["AuthorizationType"] == "CUSTOM":
                authorizer = _authorizer(client, api_id, route["AuthorizerId"])
            function = _function(integration["IntegrationUri"])
            routes[route["RouteKey"]] = Route(route["RouteKey"], function, authorizer)
        found[api_id] = Api(api_id, api["ProtocolType"], stage["StageName"], routes)
    return found


def _authorizer(client: Any, api_id: str, authorizer_id: str) -> Authorizer:
    told = client.get_authorizer(ApiId=api_id, AuthorizerId=authorizer_id)
    assert told["AuthorizerType"] == "REQUEST", told
    (source,) = told["IdentitySource"]
    header = re.fullmatch(r"(?:\$|route\.)request\.header\.(\S+)", source)
    assert header is not None, source
    return Authorizer(
        authorizer_id,
        _function(told["AuthorizerUri"]),
        int(told.get("AuthorizerResultTtlInSeconds", 0)),
        header.group(1),
    )


def _function(uri: str) -> str:
    """The ARN of an alias or version, alone or within API Gateway's own kind of URI."""
    found = _FUNCTION.findall(uri.removeprefix("arn:aws:apigateway:"))
    assert len(found) == 1, uri
    return str(found[0])


def is_permitted(statements: Iterable[Mapping[str, Any]], function: str, service: str, source: str) -> bool:
    """Whether the function's resource policy lets the service invoke it on behalf of ``source``."""
    for statement in statements:
        like = statement["Condition"]["ArnLike"]["AWS:SourceArn"]
        if (
            statement["Resource"] == function
            and statement["Action"] == "lambda:InvokeFunction"
            and statement["Principal"] == {"Service": service}
            and fnmatch.fnmatchcase(source, like)
        ):
            return True
    return False


def context_of_policy(answer: Any, arn: str) -> dict[str, str] | None:
    """What an authorizer of the IAM kind says of the caller, None where its policy denies the call."""
    allowed = False
    for statement in answer["policyDocument"]["Statement"]:
        resources = statement["Resource"]
        resources = [resources] if isinstance(resources, str) else resources
        if statement["Action"] == "execute-api:Invoke" and any(
            fnmatch.fnmatchcase(arn, one) for one in resources
        ):
            if statement["Effect"] == "Deny":
                return None
            allowed = True
    if not allowed:
        return None
    # Whatever it was, it arrives as text.
    told = {key: json.dumps(value).strip('"') for key, value in (answer.get("context") or {}).items()}
    return {**told, "principalId": answer["principalId"]}
