"""A container engine of the tests' own, Debian's dockerd with all its data in one folder, and a registry that
demands a login."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

BUSYBOX = "/bin/busybox"
DAEMON = shutil.which("dockerd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
_TOOLS = ("sh", "cat", "env", "id", "ls", "ps", "setsid", "sleep", "stat", "touch")
_PASSWD = b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n"
_READY_SECONDS = 60.0


class NoEngineError(Exception):
    """There is no engine here; the message says why."""


def root_file_system(*, shell: bool = True) -> bytes:
    """A tar of a static busybox under the names of a few tools: no Python, no bash."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, mode, owner in (
            ("bin", 0o755, 0),
            ("etc", 0o755, 0),
            ("tmp", 0o1777, 0),
            ("root", 0o700, 0),
        ):
            _add_folder(archive, name, mode, owner)
        _add_folder(archive, "home", 0o755, 0)
        _add_folder(archive, "home/app", 0o755, 1000)
        _add_file(archive, "etc/passwd", _PASSWD, 0o644)
        if shell:
            _add_file(archive, "bin/busybox", Path(BUSYBOX).read_bytes(), 0o755)
            for tool in _TOOLS:
                link = tarfile.TarInfo(f"bin/{tool}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                archive.addfile(link)
    return buffer.getvalue()


class Engine:
    """Raises ``NoEngineError`` where one cannot run."""

    def __init__(self) -> None:
        if DAEMON is None or shutil.which("docker") is None:
            raise NoEngineError("dockerd is not installed (apt-get install docker.io)")
        if not os.path.exists(BUSYBOX):
            raise NoEngineError(
                "there is no static busybox to make images of (apt-get install busybox-static)"
            )
        if os.geteuid() != 0:
            raise NoEngineError("dockerd needs root")
        # Short, as a socket's path has little room.
        self.folder = Path(tempfile.mkdtemp(prefix="stix-engine-"))
        self.host = f"unix://{self.folder}/s"
        self._log = open(self.folder / "log", "wb")  # noqa: SIM115 - as long as the daemon
        (self.folder / "daemon.json").write_text("{}")
        command = [DAEMON, "--config-file", f"{self.folder}/daemon.json", "--iptables=false", "--bridge=none"]
        command += ["--data-root", f"{self.folder}/data", "--exec-root", f"{self.folder}/run"]
        command += ["--pidfile", f"{self.folder}/pid", "--host", self.host]
        kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, env=kept
        )
        deadline = time.monotonic() + _READY_SECONDS
        while self.docker("version", check=False).returncode != 0:
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = (self.folder / "log").read_text(errors="replace").strip().splitlines()
                self.close()
                raise NoEngineError(f"dockerd cannot run here: {said[-1] if said else 'it says nothing'}")
            time.sleep(0.1)

    def docker(self, *arguments: str, check: bool = True, data: bytes | None = None) -> Any:
        return subprocess.run(
            ["docker", *arguments],
            env={**os.environ, "DOCKER_HOST": self.host},
            input=data,
            capture_output=True,
            check=check,
            timeout=120,
        )

    def make_image(self, name: str, *changes: str, shell: bool = True) -> None:
        words = [word for change in changes for word in ("--change", change)]
        self.docker("import", *words, "-", name, data=root_file_system(shell=shell))

    def containers(self) -> list[str]:
        """The names of all that exist, running or not."""
        return sorted(self.docker("ps", "--all", "--format", "{{.Names}}").stdout.decode().split())

    def running(self) -> list[str]:
        return sorted(self.docker("ps", "--format", "{{.Names}}").stdout.decode().split())

    def processes(self) -> list[str]:
        """The command lines inside all containers, without the first process's."""
        found = []
        for name in self.running():
            lines = self.docker("top", name, "-eo", "pid,args").stdout.decode().splitlines()[1:]
            found += [line.split(None, 1)[1] for line in lines]
        # The host's ps may cut a line short: the first process is known by its beginning too.
        first = ("docker-init", "kill -TERM -1", "trap 'ending=1' TERM")
        return [line for line in found if not any(mark in line for mark in first)]

    def close(self) -> None:
        if self._process.poll() is None:
            for name in self.containers():
                self.docker("rm", "--force", name, check=False)
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(30)
        self._log.close()
        # Containers on the host's network leave its namespace mounted.
        for line in Path("/proc/mounts").read_text().splitlines():
            if (mounted := line.split()[1]).startswith(f"{self.folder}/"):
                subprocess.run(["umount", mounted], check=True)
        shutil.rmtree(self.folder)


class Registry:
    """One image, ``tools:1``, behind a login; every request that came is kept without its credentials."""

    def __init__(self, username: str, password: str) -> None:
        self._allowed = "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()
        layer = root_file_system()
        packed = gzip.compress(layer, 1, mtime=0)
        config = {
            "architecture": "amd64" if os.uname().machine == "x86_64" else "arm64",
            "os": "linux",
            "config": {"Env": ["PATH=/bin", "FROM_REGISTRY=yes"], "Cmd": ["/bin/sh"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
            "history": [{"created_by": "test"}],
        }
        about = json.dumps(config).encode()
        self._blobs = {_digest(data): data for data in (about, packed)}
        kind = "application/vnd.docker."
        described = {
            "schemaVersion": 2,
            "mediaType": f"{kind}distribution.manifest.v2+json",
            "config": {
                "mediaType": f"{kind}container.image.v1+json",
                "size": len(about),
                "digest": _digest(about),
            },
            "layers": [
                {
                    "mediaType": f"{kind}image.rootfs.diff.tar.gzip",
                    "size": len(packed),
                    "digest": _digest(packed),
                }
            ],
        }
        self._manifest = json.dumps(described).encode()
        self.digest = _digest(self._manifest)
        self.requests: list[tuple[str, int]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def answer(self, path: str, credentials: str | None) -> tuple[int, str, bytes]:
        """(status, content type, body) by the distribution protocol."""
        if credentials != self._allowed:
            return 401, "application/json", _refusal("UNAUTHORIZED", "authentication required")
        if path == "/v2/":
            return 200, "application/json", b"{}"
        _, _, rest = path.partition("/v2/tools/")
        kind, _, name = rest.partition("/")
        if kind == "manifests" and name in ("1", self.digest):
            return 200, "application/vnd.docker.distribution.manifest.v2+json", self._manifest
        if kind == "blobs" and name in self._blobs:
            return 200, "application/octet-stream", self._blobs[name]
        return 404, "application/json", _refusal("MANIFEST_UNKNOWN", "manifest unknown")

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(registry: Registry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def _answer(self, *, body: bool) -> None:
            status, kind, data = registry.answer(self.path, self.headers.get("Authorization"))
            registry.requests.append((self.path, status))
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="test"')
            self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            if "/manifests/" in self.path and status == 200:
                self.send_header("Docker-Content-Digest", registry.digest)
            self.end_headers()
            if body:
                self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            return

    return Handler


def _refusal(code: str, message: str) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _add_folder(archive: tarfile.TarFile, name: str, mode: int, owner: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.uid, entry.gid = tarfile.DIRTYPE, mode, owner, owner
    archive.addfile(entry)


def _add_file(archive: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    archive.addfile(entry, io.BytesIO(data))
