"""Resource Manager's requests and replies. Both are held to the SDK's models; every call takes the rights
that Azure's own documentation names for it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import azure.mgmt.compute.models as compute_models
import azure.mgmt.resource.deployments.models as deployment_models
import azure.mgmt.resource.resources.models as resource_models

from tests.providers.azure import template as templates
from tests.providers.azure.shapes import violations
from tests.providers.azure.state import LATER, Cloud, Group, machine_shown
from tests.providers.faults import Faults, Kind

# What Azure says of a deployment at once, by status; everything else that is not found out later stands below
# the details of an invalid template.
_DIRECT = {
    "AuthenticationFailed": 401,
    "AuthorizationFailed": 403,
    "BadRequest": 400,
    "ExpiredAuthenticationToken": 401,
    "InternalServerError": 500,
    "InvalidAuthenticationToken": 401,
    "InvalidAuthenticationTokenTenant": 401,
    "InvalidTemplate": 400,
    "LinkedAuthorizationFailed": 403,
    "ReadOnlyDisabledSubscription": 409,
    "RequestDisallowedByAzure": 403,
    "RequestDisallowedByPolicy": 403,
    "ResourceGroupBeingDeleted": 409,
    "SubscriptionNotFound": 404,
    "SubscriptionRequestsThrottled": 429,
    "TooManyRequests": 429,
}
_QUOTAS = ("QuotaExceeded", "OperationNotAllowed", "ResourceQuotaExceeded")


@dataclass
class Reply:
    """``lost``: the connection breaks instead."""

    status: int
    body: Any = None
    lost: bool = False


class Routes:
    """``calls``: the actions that were taken; ``allowed``: those that the role has."""

    def __init__(self, cloud: Cloud, faults: Faults, allowed: Iterable[str]) -> None:
        self.cloud = cloud
        self.faults = faults
        self.allowed = frozenset(allowed)
        self.calls: list[str] = []
        self.violations: list[str] = []
        self.page_size: int | None = None
        self.refusing: list[tuple[str, str]] = []

    def answer(self, method: str, parts: list[str], query: dict[str, str], body: Any, url: str) -> Reply:
        """``parts``: of the path below the subscription."""
        if "api-version" not in query:
            self.violations.append(f"{method} {url} has no api-version")
        low = [part.lower() for part in parts]
        match (method, *low):
            case ("GET", "resourcegroups"):
                return self._groups(query, url)
            case (_, "resourcegroups", name):
                return self._group(method, name, body)
            case (_, "resourcegroups", name, "providers", "microsoft.resources", "deployments", _):
                return self._deployment(method, name, body)
            case ("GET", "providers", "microsoft.compute", "virtualmachines"):
                vms = [vm for group in self.cloud.groups.values() for vm in group.vms.values()]
                return self._machine_list(vms, query, url, power=query.get("statusonly") == "true")
            case ("GET", "resourcegroups", name, "providers", "microsoft.compute", "virtualmachines"):
                group = self.cloud.groups.get(name)
                vms = list(group.vms.values()) if group else []
                return self._machine_list(vms, query, url, power=False) if group else _no_group(name)
            case (_, "resourcegroups", name, "providers", "microsoft.compute", "virtualmachines", vm, *verb):
                return self._machine(method, name, vm, "".join(verb), query)
            case ("GET", "resourcegroups", name, "providers", "microsoft.network", _):
                return self._network(name, parts[-1], query, url)
            case ("GET", "providers", "microsoft.compute", "locations", _, "usages"):
                refusal = self._take("Microsoft.Compute/locations/usages/read")
                return refusal or self._page(USAGES, compute_models.Usage, query, url)
        return self._fail(404, "NotFound", f"no such path {url}")

    # --- groups and deployments ---

    def _groups(self, query: dict[str, str], url: str) -> Reply:
        if refusal := self._take("Microsoft.Resources/subscriptions/resourceGroups/read"):
            return refusal
        found = list(self.cloud.groups.values())
        chosen = re.fullmatch(r"tagName eq '([^']*)' and tagValue eq '([^']*)'", query.get("$filter", ""))
        if chosen:
            found = [one for one in found if one.tags.get(chosen[1]) == chosen[2]]
        return self._page([one.shown() for one in found], resource_models.ResourceGroup, query, url)

    def _group(self, method: str, name: str, body: Any) -> Reply:
        verb = {"GET": "read", "PUT": "write", "DELETE": "delete"}[method]
        rights = [f"Microsoft.Resources/subscriptions/resourceGroups/{verb}"]
        group = self.cloud.groups.get(name)
        if group is not None and method == "DELETE":
            kinds = {f"Microsoft.Network/{kind}" for kind, _ in group.others}
            kinds |= {templates.MACHINE, "Microsoft.Compute/disks"} if group.vms else set()
            rights += sorted(f"{kind}/delete" for kind in kinds)
        if refusal := self._take(*rights):
            return refusal
        if method == "PUT":
            self._check(resource_models.ResourceGroup, body, sent=True)
            if self.refusing and self.refusing[0][0] == "LocationNotAvailableForResourceGroup":
                return self._fail(400, *self.refusing.pop(0))
            if group is None:
                group = self.cloud.groups[name] = Group(name, body["location"], body.get("tags", {}))
        elif group is None:
            return _no_group(name)
        if method == "DELETE":
            group.deleting = True
            return Reply(202)
        return self._one(group.shown(), resource_models.ResourceGroup, 201 if method == "PUT" else 200)

    def _deployment(self, method: str, name: str, body: Any) -> Reply:
        if refusal := self._take(f"Microsoft.Resources/deployments/{'read' if method == 'GET' else 'write'}"):
            return refusal
        group = self.cloud.groups.get(name)
        if group is None:
            return _no_group(name)
        if method == "GET":
            if group.deployment is None:
                return self._fail(404, "DeploymentNotFound", "Deployment 'gang' could not be found.")
            return self._one(group.deployment, deployment_models.DeploymentExtended)
        template = body["properties"]["template"]
        self._check(deployment_models.Deployment, body, sent=True)
        self.violations += templates.schema_violations(template)
        if refusal := self._take(*templates.rights(template)):
            return refusal
        code, words = self.refusing.pop(0) if self.refusing else ("", "")
        if code in _DIRECT:
            return self._fail(_DIRECT[code], code, words)
        wrong = templates.refused(template)
        if (code and code not in LATER) or wrong:
            return self._invalid(*(wrong or (code, words)))
        for _ in range(2 if self.faults.take("deploy", Kind.TWICE) else 1):
            if group.deployment and group.deployment["properties"]["provisioningState"] == "Running":
                said = "The deployment is still active."
                reply = self._fail(409, "DeploymentActive", said)
            else:
                reply = self._accept(group, template, code)
        if self.faults.take("deploy", Kind.LOSE_ANSWER):
            return Reply(0, lost=True)
        return reply

    def _accept(self, group: Group, template: dict[str, Any], code: str) -> Reply:
        self.cloud.deployments += 1
        group.template, group.fails = template, code
        group.deployment = {
            "id": f"{group.id}/providers/Microsoft.Resources/deployments/gang",
            "name": "gang",
            "properties": {"provisioningState": "Running", "mode": "Incremental"},
        }
        return self._one(group.deployment, deployment_models.DeploymentExtended, 201)

    # --- machines ---

    def _machine_list(self, vms: list[Any], query: dict[str, str], url: str, *, power: bool) -> Reply:
        if refusal := self._take("Microsoft.Compute/virtualMachines/read"):
            return refusal
        shown = [machine_shown(vm, power=power) for vm in vms]
        return self._page(shown, compute_models.VirtualMachine, query, url)

    def _machine(self, method: str, name: str, vm_name: str, verb: str, query: dict[str, str]) -> Reply:
        rights = [f"{templates.MACHINE}/{f'{verb}/action' if verb else _VERBS[method]}"]
        if method == "DELETE":
            rights += ["Microsoft.Compute/disks/delete", "Microsoft.Network/networkInterfaces/delete"]
            rights += ["Microsoft.Network/publicIPAddresses/delete"]
        if refusal := self._take(*rights):
            return refusal
        group = self.cloud.groups.get(name)
        vm = group.vms.get(vm_name) if group else None
        if vm is None:
            return self._fail(404, "ResourceNotFound", f"{vm_name} was not found.")
        if method == "GET":
            shown = machine_shown(vm, power=query.get("$expand") == "instanceView")
            return self._one(shown, compute_models.VirtualMachine)
        if vm["properties"]["provisioningState"] == "Deleting":
            return self._fail(409, "OperationNotAllowed", f"{vm_name} is being deleted.")
        if method == "DELETE":
            vm["properties"]["provisioningState"] = "Deleting"
        elif verb == "deallocate":
            vm["power"] = "deallocating" if vm["power"] != "deallocated" else "deallocated"
        elif verb == "start":
            vm["power"] = "starting" if vm["power"] != "running" else "running"
        return Reply(202)

    def _network(self, name: str, kind: str, query: dict[str, str], url: str) -> Reply:
        if refusal := self._take(f"Microsoft.Network/{kind}/read"):
            return refusal
        group = self.cloud.groups.get(name)
        if group is None:
            return _no_group(name)
        found = [one for (of, _), one in group.others.items() if of == kind]
        return self._page(found, templates.MODELS[f"Microsoft.Network/{kind}"], query, url)

    # --- replies ---

    def _take(self, *actions: str) -> Reply | None:
        self.calls += actions
        missing = sorted(set(actions) - self.allowed)
        if not missing:
            return None
        return self._fail(403, "AuthorizationFailed", f"No authorization to perform action '{missing[0]}'.")

    def _check(self, model: Any, body: Any, *, sent: bool = False) -> None:
        self.violations += violations(model, body, sent=sent, path=model.__name__)

    def _one(self, shown: dict[str, Any], model: Any, status: int = 200) -> Reply:
        self._check(model, shown)
        return Reply(status, shown)

    def _page(self, found: list[dict[str, Any]], model: Any, query: dict[str, str], url: str) -> Reply:
        begin = int(query.get("$skiptoken") or 0)
        size = min(int(query.get("$top") or 100), self.page_size or 100)
        answer: dict[str, Any] = {"value": found[begin : begin + size]}
        for one in answer["value"]:
            self._check(model, one)
        if begin + size < len(found) and "$top" not in query:
            bare = re.sub(r"[?&]\$skiptoken=\d+", "", url.replace("%24", "$"))
            answer["nextLink"] = f"{bare}{'&' if '?' in bare else '?'}$skiptoken={begin + size}"
        return Reply(200, answer)

    def _invalid(self, code: str, words: str) -> Reply:
        """A template is checked before it is accepted; what is wrong stands below ``details``."""
        return self._fail(
            400, "InvalidTemplateDeployment", "See details.", [{"code": code, "message": words}]
        )

    def _fail(self, status: int, code: str, words: str, details: list[dict[str, Any]] | None = None) -> Reply:
        error = {"code": code, "message": words, **({"details": details} if details else {})}
        self._check(resource_models.CloudError, {"error": error})
        return Reply(status, {"error": error})


def refusal_of(code: str) -> tuple[str, str]:
    """The words that go with a code."""
    if code in _QUOTAS:
        return code, "Operation could not be completed as it results in exceeding approved DSv5 Cores quota."
    return code, f"The provider says {code}."


def _no_group(name: str) -> Reply:
    words = f"Resource group '{name}' could not be found."
    return Reply(404, {"error": {"code": "ResourceGroupNotFound", "message": words}})


_VERBS = {"GET": "read", "DELETE": "delete"}
USAGES = [
    {"name": {"value": name, "localizedValue": name}, "currentValue": 4, "limit": limit, "unit": "Count"}
    for name, limit in (
        ("availabilitySets", 2500),
        ("cores", 100),
        ("lowPriorityCores", 100),
        ("standardDSv5Family", 50),
        ("Standard NCASv3_T4 Family", 16),
        ("StandardNCADSA100v4Family", 0),
    )
]
