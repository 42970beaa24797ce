"""Azure Resource Manager on this machine, over TLS, with Entra ID's token endpoint and the metadata service.

It keeps resource groups, deployments, machines, interfaces, addresses and disks. A deployment that was
accepted is carried out by ``settle``, or at once with ``hosts``. Fields of what it is sent, resources of
templates too, and of what it answers are held to the SDK's own models.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import re
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import azure.mgmt.compute.models as compute_models
import azure.mgmt.network.models as network_models
import azure.mgmt.resource.deployments.models as deployment_models
import azure.mgmt.resource.resources.models as resource_models

from tests.providers.azure.shapes import unknown_fields
from tests.providers.faults import Faults, Kind
from tests.providers.hosts import Host

SUBSCRIPTION = "00000000-0000-0000-0000-00000000000a"
TENANT = "00000000-0000-0000-0000-00000000000b"
# What Azure says before it accepts a deployment, by status; allocation fails later.
_DIRECT = {
    "AuthenticationFailed": 401,
    "AuthorizationFailed": 403,
    "ExpiredAuthenticationToken": 401,
    "InvalidAuthenticationToken": 401,
    "InvalidAuthenticationTokenTenant": 401,
    "LinkedAuthorizationFailed": 403,
    "ReadOnlyDisabledSubscription": 409,
    "SubscriptionNotFound": 404,
    "TooManyRequests": 429,
    "SubscriptionRequestsThrottled": 429,
    "BadRequest": 400,
    "InvalidTemplate": 400,
    "ResourceGroupBeingDeleted": 409,
    "RequestDisallowedByPolicy": 403,
}
_LATER = frozenset(
    {
        *("AllocationFailed", "OverconstrainedAllocationRequest", "OverconstrainedZonalAllocationRequest"),
        *("ZonalAllocationFailed", "SubnetIsFull"),
    }
)
_MODELS: dict[str, Any] = {
    "Microsoft.Compute/virtualMachines": compute_models.VirtualMachine,
    "Microsoft.Network/networkInterfaces": network_models.NetworkInterface,
    "Microsoft.Network/publicIPAddresses": network_models.PublicIPAddress,
    "Microsoft.Network/networkSecurityGroups": network_models.NetworkSecurityGroup,
    "Microsoft.Network/virtualNetworks": network_models.VirtualNetwork,
}
_SIZES = re.compile(r"Standard_[A-Z]+\d+(-\d+)?[a-z]*(_[A-Za-z0-9]+)*")


class AzureServer:
    """``room``: how many machines more it has, None for any number."""

    def __init__(self, folder: Path, *, hosts: Path | None = None) -> None:
        self.faults = Faults()
        self.room: int | None = None
        self.calls: list[str] = []
        self.violations: list[str] = []
        self.page_size: int | None = None
        self.machines: dict[str, Host] = {}
        self.groups: dict[str, dict[str, Any]] = {}
        self.notices: set[str] = set()
        self._refusing: list[str] = []
        self._hosts = hosts
        self._lock = threading.RLock()
        self.ca_file = folder / "azure-ca.pem"
        key_file = folder / "azure-key.pem"
        _write_certificate(self.ca_file, key_file)
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:
                return

            def _do(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                server._answer(self, self.rfile.read(length))

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _do  # noqa: N815

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                kind, error, _ = sys.exc_info()
                if kind is None or not issubclass(kind, OSError):  # not a client that hung up
                    server.violations.append(f"the server failed: {error!r}")

        self._https = Server(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.ca_file, key_file)
        self._https.socket = context.wrap_socket(self._https.socket, server_side=True)
        # The metadata service is plain HTTP on every cloud.
        self._http = Server(("127.0.0.1", 0), Handler)
        for one in (self._https, self._http):
            one.daemon_threads = True
            threading.Thread(target=one.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"https://127.0.0.1:{self._https.server_address[1]}"
        self.metadata = f"http://127.0.0.1:{self._http.server_address[1]}"

    def config(self) -> dict[str, Any]:
        return {
            "subscription_id": SUBSCRIPTION,
            "tenant_id": TENANT,
            "client_id": "client",
            "client_secret": "secret",
            "endpoint_url": self.url,
            "authority": self.url,
            "ca_file": str(self.ca_file),
        }

    def close(self) -> None:
        for one in (self._https, self._http):
            one.shutdown()
            one.server_close()
        for host in self.machines.values():
            host.power_off()

    def refuse(self, code: str) -> None:
        self._refusing.append(code)

    # --- time ---

    def settle(self) -> None:
        with self._lock:
            for name, group in list(self.groups.items()):
                self._settle(name, group)

    def _settle(self, name: str, group: dict[str, Any]) -> None:
        if group["properties"]["provisioningState"] == "Deleting":
            for vm in group["vms"]:
                self._power_off(name, vm)
            del self.groups[name]
            return
        deployment = group["deployment"]
        if deployment and deployment["properties"]["provisioningState"] == "Running":
            self._carry_out(name, group, deployment)
        for vm_name, vm in list(group["vms"].items()):
            if vm["properties"]["provisioningState"] == "Deleting":
                self._remove_machine(name, group, vm_name)
            else:
                vm["power"] = {
                    "starting": "running",
                    "deallocating": "deallocated",
                }.get(vm["power"], vm["power"])

    def _carry_out(self, name: str, group: dict[str, Any], deployment: dict[str, Any]) -> None:
        properties = deployment["properties"]
        resources = deployment["template"]["resources"]
        machines = [one for one in resources if one["type"] == "Microsoft.Compute/virtualMachines"]
        failure = deployment["fails"]
        if not failure and self.room is not None and self.room < len(machines):
            failure = "ZonalAllocationFailed"
        if self.room is not None and not failure:
            self.room -= len(machines)
        for resource in resources:
            kind = resource["type"].rpartition("/")[2]
            if resource in machines and failure and resource is machines[-1]:
                continue  # the last one finds no room; the others are there, and bill
            made = {"id": self._id(name, resource["type"], resource["name"]), **_plain(resource)}
            made["properties"]["provisioningState"] = "Succeeded"
            if kind == "virtualMachines":
                made["power"] = "starting" if self._hosts is None else "running"
                group["vms"][resource["name"]] = made
                group["disks"].add(f"{name}-{resource['name']}-osdisk")
                if self._hosts is not None and not failure:
                    self._boot(name, made)
            else:
                if kind == "publicIPAddresses":
                    made["properties"]["ipAddress"] = f"203.0.113.{len(group['others']) % 250 + 1}"
                group["others"][(kind, resource["name"])] = made
        if failure:
            words = f"The provider says {failure}."
            inner = json.dumps({"error": {"code": failure, "message": words}})
            details = [{"code": "Conflict", "message": inner, "target": f"{name}/node"}]
            properties["provisioningState"] = "Failed"
            properties["error"] = {
                "code": "DeploymentFailed",
                "message": "At least one resource deployment operation failed.",
                "details": details,
            }
        else:
            properties["provisioningState"] = "Succeeded"

    def preempt(self, machine_id: str) -> None:
        """The eviction policy is Delete."""
        group, _, name = machine_id.partition("/")
        with self._lock:
            self._power_off(group, name)
            self._remove_machine(group, self.groups[group], name)

    def announce_preemption(self, machine_id: str) -> str:
        self.notices.add(machine_id)
        return self.metadata_url(machine_id)

    def metadata_url(self, machine_id: str) -> str:
        return f"{self.metadata}/imds/{machine_id}"

    def _remove_machine(self, group_name: str, group: dict[str, Any], name: str) -> None:
        self._power_off(group_name, name)
        group["vms"].pop(name, None)
        group["disks"].discard(f"{group_name}-{name}-osdisk")
        for kind in ("networkInterfaces", "publicIPAddresses"):
            group["others"].pop((kind, name), None)

    # --- HTTP ---

    def _answer(self, http: Any, data: bytes) -> None:
        url = urlsplit(http.path)
        query = {name.lower(): values[0] for name, values in parse_qs(url.query).items()}
        parts = url.path.strip("/").split("/")
        if parts[0] == "imds":
            return self._metadata(http, parts[1] + "/" + parts[2], "/".join(parts[3:]))
        if parts[0] != "subscriptions":
            return self._entra(http, parts)
        with self._lock:
            if self.faults.take("*", Kind.THROTTLE):
                return self._fail(http, 429, "TooManyRequests", "Too many requests.")
            body = json.loads(data) if data else None
            if http.headers.get("Authorization") != "Bearer token-of-azure":
                return self._fail(http, 401, "InvalidAuthenticationToken", "The token is not ours.")
            if parts[1] != SUBSCRIPTION:
                return self._fail(http, 404, "SubscriptionNotFound", f"No subscription {parts[1]}.")
            if "api-version" not in query:
                self.violations.append(f"{http.command} {url.path} has no api-version")
            return self._route(http, parts[2:], query, body)

    def _route(self, http: Any, parts: list[str], query: dict[str, str], body: Any) -> None:
        low = [part.lower() for part in parts]
        match (http.command, *low):
            case ("GET", "resourcegroups"):
                self.calls.append("Microsoft.Resources/subscriptions/resourceGroups/read")
                return self._list_groups(http, query)
            case (method, "resourcegroups", _):
                return self._one_group(http, method, parts[1], body)
            case (method, "resourcegroups", _, "providers", "microsoft.resources", "deployments", _):
                return self._one_deployment(http, method, parts[1], body)
            case ("GET", "providers", "microsoft.compute", "virtualmachines"):
                self.calls.append("Microsoft.Compute/virtualMachines/read")
                found = [
                    _shown(vm, power=query.get("statusonly") == "true")
                    for group in self.groups.values()
                    for vm in group["vms"].values()
                ]
                return self._page(http, query, found, compute_models.VirtualMachine)
            case ("GET", "providers", "microsoft.compute", "locations", _, "usages"):
                self.calls.append("Microsoft.Compute/locations/usages/read")
                return self._page(http, query, _USAGES, compute_models.Usage)
            case (method, "resourcegroups", _, "providers", "microsoft.compute", "virtualmachines", *rest):
                tail = [parts[-len(rest) + i] for i in range(len(rest))] if rest else []
                return self._machine(http, method, parts[1], tail, query)
            case ("GET", "resourcegroups", _, "providers", "microsoft.network", kind):
                return self._list_network(http, parts[1], kind, query)
        return self._fail(http, 404, "NotFound", f"no such path {http.path}")

    def _list_groups(self, http: Any, query: dict[str, str]) -> None:
        found = list(self.groups.values())
        chosen = re.fullmatch(r"tagName eq '([^']*)' and tagValue eq '([^']*)'", query.get("$filter", ""))
        if chosen:
            found = [one for one in found if one["tags"].get(chosen[1]) == chosen[2]]
        self._page(http, query, [_group_shown(one) for one in found], resource_models.ResourceGroup)

    def _one_group(self, http: Any, method: str, name: str, body: Any) -> None:
        verb = {"GET": "read", "PUT": "write", "DELETE": "delete"}[method]
        self.calls.append(f"Microsoft.Resources/subscriptions/resourceGroups/{verb}")
        group = self.groups.get(name)
        if method == "PUT":
            self._check(resource_models.ResourceGroup, body, "group")
            if group is None:
                group = self.groups[name] = {
                    "id": f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{name}",
                    "name": name,
                    "type": "Microsoft.Resources/resourceGroups",
                    "location": body["location"],
                    "tags": body.get("tags", {}),
                    "properties": {"provisioningState": "Succeeded"},
                    "deployment": None,
                    "vms": {},
                    "others": {},
                    "disks": set(),
                }
            return self._send(http, 201, _group_shown(group))
        if group is None:
            return self._fail(
                http, 404, "ResourceGroupNotFound", f"Resource group '{name}' could not be found."
            )
        if method == "DELETE":
            group["properties"]["provisioningState"] = "Deleting"
            if self._hosts is not None:
                self._settle(name, group)
            return self._accepted(http)
        return self._send(http, 200, _group_shown(group))

    def _one_deployment(self, http: Any, method: str, name: str, body: Any) -> None:
        self.calls.append(f"Microsoft.Resources/deployments/{'read' if method == 'GET' else 'write'}")
        group = self.groups.get(name)
        if group is None:
            return self._fail(
                http, 404, "ResourceGroupNotFound", f"Resource group '{name}' could not be found."
            )
        if method == "GET":
            if group["deployment"] is None:
                return self._fail(http, 404, "DeploymentNotFound", "Deployment 'gang' could not be found.")
            if self._hosts is not None:
                self._settle(name, group)
            answer = {k: v for k, v in group["deployment"].items() if k in ("id", "name", "properties")}
            self._check(deployment_models.DeploymentExtended, answer, "deployment")
            return self._send(http, 200, answer)
        self._check(deployment_models.Deployment, body, "deployment")
        template = body["properties"]["template"]
        for resource in template["resources"]:
            known = {
                name: resource[name] for name in resource if name not in ("type", "apiVersion", "dependsOn")
            }
            self._check(_MODELS[resource["type"]], known, resource["type"])
            if not re.fullmatch(r"\d{4}-\d\d-\d\d", resource["apiVersion"]):
                self.violations.append(f"{resource['type']} has the version {resource['apiVersion']}")
            script = resource["properties"].get("osProfile", {}).get("customData", "")
            if len(base64.b64decode(script)) > 65535:
                return self._preflight(http, "InvalidParameter", "Custom data is too large.")
        code = self._refusing.pop(0) if self._refusing else ""
        if code in _DIRECT:
            return self._fail(http, _DIRECT[code], code, f"The provider says {code}.")
        if code and code not in _LATER:
            quota = code in ("QuotaExceeded", "OperationNotAllowed", "ResourceQuotaExceeded")
            words = (
                "Operation could not be completed as it results in exceeding approved quota." if quota else ""
            )
            return self._preflight(http, code, words or f"The provider says {code}.")
        sizes = {
            one["properties"]["hardwareProfile"]["vmSize"]
            for one in template["resources"]
            if one["type"] == "Microsoft.Compute/virtualMachines"
        }
        if any(not _SIZES.fullmatch(size) for size in sizes):
            return self._preflight(http, "InvalidParameter", f"The size {sizes} is unknown.")
        for _ in range(2 if self.faults.take("deploy", Kind.TWICE) else 1):
            earlier = group["deployment"]
            if earlier is not None and earlier["properties"]["provisioningState"] == "Running":
                continue  # the same again: Azure goes on with what it does
            group["deployment"] = {
                "id": f"{group['id']}/providers/Microsoft.Resources/deployments/gang",
                "name": "gang",
                "properties": {"provisioningState": "Running", "mode": "Incremental"},
                "template": template,
                "fails": code if code in _LATER else "",
            }
        if self.faults.take("deploy", Kind.LOSE_ANSWER):
            http.connection.close()
            http.close_connection = True
            return None
        answer = {k: v for k, v in group["deployment"].items() if k in ("id", "name", "properties")}
        return self._send(http, 201, answer)

    def _machine(self, http: Any, method: str, name: str, rest: list[str], query: dict[str, str]) -> None:
        group = self.groups.get(name)
        verb = {"GET": "read", "DELETE": "delete"}.get(method, f"{rest[-1]}/action" if rest else "")
        self.calls.append(f"Microsoft.Compute/virtualMachines/{verb}")
        if group is None:
            return self._fail(
                http, 404, "ResourceGroupNotFound", f"Resource group '{name}' could not be found."
            )
        if not rest:
            shown = [_shown(vm, power=False) for vm in group["vms"].values()]
            return self._page(http, query, shown, compute_models.VirtualMachine)
        vm = group["vms"].get(rest[0])
        if vm is None:
            return self._fail(http, 404, "ResourceNotFound", f"{rest[0]} was not found.")
        if method == "GET":
            answer = _shown(vm, power=query.get("$expand") == "instanceView")
            self._check(compute_models.VirtualMachine, answer, "machine")
            return self._send(http, 200, answer)
        if method == "DELETE":
            vm["properties"]["provisioningState"] = "Deleting"
        elif vm["properties"]["provisioningState"] == "Deleting":
            return self._fail(http, 409, "OperationNotAllowed", f"{rest[0]} is being deleted.")
        elif rest[1] == "deallocate":
            vm["power"] = "deallocating" if vm["power"] != "deallocated" else "deallocated"
            self._power_off(name, rest[0])
        else:
            vm["power"] = "starting" if vm["power"] != "running" else "running"
            if self._hosts is not None:
                self.machines[f"{name}/{rest[0]}"].power_on()
        if self._hosts is not None:
            self._settle(name, group)
        return self._accepted(http)

    def _list_network(self, http: Any, name: str, kind: str, query: dict[str, str]) -> None:
        group = self.groups.get(name)
        if group is None:
            return self._fail(
                http, 404, "ResourceGroupNotFound", f"Resource group '{name}' could not be found."
            )
        real = {"networkinterfaces": "networkInterfaces", "publicipaddresses": "publicIPAddresses"}[kind]
        self.calls.append(f"Microsoft.Network/{real}/read")
        found = [_shown(one, power=False) for (of, _), one in group["others"].items() if of == real]
        return self._page(http, query, found, _MODELS[f"Microsoft.Network/{real}"])

    def _page(self, http: Any, query: dict[str, str], found: list[dict[str, Any]], model: Any) -> None:
        begin = int(query.get("$skiptoken") or 0)
        size = min(int(query.get("$top") or 100), self.page_size or 100)
        answer: dict[str, Any] = {"value": found[begin : begin + size]}
        for one in answer["value"]:
            self._check(model, one, "reply")
        if begin + size < len(found) and "$top" not in query:
            separator = "&" if "?" in http.path else "?"
            bare = re.sub(r"[?&]\$skiptoken=\d+", "", http.path.replace("%24", "$"))
            answer["nextLink"] = f"{self.url}{bare}{separator}$skiptoken={begin + size}"
        self._send(http, 200, answer)

    def _preflight(self, http: Any, code: str, words: str) -> None:
        """A template is checked before it is accepted; what is wrong stands below ``details``."""
        details = [{"code": code, "message": words}]
        self._fail(http, 400, "InvalidTemplateDeployment", "The template is not valid: see details.", details)

    def _fail(
        self, http: Any, status: int, code: str, words: str, details: list[dict[str, Any]] | None = None
    ) -> None:
        error: dict[str, Any] = {"code": code, "message": words}
        if details:
            error["details"] = details
        self._send(http, status, {"error": error})

    def _accepted(self, http: Any) -> None:
        self._send(http, 202, None)

    def _send(self, http: Any, status: int, answer: Any) -> None:
        data = b"" if answer is None else json.dumps(answer).encode()
        http.send_response(status)
        http.send_header("Content-Type", "application/json")
        http.send_header("Content-Length", str(len(data)))
        if status == 429:
            http.send_header("Retry-After", "7")
        if status == 202:
            http.send_header(
                "Location", f"{self.url}/subscriptions/{SUBSCRIPTION}/operationresults/1?api-version=1"
            )
        http.end_headers()
        http.wfile.write(data)

    def _check(self, model: Any, body: Any, what: str) -> None:
        self.violations += [
            f"{what}{one} is no field of {model.__name__}" for one in unknown_fields(model, body)
        ]

    # --- Entra ID, machines, metadata ---

    def _entra(self, http: Any, parts: list[str]) -> None:
        if parts[-1] == "openid-configuration":
            base = f"{self.url}/{parts[0]}"
            answer: dict[str, Any] = {
                "token_endpoint": f"{base}/oauth2/v2.0/token",
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "issuer": f"{base}/v2.0",
            }
        else:
            answer = {"token_type": "Bearer", "expires_in": 3600, "access_token": "token-of-azure"}
        self._send(http, 200, answer)

    def _boot(self, group: str, vm: dict[str, Any]) -> None:
        assert self._hosts is not None
        machine_id = f"{group}/{vm['name']}"
        script = base64.b64decode(vm["properties"]["osProfile"]["customData"]).decode()
        host = Host(self._hosts / group / vm["name"], script, metadata_url=self.metadata_url(machine_id))
        self.machines[machine_id] = host
        host.power_on()

    def _power_off(self, group: str, name: str) -> None:
        if f"{group}/{name}" in self.machines:
            self.machines[f"{group}/{name}"].power_off()

    def _metadata(self, http: Any, machine_id: str, path: str) -> None:
        if http.headers.get("Metadata") != "true":
            return self._send(http, 400, {"error": "Required metadata header not specified"})
        if path.startswith("metadata/scheduledevents"):
            event = {
                "EventId": "1",
                "EventType": "Preempt",
                "NotBefore": time.strftime("%a, %d %b %Y %H:%M:%S GMT"),
            }
            return self._send(http, 200, {"Events": [event] if machine_id in self.notices else []})
        group, _, name = machine_id.partition("/")
        address = {"ipv4": {"ipAddress": [{"privateIpAddress": "127.0.0.1"}]}}
        about = {"compute": {"resourceGroupName": group, "name": name}, "network": {"interface": [address]}}
        return self._send(http, 200, about)

    @staticmethod
    def _id(group: str, kind: str, name: str) -> str:
        return f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{group.upper()}/providers/{kind}/{name}"


_USAGES = [
    {"name": {"value": name, "localizedValue": name}, "currentValue": 4, "limit": limit, "unit": "Count"}
    for name, limit in (
        ("availabilitySets", 2500),
        ("cores", 100),
        ("lowPriorityCores", 100),
        ("standardDSv5Family", 50),
        ("standardNCADSA100v4Family", 0),
    )
]


def _plain(resource: dict[str, Any]) -> dict[str, Any]:
    left_out = ("apiVersion", "dependsOn")
    return json.loads(json.dumps({k: v for k, v in resource.items() if k not in left_out}))  # type: ignore[no-any-return]


def _group_shown(group: dict[str, Any]) -> dict[str, Any]:
    return {k: group[k] for k in ("id", "name", "type", "location", "tags", "properties")}


def _shown(resource: dict[str, Any], *, power: bool) -> dict[str, Any]:
    shown = {k: v for k, v in resource.items() if k != "power"}
    if power:
        code = f"PowerState/{resource['power']}"
        statuses = [{"code": "ProvisioningState/succeeded"}, {"code": code}]
        shown["properties"] = {**shown["properties"], "instanceView": {"statuses": statuses}}
    return shown


def _write_certificate(certificate: Path, key_file: Path) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
