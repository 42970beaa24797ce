"""Azure on this machine: Resource Manager and Entra ID's token endpoint over TLS, and the metadata service.

What is accepted is carried out by ``settle``; with ``hosts``, where machines are processes, right after the
answer.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.providers.azure.routes import Reply, Routes, refusal_of
from tests.providers.azure.state import SUBSCRIPTION, Cloud
from tests.providers.faults import Faults, Kind

TENANT = "00000000-0000-0000-0000-00000000000b"
_TOKEN = "token-of-azure"


class AzureServer:
    """Calls may do what ``role.json`` allows, and nothing else."""

    def __init__(self, folder: Path, *, hosts: Path | None = None) -> None:
        self.faults = Faults()
        self.cloud = Cloud(hosts)
        self.routes = Routes(self.cloud, self.faults, role_actions())
        self.notices: set[str] = set()
        self.secret_is_wrong = False
        self._settles = hosts is not None
        self._lock = threading.RLock()
        self.ca_file = folder / "azure-ca.pem"
        key_file = folder / "azure-key.pem"
        _write_certificate(self.ca_file, key_file)
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one packet: the client's kernel delays its word on the first

            def log_message(self, format: str, *args: Any) -> None:
                return

            def _do(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                server._handle(self, self.rfile.read(length))

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
        self.metadata = f"http://127.0.0.1:{self._http.server_address[1]}/imds"

    @property
    def violations(self) -> list[str]:
        return self.routes.violations

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
        for host in self.cloud.machines.values():
            host.power_off()

    def refuse(self, code: str, words: str = "") -> None:
        self.routes.refusing.append((code, words) if words else refusal_of(code))

    def settle(self) -> None:
        with self._lock:
            self.cloud.settle(self.metadata)

    def preempt(self, machine_id: str) -> None:
        """The eviction policy is Delete."""
        group, _, name = machine_id.partition("/")
        with self._lock:
            self.cloud.remove(self.cloud.groups[group], name)

    def announce_preemption(self, machine_id: str) -> str:
        self.notices.add(machine_id)
        return f"{self.metadata}/{machine_id}"

    # --- HTTP ---

    def _handle(self, http: Any, data: bytes) -> None:
        url = urlsplit(http.path)
        parts = url.path.strip("/").split("/")
        if parts[0] == "imds":
            return _send(http, self._metadata(http, f"{parts[1]}/{parts[2]}", "/".join(parts[3:])))
        if parts[0] != "subscriptions":
            return _send(http, self._entra(parts))
        query = {name.lower(): values[0] for name, values in parse_qs(url.query).items()}
        with self._lock:
            reply = self._arm(http, parts, query, json.loads(data) if data else None)
            _send(http, reply, location=f"{self.url}/subscriptions/{SUBSCRIPTION}/operationresults/1")
            if self._settles and http.command != "GET":
                self.cloud.settle(self.metadata)
        return None

    def _arm(self, http: Any, parts: list[str], query: dict[str, str], body: Any) -> Reply:
        if self.faults.take("*", Kind.THROTTLE):
            return _error(429, "TooManyRequests", "Too many requests.")
        if http.headers.get("Authorization") != f"Bearer {_TOKEN}":
            return _error(401, "InvalidAuthenticationToken", "The token is not ours.")
        if parts[1] != SUBSCRIPTION:
            return _error(404, "SubscriptionNotFound", f"No subscription {parts[1]}.")
        return self.routes.answer(http.command, parts[2:], query, body, f"{self.url}{http.path}")

    def _entra(self, parts: list[str]) -> Reply:
        if self.secret_is_wrong and parts[-1] == "token":
            words = "AADSTS7000215: Invalid client secret provided."
            return Reply(401, {"error": "invalid_client", "error_description": words})
        if parts[-1] != "openid-configuration":
            return Reply(200, {"token_type": "Bearer", "expires_in": 3600, "access_token": _TOKEN})
        base = f"{self.url}/{parts[0]}"
        about = {"token_endpoint": f"{base}/oauth2/v2.0/token", "issuer": f"{base}/v2.0"}
        return Reply(200, {**about, "authorization_endpoint": f"{base}/oauth2/v2.0/authorize"})

    def _metadata(self, http: Any, machine_id: str, path: str) -> Reply:
        if http.headers.get("Metadata") != "true":
            return Reply(400, {"error": "Required metadata header not specified"})
        if path.startswith("metadata/scheduledevents"):
            at = time.strftime("%a, %d %b %Y %H:%M:%S GMT")
            event = {"EventId": "1", "EventType": "Preempt", "NotBefore": at}
            return Reply(200, {"Events": [event] if machine_id in self.notices else []})
        group, _, name = machine_id.partition("/")
        address = {"ipv4": {"ipAddress": [{"privateIpAddress": "127.0.0.1"}]}}
        # The group's name comes in capitals as often as not.
        compute = {"resourceGroupName": group.upper(), "name": name}
        return Reply(200, {"compute": compute, "network": {"interface": [address]}})


def role_actions() -> list[str]:
    text = resources.files("stix.clouds.azure").joinpath("role.json").read_text(encoding="utf-8")
    actions: list[str] = json.loads(text)["Actions"]
    return actions


def _error(status: int, code: str, words: str) -> Reply:
    return Reply(status, {"error": {"code": code, "message": words}})


def _send(http: Any, reply: Reply, *, location: str = "") -> None:
    if reply.lost:
        http.connection.close()
        http.close_connection = True
        return
    data = b"" if reply.body is None else json.dumps(reply.body).encode()
    http.send_response(reply.status)
    http.send_header("Content-Type", "application/json")
    http.send_header("Content-Length", str(len(data)))
    if reply.status == 429:
        http.send_header("Retry-After", "7")
    if reply.status == 202:
        http.send_header("Location", f"{location}?api-version=1")
    http.end_headers()
    http.wfile.write(data)
    http.wfile.flush()


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
