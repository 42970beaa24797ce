"""EC2 on this machine: moto's server behind what moto leaves out.

moto keeps the state (instances, volumes, networks, templates). In front of it: idempotency by
``ClientToken``, instant fleets that are all or nothing and run out of capacity, states that change only when
``settle`` says so, faults, the instance metadata service, and machines that really boot.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl
from urllib.request import Request, urlopen
from xml.etree import ElementTree

import boto3
import botocore.config
import botocore.session
from moto.ec2.models import ec2_backends
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from tests.providers.aws.replies import compare, error, fleet_xml
from tests.providers.faults import Faults, Kind
from tests.providers.hosts import Host

ACCOUNT = "123456789012"
# Refusals of the whole request; all others that a creation meets stand in the fleet's list of errors.
_REQUEST_CODES = frozenset(
    {
        *("AuthFailure", "Blocked", "ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId"),
        *("OptInRequired", "PendingVerification", "SignatureDoesNotMatch", "UnauthorizedOperation"),
        *("RequestLimitExceeded", "Throttling", "RequestThrottled", "EC2ThrottledException"),
        *("IdempotentParameterMismatch", "InvalidFleetConfiguration", "InternalError", "Unavailable"),
        "MaxSpotFleetRequestCountExceeded",
    }
)
_THROTTLED = frozenset({"RequestLimitExceeded", "Throttling", "RequestThrottled", "EC2ThrottledException"})
_FIFTEEN_KB = 16384
# As Service Quotas names them; the values are a test's.
VCPU_QUOTAS: Mapping[str, float] = {
    "EC2-VPC Elastic IPs": 5.0,
    "Running On-Demand G and VT instances": 512.0,
    "Running On-Demand P instances": 512.0,
    "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances": 2000.0,
    "All G and VT Spot Instance Requests": 512.0,
    "All P Spot Instance Requests": 512.0,
    "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests": 2000.0,
}


class _Silent(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        return


@dataclass
class _Fleet:
    asked: tuple[tuple[str, str], ...]
    answer: str
    ids: list[str] = field(default_factory=list)


class AwsServer:
    """``url`` answers EC2, SSM and STS for every region; ``room`` is how many machines more it has, None for
    any number. With ``hosts``, a folder, machines boot for real, with ``environ`` in their environment, by
    the ``shell`` that each machine's folder is given. ``address`` of a machine's id is where the others reach
    it, and people: by its private and its public address; without it all have 127.0.0.1, as they know."""

    def __init__(
        self,
        *,
        hosts: Path | None = None,
        environ: Mapping[str, str] | None = None,
        shell: Callable[[Path], Sequence[str]] = lambda folder: ("/bin/sh",),
        address: Callable[[str], str] | None = None,
    ) -> None:
        self.faults = Faults()
        self.room: int | None = None
        self.calls: list[str] = []
        self.violations: list[str] = []
        self.notices: dict[str, float] = {}
        self.machines: dict[str, Host] = {}
        self.page_size: int | None = None
        self.now: Callable[[], float] = time.time
        self.on_change: Callable[[str, bool], None] = lambda machine_id, runs: None
        """Told of every machine that begins to run, or ends."""
        self.vcpu_quotas = dict(VCPU_QUOTAS)
        self._hosts, self._environ, self._shell, self._address = hosts, environ, shell, address
        self._fleets: dict[str, _Fleet] = {}
        self._changing: dict[str, tuple[str, str]] = {}
        self._clients: dict[tuple[Any, ...], Any] = {}
        self._client_lock = threading.Lock()
        self._lock = threading.RLock()
        # Our own handlers call moto over HTTP too: its lock is another one than theirs.
        self._moto_lock = threading.RLock()
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._model = botocore.session.get_session().get_service_model("ec2")
        self._http = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_Silent)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        with urlopen(Request(f"{self.url}/moto-api/reset", b"", headers={"User-Agent": "inside"})):
            self._http.shutdown()
        self._http.server_close()
        for host in self.machines.values():
            host.power_off()

    def client(self, service: str, region: str = "us-east-1", **settings: Any) -> Any:
        """The provider's own side: its calls meet no faults and are not counted. One client for the same
        arguments: to make one takes longer than most calls."""
        key = (service, region, *sorted(settings.items()))
        with self._client_lock:
            if key not in self._clients:
                self._clients[key] = boto3.client(
                    service,
                    region_name=region,
                    endpoint_url=self.url,
                    aws_access_key_id="test",
                    aws_secret_access_key="test",
                    config=botocore.config.Config(
                        user_agent_extra="inside", **{"retries": {"total_max_attempts": 1}, **settings}
                    ),
                )
            return self._clients[key]

    # --- what a test does to machines ---

    def settle(self) -> None:
        """Every change of state that is under way has happened."""
        with self._lock:
            self._changing.clear()

    def preempt(self, machine_id: str, region: str = "us-east-1") -> None:
        self._power_off(machine_id)
        with self._lock:
            self.client("ec2", region).terminate_instances(InstanceIds=[machine_id])
            instance = self._instance(machine_id, region)
            code = "Server.SpotInstanceTermination"
            instance.state_reason.code = code
            instance.state_reason.message = f"{code}: Spot instance termination"
            self._changing.pop(machine_id, None)
            self._say_when(machine_id, region, "Service initiated", self.now())
            self.on_change(machine_id, False)

    def announce_preemption(self, machine_id: str) -> str:
        self.notices[machine_id] = time.time() + 120
        return self.metadata_url(machine_id)

    def metadata_url(self, machine_id: str) -> str:
        return f"{self.url}/imds/{machine_id}"

    def _instance(self, machine_id: str, region: str) -> Any:
        return ec2_backends[ACCOUNT][region].get_instance(machine_id)

    # --- HTTP ---

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"].startswith("/imds/"):
            return self._metadata(environ, start)
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(length)
        form = dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))
        action = form.get("Action") or environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
        if "inside" in environ.get("HTTP_USER_AGENT", ""):
            return self._pass_on(environ, start, body)
        self.calls.append(action)
        if self.faults.take("*", Kind.THROTTLE):
            return error(start, "RequestLimitExceeded", "Request limit exceeded.", 503)
        if environ.get("HTTP_AUTHORIZATION", "").find("/ssm/") >= 0:
            return self._parameter(environ, start, body)
        if action == "ListServiceQuotas":
            return self._service_quotas(start, json.loads(body))
        handler = {
            "CreateFleet": self._create_fleet,
            "StopInstances": self._change,
            "StartInstances": self._change,
            "TerminateInstances": self._change,
            "DescribeInstances": self._describe,
            "CreateLaunchTemplate": self._create_template,
            "DeleteLaunchTemplate": self._delete_template,
        }.get(action)
        if handler is None:
            return self._pass_on(environ, start, body)
        with self._lock:
            return handler(environ, start, body, form)

    def _pass_on(self, environ: dict[str, Any], start: Callable[..., Any], body: bytes) -> Iterable[bytes]:
        import io

        environ = {**environ, "wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
        environ.pop("wsgi.input_terminated", None)
        with self._moto_lock:
            return list(self._moto(environ, start))

    def _parameter(self, environ: dict[str, Any], start: Callable[..., Any], body: bytes) -> Iterable[bytes]:
        """moto knows Amazon Linux's parameters, but not those of the deep learning images."""
        name = json.loads(body)["Name"]
        if "/deeplearning/" not in name:
            return self._pass_on(environ, start, body)
        answer = {
            "Parameter": {"Name": name, "Type": "String", "Value": "ami-0123456789abcdef0", "Version": 1}
        }
        start("200 OK", [("Content-Type", "application/x-amz-json-1.1")])
        return [json.dumps(answer).encode()]

    def _service_quotas(self, start: Callable[..., Any], asked: dict[str, Any]) -> Iterable[bytes]:
        """moto has no quotas of EC2."""
        assert asked["ServiceCode"] == "ec2"
        quotas = [
            {"ServiceCode": "ec2", "QuotaName": name, "Value": value}
            for name, value in self.vcpu_quotas.items()
        ]
        first = int(asked.get("NextToken", 0))
        size = self.page_size or 100
        answer: dict[str, Any] = {"Quotas": quotas[first : first + size]}
        if first + size < len(quotas):
            answer["NextToken"] = str(first + size)
        start("200 OK", [("Content-Type", "application/x-amz-json-1.1")])
        return [json.dumps(answer).encode()]

    # --- EC2 ---

    def _create_template(
        self, environ: dict[str, Any], start: Callable[..., Any], body: bytes, form: dict[str, str]
    ) -> Iterable[bytes]:
        script = base64.b64decode(form["LaunchTemplateData.UserData"])
        if len(script) > _FIFTEEN_KB:
            return error(start, "InvalidUserData.Malformed", "User data is limited to 16384 bytes", 400)
        return self._pass_on(environ, start, body)

    def _delete_template(
        self, environ: dict[str, Any], start: Callable[..., Any], body: bytes, form: dict[str, str]
    ) -> Iterable[bytes]:
        name = form["LaunchTemplateName"]
        region = environ["HTTP_AUTHORIZATION"].split("/")[2]
        there = self.client("ec2", region).describe_launch_templates()["LaunchTemplates"]
        if name not in [one["LaunchTemplateName"] for one in there]:
            code = "InvalidLaunchTemplateName.NotFoundException"
            return error(start, code, f"There is no launch template {name}", 400)
        return self._pass_on(environ, start, body)

    def _create_fleet(
        self, environ: dict[str, Any], start: Callable[..., Any], body: bytes, form: dict[str, str]
    ) -> Iterable[bytes]:
        asked = tuple(sorted((name, value) for name, value in form.items()))
        token = form["ClientToken"]
        fault = self.faults.take("CreateFleet", Kind.REFUSE)
        if fault is not None and fault.code in _REQUEST_CODES:
            status = 503 if fault.code in _THROTTLED | {"Unavailable", "InternalError"} else 400
            return error(start, fault.code, f"The provider says {fault.code}.", status)
        earlier = self._fleets.get(token)
        if earlier is not None and earlier.asked != asked:
            return error(
                start,
                "IdempotentParameterMismatch",
                "The request uses the same client token as a previous, but non-identical request",
                400,
            )
        if earlier is None:
            times = 2 if self.faults.take("CreateFleet", Kind.TWICE) else 1
            for _ in range(times):
                # The second delivery of a token finds what the first one made.
                if token not in self._fleets:
                    refusal = fault.code if fault is not None else ""
                    self._fleets[token] = self._make_fleet(environ, form, asked, refusal)
            earlier = self._fleets[token]
            if not earlier.ids:
                # A request that was not met may be met later.
                del self._fleets[token]
        if self.faults.take("CreateFleet", Kind.LOSE_ANSWER):
            environ["werkzeug.socket"].shutdown(2)
            raise ConnectionError("the answer is lost")
        start("200 OK", [("Content-Type", "text/xml")])
        self._check_reply("CreateFleet", earlier.answer)
        return [earlier.answer.encode()]

    def _make_fleet(
        self, environ: dict[str, Any], form: dict[str, str], asked: tuple[tuple[str, str], ...], refusal: str
    ) -> _Fleet:
        region = environ["HTTP_AUTHORIZATION"].split("/")[2]
        count = int(form["TargetCapacitySpecification.TotalTargetCapacity"])
        market = form["TargetCapacitySpecification.DefaultTargetCapacityType"]
        options = "SpotOptions" if market == "spot" else "OnDemandOptions"
        least = int(form[f"{options}.MinTargetCapacity"])
        overrides = list(_overrides(form))
        known = {kind["InstanceType"] for kind in _types(region)}
        code = refusal
        if not code and overrides[0][0] not in known:
            code = "InvalidParameterValue"
        if not code and self.room is not None and self.room < least:
            code = "InsufficientInstanceCapacity"
        if code:
            return _Fleet(asked, fleet_xml(errors=[(kind, subnet, code) for kind, subnet in overrides]))
        kind, subnet = overrides[0]
        more: dict[str, Any] = {"InstanceMarketOptions": {"MarketType": "spot"}} if market == "spot" else {}
        name = form["LaunchTemplateConfigs.1.LaunchTemplateSpecification.LaunchTemplateName"]
        template = self._template(region, name)
        made = self.client("ec2", region).run_instances(
            ImageId=template["ImageId"],
            InstanceType=kind,
            SubnetId=subnet,
            MinCount=count,
            MaxCount=count,
            UserData=base64.b64decode(template["UserData"]).decode(),
            SecurityGroupIds=template["SecurityGroupIds"],
            TagSpecifications=template["TagSpecifications"],
            BlockDeviceMappings=template["BlockDeviceMappings"],
            InstanceInitiatedShutdownBehavior=template["InstanceInitiatedShutdownBehavior"],
            **more,
        )
        ids = [instance["InstanceId"] for instance in made["Instances"]]
        if self.room is not None:
            self.room -= count
        script = base64.b64decode(template["UserData"]).decode()
        for machine_id in ids:
            self._changing[machine_id] = ("pending", "running")
            self.on_change(machine_id, True)
            if self._address is not None:
                (card,) = self._instance(machine_id, region).nics.values()
                card.private_ip_address = card.public_ip = self._address(machine_id)
            if self._hosts is not None:
                host = Host(
                    self._hosts / machine_id,
                    script,
                    metadata_url=self.metadata_url(machine_id),
                    environ=self._environ,
                    shell=self._shell(self._hosts / machine_id),
                )
                self.machines[machine_id] = host
                host.power_on()
        lifecycle = "spot" if market == "spot" else "on-demand"
        return _Fleet(asked, fleet_xml(instances=[(kind, lifecycle, ids)]), ids)

    def _template(self, region: str, name: str) -> dict[str, Any]:
        versions = self.client("ec2", region).describe_launch_template_versions(LaunchTemplateName=name)
        data: dict[str, Any] = versions["LaunchTemplateVersions"][-1]["LaunchTemplateData"]
        return data

    def _change(
        self, environ: dict[str, Any], start: Callable[..., Any], body: bytes, form: dict[str, str]
    ) -> Iterable[bytes]:
        action = form["Action"]
        through = {
            "StopInstances": ("stopping", "stopped"),
            "StartInstances": ("pending", "running"),
            "TerminateInstances": ("shutting-down", "terminated"),
        }[action]
        region = environ["HTTP_AUTHORIZATION"].split("/")[2]
        asked = [machine_id for name, machine_id in form.items() if name.startswith("InstanceId.")]
        changed: dict[str, float] = {}
        for machine_id in asked:
            state = self._instance(machine_id, region)._state.name
            shown = self._changing.get(machine_id, (state, ""))[0]
            if action != "TerminateInstances" and shown in ("terminated", "shutting-down"):
                return error(start, "IncorrectInstanceState", f"{machine_id} is {shown}", 400)
            if action == "StartInstances" and shown not in ("stopped", "pending", "running"):
                return error(start, "IncorrectInstanceState", f"{machine_id} is {shown}", 400)
            if shown not in through:
                # One moment, though the clock may be moved while the machine's processes end.
                changed[machine_id] = self.now()
                self.on_change(machine_id, action == "StartInstances")
            if shown != through[1]:
                self._changing[machine_id] = through
            if machine_id in self.machines:
                if action == "StartInstances":
                    if shown not in through:
                        self.machines[machine_id].power_on()
                else:
                    self._power_off(machine_id)
        before = {one: self._instance(one, region)._reason for one in asked}
        answer = self._pass_on(environ, start, body)
        if action != "StartInstances":
            for machine_id, reason in before.items():
                self._instance(machine_id, region)._reason = reason
                if machine_id in changed:
                    self._say_when(machine_id, region, "User initiated", changed[machine_id])
        return answer

    def _say_when(self, machine_id: str, region: str, how: str, moment: float) -> None:
        """moto says it by this machine's clock, and anew whenever it is asked."""
        words = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(moment))
        self._instance(machine_id, region)._reason = f"{how} ({words} GMT)"

    def _describe(
        self, environ: dict[str, Any], start: Callable[..., Any], body: bytes, form: dict[str, str]
    ) -> Iterable[bytes]:
        if self.page_size is not None and "MaxResults" in form:
            body = body.replace(
                b"MaxResults=" + form["MaxResults"].encode(), b"MaxResults=%d" % self.page_size
            )
        begun: list[tuple[str, list[tuple[str, str]]]] = []
        answer = b"".join(
            self._pass_on(environ, lambda status, headers, *_: begun.append((status, list(headers))), body)
        ).decode()
        # States in between are shown until they are settled.
        for machine_id, (state, target) in list(self._changing.items()):
            at = answer.find(f"<instanceId>{machine_id}</instanceId>")
            if at >= 0:
                before, rest = answer[:at], answer[at:]
                answer = before + rest.replace(f"<name>{target}</name>", f"<name>{state}</name>", 1)
                if self._hosts is not None:
                    # Nobody settles real machines: whoever looked has seen the state in between.
                    del self._changing[machine_id]
        status, headers = begun[0]
        data = answer.encode()
        start(status, [one for one in headers if one[0].lower() != "content-length"])
        return [data]

    def _power_off(self, machine_id: str) -> None:
        if machine_id in self.machines:
            self.machines[machine_id].power_off()

    def _check_reply(self, operation: str, xml: str) -> None:
        """Every element of a reply that was written here stands in EC2's own model."""
        shape = self._model.operation_model(operation).output_shape
        compare(ElementTree.fromstring(xml), shape, operation, self.violations)

    # --- the metadata service ---

    def _metadata(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        _, _, machine_id, path = environ["PATH_INFO"].split("/", 3)
        if environ["REQUEST_METHOD"] == "PUT" and path == "latest/api/token":
            start("200 OK", [("Content-Type", "text/plain")])
            return [f"token-{machine_id}".encode()]
        if environ.get("HTTP_X_AWS_EC2_METADATA_TOKEN") != f"token-{machine_id}":
            start("401 Unauthorized", [])
            return [b""]
        address = self._address(machine_id) if self._address is not None else "127.0.0.1"
        text = {"latest/meta-data/instance-id": machine_id, "latest/meta-data/local-ipv4": address}.get(path)
        if path == "latest/meta-data/spot/instance-action" and machine_id in self.notices:
            moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.notices[machine_id]))
            text = json.dumps({"action": "terminate", "time": moment})
        if text is None:
            start("404 Not Found", [])
            return [b""]
        start("200 OK", [("Content-Type", "text/plain")])
        return [text.encode()]


def _overrides(form: dict[str, str]) -> Iterator[tuple[str, str]]:
    number = 1
    while (kind := form.get(f"LaunchTemplateConfigs.1.Overrides.{number}.InstanceType")) is not None:
        yield kind, form[f"LaunchTemplateConfigs.1.Overrides.{number}.SubnetId"]
        number += 1


def _types(region: str) -> list[dict[str, Any]]:
    from moto.ec2.models.instance_types import INSTANCE_TYPES

    return list(INSTANCE_TYPES.values())
