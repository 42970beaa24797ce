"""Compute Engine on this machine: real state behind Google's own wire format.

Requests and answers are held to Google's discovery document (``violations``). Creations are accepted and
fail later, in their operation; what is under way ends when ``settle`` says so, or, with real hosts, as soon
as it was answered for.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from google.auth import jwt

from tests.providers.faults import Faults, Kind
from tests.providers.gcp.discovery import Call, Discovery
from tests.providers.gcp.state import State, Wrong
from tests.providers.hosts import Host

PROJECT = "stix-test"
_ZONES = {
    region: [f"{region}-{letter}" for letter in letters]
    for region, letters in {"us-central1": "abcf", "europe-west4": "abc", "us-east1": "bcd"}.items()
}
_HTTP_STATUS = {
    **dict.fromkeys(("authError", "required"), 401),
    **dict.fromkeys(("forbidden", "insufficientPermissions", "accessNotConfigured"), 403),
    **dict.fromkeys(("billingNotEnabled", "accountDisabled", "quotaExceeded", "limitExceeded"), 403),
    **dict.fromkeys(("rateLimitExceeded", "userRateLimitExceeded"), 403),
    "notFound": 404,
    "alreadyExists": 409,
    "conditionNotMet": 412,
    "backendError": 503,
    "internalError": 500,
}


class GcpServer:
    """``url`` answers Compute Engine, Google's token service and every machine's metadata service; ``room``
    is how many machines more there are, None for any number. With ``hosts``, a folder, machines boot."""

    def __init__(self, *, hosts: Path | None = None) -> None:
        self.faults = Faults()
        self.calls: list[str] = []
        # The newest body by method: bulkInsert.
        self.bodies: dict[str, Any] = {}
        self.notices: set[str] = set()
        self.grants: list[dict[str, list[str]]] = []
        self.page_size: int | None = None
        # Whether a creation that fails says so in its first answer already.
        self.instant_refusals = False
        self._lock = threading.RLock()
        self._hosts = hosts
        self.machines: dict[str, Host] = {}
        self.discovery = Discovery()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self.state = State(PROJECT, _ZONES, self.url, self._power)
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    @property
    def violations(self) -> list[str]:
        return self.discovery.violations

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        for host in self.machines.values():
            host.power_off()

    # --- what a test does ---

    def settle(self) -> None:
        with self._lock:
            self.state.settle()

    def preempt(self, machine_id: str) -> None:
        with self._lock:
            self.state.preempt(machine_id)

    def announce_preemption(self, machine_id: str) -> str:
        self.notices.add(machine_id)
        return self.metadata_url(machine_id)

    def metadata_url(self, machine_id: str) -> str:
        return f"{self.url}/md/{machine_id}"

    def credentials(self, folder: Path, private_key: str) -> Path:
        """A service account's key file, whose tokens come from here."""
        path = folder / "key.json"
        path.write_text(
            json.dumps(
                {
                    "type": "service_account",
                    "project_id": PROJECT,
                    "private_key_id": "1",
                    "private_key": private_key,
                    "client_email": f"stix@{PROJECT}.iam.gserviceaccount.com",
                    "client_id": "1",
                    "token_uri": f"{self.url}/token",
                }
            )
        )
        return path

    def _power(self, instance: dict[str, Any], on: bool) -> None:
        if self._hosts is None:
            return
        name = instance["name"]
        if not on:
            if name in self.machines:
                self.machines[name].power_off()
            return
        if name not in self.machines:
            items = {item["key"]: item["value"] for item in instance["metadata"]["items"]}
            self.machines[name] = Host(
                self._hosts / name, items["startup-script"], metadata_url=self.metadata_url(name)
            )
        self.machines[name].power_on()

    # --- HTTP ---

    def answer(self, verb: str, path: str, query: str, headers: Any, body: bytes) -> tuple[int, bytes | None]:
        """Status and content; no content where the connection breaks instead."""
        if path.startswith("/md/"):
            return self._metadata(path, headers)
        if path in ("/token", "/sts"):
            self.grants.append(parse_qs(body.decode()))
            granted = {"access_token": "token", "expires_in": 3600, "token_type": "Bearer"}
            if path == "/sts":
                granted["issued_token_type"] = "urn:ietf:params:oauth:token-type:access_token"
            return 200, json.dumps(granted).encode()
        if not _known(headers.get("Authorization", "")):
            return _refused("authError", "Request had invalid authentication credentials.")
        with self._lock:
            call = self.discovery.call(verb, path, query, body)
            if call is None:
                return _refused("notFound", f"The requested URL {path} was not found.")
            self.calls.append(call.id)
            self.bodies[call.id.rpartition(".")[2]] = call.body
            if self.faults.take("*", Kind.THROTTLE):
                return _refused("rateLimitExceeded", "Rate Limit Exceeded")
            try:
                answer = self._handle(call)
            except Wrong as wrong:
                return _refused(wrong.reason, wrong.words)
            self.discovery.check_answer(call, answer)
            if self.faults.take(call.id.rpartition(".")[2], Kind.LOSE_ANSWER):
                return 200, None
            content = json.dumps(answer).encode()
            if self._hosts is not None and verb != "GET":
                # Nobody settles real machines.
                self.state.settle()
            return 200, content

    def _handle(self, call: Call) -> dict[str, Any]:
        if call["project"] != PROJECT:
            raise Wrong("forbidden", f"Permission denied on project {call['project']}")
        state = self.state
        handlers: dict[str, Callable[[Call], dict[str, Any]]] = {
            "instances.bulkInsert": self._bulk_insert,
            "regionInstances.bulkInsert": self._bulk_insert,
            "instances.aggregatedList": self._list_instances,
            "globalOperations.aggregatedList": self._list_operations,
            "instances.delete": lambda c: state.delete(c["zone"], c["instance"]),
            "instances.stop": lambda c: state.stop(
                c["zone"], c["instance"], discard=c["discardLocalSsd"] == "true"
            ),
            "instances.start": lambda c: state.start(c["zone"], c["instance"]),
            "networks.get": lambda c: state.get_network(c["network"]),
            "networks.insert": self._insert_network,
            "firewalls.get": lambda c: state.get_firewall(c["firewall"]),
            "firewalls.insert": lambda c: state.insert_firewall(c.body),
            "firewalls.delete": lambda c: state.delete_firewall(c["firewall"]),
            "projects.get": lambda c: {"kind": "compute#project", "name": PROJECT, "id": "1"},
            "regions.get": lambda c: state.get_region(c["region"]),
        }
        if call.id not in handlers:
            self.violations.append(f"{call.id} is not answered here")
            raise Wrong("notFound", call.id)
        return handlers[call.id](call)

    def _insert_network(self, call: Call) -> dict[str, Any]:
        return self.state.insert_network(call.body, slow=bool(self.faults.take("networks.insert", Kind.SLOW)))

    def _bulk_insert(self, call: Call) -> dict[str, Any]:
        refusal = self.faults.take("bulkInsert", Kind.REFUSE, Kind.FAIL_LATER)
        words = "" if refusal is None else refusal.more.get("words", f"The provider says {refusal.code}.")
        if refusal is not None and not refusal.code.isupper():
            raise Wrong(refusal.code, words)
        slow = self.faults.take("bulkInsert", Kind.SLOW) is not None
        operation: dict[str, Any] = {}
        for _ in range(2 if self.faults.take("bulkInsert", Kind.TWICE) else 1):
            operation = self.state.bulk_insert(
                call["zone"],
                call["region"],
                call.body,
                call["requestId"],
                refusal=None if refusal is None else (refusal.code, words),
                slow=slow,
                instant=self.instant_refusals,
            )
        return operation

    def _list_instances(self, call: Call) -> dict[str, Any]:
        found = self.state.instances(call["filter"])
        return self._aggregated(call, "compute#instanceAggregatedList", "instances", found)

    def _list_operations(self, call: Call) -> dict[str, Any]:
        found = self.state.operations(call["filter"])
        return self._aggregated(call, "compute#operationAggregatedList", "operations", found)

    def _aggregated(
        self, call: Call, kind: str, name: str, found: list[tuple[str, dict[str, Any]]]
    ) -> dict[str, Any]:
        size = min(self.page_size or 500, int(call["maxResults"] or 500))
        start = int(call["pageToken"] or 0)
        items: dict[str, Any] = {}
        for scope, thing in found[start : start + size]:
            items.setdefault(scope, {name: []})[name].append(thing)
        for zone in (zone for zones in _ZONES.values() for zone in zones):
            warning = {"code": "NO_RESULTS_ON_PAGE", "message": f"There are no results for zones/{zone}."}
            items.setdefault(f"zones/{zone}", {"warning": warning})
        answer = {"kind": kind, "id": "1", "items": items, "selfLink": f"{self.url}/compute/v1/list"}
        if start + size < len(found):
            answer["nextPageToken"] = str(start + size)
        return answer

    def _metadata(self, path: str, headers: Any) -> tuple[int, bytes]:
        _, _, machine_id, rest = path.split("/", 3)
        if headers.get("Metadata-Flavor") != "Google":
            return 403, b"Missing Metadata-Flavor:Google header."
        found = {
            "name": machine_id,
            "network-interfaces/0/ip": "127.0.0.1",
            "preempted": "TRUE" if machine_id in self.notices else "FALSE",
        }.get(rest.removeprefix("computeMetadata/v1/instance/"))
        return (404, b"") if found is None else (200, found.encode())


def _refused(reason: str, words: str) -> tuple[int, bytes]:
    status = _HTTP_STATUS.get(reason, 400)
    error = {"message": words, "domain": "global", "reason": reason}
    return status, json.dumps({"error": {"code": status, "message": words, "errors": [error]}}).encode()


def _handler(server: GcpServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body are two writes: the second would wait for the client to acknowledge the first.
        disable_nagle_algorithm = True

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = urlsplit(self.path)
            status, content = server.answer(self.command, parts.path, parts.query, self.headers, body)
            if content is None:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = _serve  # noqa: N815 (the names that the class asks for)

        def log_message(self, format: str, *arguments: Any) -> None:
            return

    return Handler


def _known(authorization: str) -> bool:
    """A token that was granted here, or a service account's own signed one."""
    kind, _, token = authorization.partition(" ")
    if kind != "Bearer" or token == "token":
        return kind == "Bearer"
    try:
        claims = jwt.decode(token, verify=False)
    except ValueError:
        return False
    return str(claims.get("iss", "")).endswith(f"@{PROJECT}.iam.gserviceaccount.com")
