"""LocalStack in host mode, a process of an environment of its own, or as a container of its image."""

from __future__ import annotations

import json
import os
import platform
import signal
import socket
import subprocess
import time
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from layers.build import PACKAGE_LAYER, download
from tests.deployed.artifacts import PACKAGE, put_in_compiled
from tests.deployed.computers import Computers
from tests.deployed.lambda_service import RUNTIME_PACKAGES

__all__ = ["ACCOUNT", "REGION", "Container", "HostMode", "LocalStack"]

ROOT = Path(__file__).resolve().parents[2]
ACCOUNT, REGION = "000000000000", "us-east-1"
_SETTINGS = {
    "DISABLE_EVENTS": "1",
    "SKIP_SSL_CERT_DOWNLOAD": "1",
    "LAMBDA_SYNCHRONOUS_CREATE": "1",
    "LAMBDA_IGNORE_ARCHITECTURE": "1",
    "CFN_IGNORE_UNSUPPORTED_RESOURCE_TYPES": "0",
    "EAGER_SERVICE_LOADING": "0",
    "LS_LOG": "warning",
}
_KEPT = ("PATH", "HOME", "LANG", "DOCKER_HOST")
_INNER_PORT = 4566


class LocalStack(ABC):
    """``url`` is its address from here, ``inner_url`` the same as it calls itself."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = self.inner_url = f"http://127.0.0.1:{self.port}"
        self.output = folder / "localstack.log"

    @abstractmethod
    def logs(self) -> dict[str, str]:
        """What functions wrote, by name."""

    @abstractmethod
    def stop(self) -> None:
        """It and its functions."""

    @abstractmethod
    def adapt(self, assembly: Path) -> None:
        """Layers of ``assembly``, which are for arm64, to the processor that will run them."""

    def wait_ready(self, seconds: float = 120) -> None:
        """Raises ``AssertionError`` with what it wrote when it does not answer."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._process.poll() is None:
            with (
                suppress(OSError),
                urllib.request.urlopen(f"{self.url}/_localstack/health", timeout=5) as answer,
            ):
                if json.load(answer).get("services"):
                    return
            time.sleep(0.2)
        raise AssertionError(self.output.read_text(errors="replace")[-4000:])

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(read_timeout=300, retries={"max_attempts": 0}, s3={"addressing_style": "path"}),
        )

    def _start(self, command: Sequence[str], environ: Mapping[str, str]) -> None:
        with self.output.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={name: os.environ[name] for name in _KEPT if name in os.environ} | environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


class HostMode(LocalStack):
    """``environment``: the virtual environment with LocalStack in it. Functions are processes of this
    machine's Python, by the plugin beside this module."""

    def __init__(self, folder: Path, environment: Path) -> None:
        super().__init__(folder)
        self._folder = folder
        image = Computers(folder / "computers", "*.invalid").make("lambda", RUNTIME_PACKAGES)
        own = {
            "DNS_ADDRESS": "0",
            "LAMBDA_RUNTIME_EXECUTOR": "process",
            "PYTHONPATH": str(ROOT),
            "GATEWAY_LISTEN": f"127.0.0.1:{self.port}",
            "FILESYSTEM_ROOT": str(folder / "ls"),
            "STIX_LOCALSTACK_FOLDER": str(folder),
            "STIX_LOCALSTACK_LAMBDA_PYTHON": str(image.python),
            "STIX_LOCALSTACK_WHEELS": str(download(PACKAGE_LAYER, "host")),
        }
        self._start([str(environment / "bin" / "python"), "-m", "tests.localstack.plugin"], _SETTINGS | own)

    def adapt(self, assembly: Path) -> None:
        """The plugin does that, of what it unpacks."""

    def logs(self) -> dict[str, str]:
        return {path.stem: path.read_text(errors="replace") for path in (self._folder / "logs").glob("*.log")}

    def stop(self) -> None:
        # They are one session.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


class Container(LocalStack):
    """``image`` on this machine's Docker engine, which also runs the functions, in AWS's own images."""

    def __init__(self, folder: Path, image: str) -> None:
        super().__init__(folder)
        self.inner_url = f"http://localhost:{_INNER_PORT}"
        self._name = f"stix-localstack-{os.getpid()}"
        settings = _SETTINGS | {"MAIN_CONTAINER_NAME": self._name}
        token = "LOCALSTACK_AUTH_TOKEN"  # which some of its images ask for
        settings |= {token: os.environ[token]} if token in os.environ else {}
        command = ["docker", "run", "--rm", "--name", self._name]
        command += ["--publish", f"127.0.0.1:{self.port}:{_INNER_PORT}"]
        command += ["--volume", "/var/run/docker.sock:/var/run/docker.sock"]
        for name in settings:
            command += [
                "--env",
                name,
            ]  # with its value from the environment, where no list of processes shows it
        self._start([*command, image], settings)

    def adapt(self, assembly: Path) -> None:
        if platform.machine() == "x86_64":
            for folder in assembly.glob(f"asset.*/python/{PACKAGE}"):
                put_in_compiled(folder.parent, download(PACKAGE_LAYER, "x86_64"))

    def logs(self) -> dict[str, str]:
        client, found = self.client("logs"), {}
        for page in client.get_paginator("describe_log_groups").paginate():
            for group in page["logGroups"]:
                name = group["logGroupName"]
                events = client.get_paginator("filter_log_events").paginate(logGroupName=name)
                lines = [one["message"] for some in events for one in some["events"]]
                found[name.rpartition("/")[2]] = "\n".join(lines)
        return found

    def stop(self) -> None:
        """LocalStack removes its functions' containers when it is told to end."""
        subprocess.run(["docker", "stop", "--time", "30", self._name], check=False, capture_output=True)
        self._process.wait(60)
