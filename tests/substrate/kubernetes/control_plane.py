"""A real Kubernetes control plane on this machine: etcd, API server, scheduler and controller-manager.

Only the kubelets are missing: their nodes are ``Node`` objects that a test makes, and what they would say of
pods a test says for them. RBAC is on. ``build.sh`` beside this file makes the programs.
"""

from __future__ import annotations

import base64
import ctypes
import os
import secrets
import signal
import ssl
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.ports import free_port

__all__ = ["URGENT", "ControlPlane", "binaries"]

URGENT = "urgent"
"""A priority class before which pods without one give way."""

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
_VERSION = "1.20.2"
_START_SECONDS = 120.0
_CONTROLLERS = (
    *("garbagecollector", "namespace", "nodelifecycle", "podgc", "resourcequota"),
    *("serviceaccount", "serviceaccount-token", "service"),
)


def binaries() -> Path:
    """The folder of the built programs. Raises ``FileNotFoundError``."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    built = cache / "stix-tests" / f"kubernetes-{_VERSION}"
    if not (built / "complete").exists():
        raise FileNotFoundError(f"{built} is not built: `make e2e-kubernetes` does it")
    return built / "bin"


class ControlPlane:
    """Runs from its making to ``close``. All that it keeps is in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._bin = binaries()
        self._running: list[subprocess.Popen[bytes]] = []
        self._token = secrets.token_hex(16)
        self._client: httpx.Client | None = None
        self.url = f"https://127.0.0.1:{free_port()}"
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def kubeconfig(
        self, *, token: str = "", context: str = "lab", namespace: str = "default", server: str = ""
    ) -> dict[str, Any]:
        """Of the administrator, or of whom the token names. ``server``: another way to the API server."""
        authority = base64.b64encode(self.authority.read_bytes()).decode()
        cluster = (
            {"server": server} if server else {"server": self.url, "certificate-authority-data": authority}
        )
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": context,
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": {"token": token or self._token}}],
            "contexts": [{"name": context, "context": {"cluster": "c", "user": "u", "namespace": namespace}}],
        }

    def call(self, method: str, path: str, body: Any = None, *, absent: bool = False) -> Any:
        """What the administrator asks of the API server; the decoded answer. ``absent``: 404 is well.

        Raises ``RuntimeError`` with the server's own words.
        """
        headers = {"Authorization": f"Bearer {self._token}"}
        if method == "PATCH":
            headers["Content-Type"] = "application/strategic-merge-patch+json"
        answer = self._http().request(method, path, json=body, headers=headers)
        if answer.is_error and not (absent and answer.status_code == 404):
            raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json()

    def status(self, path: str, token: str) -> int:
        """Of the answer to whom the token names."""
        return self._http().get(path, headers={"Authorization": f"Bearer {token}"}).status_code

    @property
    def authority(self) -> Path:
        """The certificate by which the API server is known."""
        return self._folder / "pki" / "apiserver.crt"

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
        for process in reversed(self._running):
            process.send_signal(signal.SIGTERM)
        for process in reversed(self._running):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    # --- starting ---

    def _start(self) -> None:
        self._keys()
        etcd, peers = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        self._run(
            "etcd",
            {
                "data-dir": self._folder / "etcd",
                "listen-client-urls": etcd,
                "advertise-client-urls": etcd,
                "listen-peer-urls": peers,
                "initial-advertise-peer-urls": peers,
                "initial-cluster": f"default={peers}",
            },
        )
        key = self._folder / "accounts.key"
        self._run(
            "kube-apiserver",
            {
                "etcd-servers": etcd,
                "bind-address": "127.0.0.1",
                "advertise-address": "127.0.0.1",
                "endpoint-reconciler-type": "none",
                "secure-port": self.url.rpartition(":")[2],
                "cert-dir": self._folder / "pki",
                "authorization-mode": "RBAC",
                "token-auth-file": self._folder / "tokens.csv",
                "service-account-issuer": "https://kubernetes.default.svc",
                "service-account-key-file": key,
                "service-account-signing-key-file": key,
                "service-cluster-ip-range": "10.96.0.0/16",
                # Pods leave a node that is lost after a second, not after five minutes.
                "default-not-ready-toleration-seconds": 1,
                "default-unreachable-toleration-seconds": 1,
            },
        )
        self._await("the API server", lambda: self.call("GET", "/api/v1/namespaces/default"))
        urgent = {"metadata": {"name": URGENT}, "value": 1_000_000}
        self.call("POST", "/apis/scheduling.k8s.io/v1/priorityclasses", urgent)
        access = self._folder / "admin.kubeconfig"
        access.write_text(yaml.safe_dump(self.kubeconfig()))
        common = {"kubeconfig": access, "leader-elect": "false", "port": 0, "secure-port": 0}
        self._run("kube-scheduler", common)
        self._run(
            "kube-controller-manager",
            {
                **common,
                "controllers": ",".join(_CONTROLLERS),
                "service-account-private-key-file": key,
                # Nodes without kubelets have no heartbeat: only what a test says of them counts.
                "node-monitor-grace-period": "10h",
                "node-monitor-period": "1s",
            },
        )
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        self._await("the controllers", lambda: self.call("GET", account))

    def _keys(self) -> None:
        (self._folder / "pki").mkdir(parents=True)
        (self._folder / "tokens.csv").write_text(f"{self._token},admin,admin,system:masters\n")
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        (self._folder / "accounts.key").write_bytes(private)

    def _http(self) -> httpx.Client:
        if self._client is None:
            trusted = ssl.create_default_context(cafile=self.authority)
            self._client = httpx.Client(base_url=self.url, verify=trusted, timeout=30)
        return self._client

    def _run(self, program: str, options: Mapping[str, object]) -> None:
        arguments = [str(self._bin / program), *(f"--{name}={value}" for name, value in options.items())]
        with (self._folder / f"{program}.log").open("wb") as log:
            self._running.append(
                subprocess.Popen(
                    arguments,
                    cwd=self._folder,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    preexec_fn=_end_with_parent,
                )
            )

    def _await(self, what: str, ready: Callable[[], Any]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            ended = [one for one in self._running if one.poll() is not None]
            if ended:
                raise RuntimeError(f"{Path(ended[0].args[0]).name} has ended; see its log in {self._folder}")
            try:
                return ready()
            except (httpx.HTTPError, OSError, RuntimeError) as exc:
                if time.monotonic() > deadline:
                    raise RuntimeError(
                        f"{what} did not become ready; see the logs in {self._folder}"
                    ) from exc
            time.sleep(0.1)


def _end_with_parent() -> None:
    """In the child: killed with the process that started it, even if that one is killed itself."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
