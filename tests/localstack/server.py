"""LocalStack as a process: of an environment of its own, or wherever one answers already."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from tests.deployed.computers import Computers
from tests.deployed.lambda_service import RUNTIME_PACKAGES

__all__ = ["ACCOUNT", "REGION", "LocalStack"]

ROOT = Path(__file__).resolve().parents[2]
ACCOUNT, REGION = "000000000000", "us-east-1"
_SETTINGS = {
    "DISABLE_EVENTS": "1",
    "SKIP_SSL_CERT_DOWNLOAD": "1",
    "DNS_ADDRESS": "0",
    "LAMBDA_RUNTIME_EXECUTOR": "process",
    "LAMBDA_SYNCHRONOUS_CREATE": "1",
    "LAMBDA_IGNORE_ARCHITECTURE": "1",
    "CFN_IGNORE_UNSUPPORTED_RESOURCE_TYPES": "0",
    "EAGER_SERVICE_LOADING": "0",
    "LS_LOG": "warning",
}


class LocalStack:
    """``environment``: the virtual environment with LocalStack in it. ``logs`` are of functions, by name."""

    def __init__(self, folder: Path, environment: Path, *, wheels: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._folder = folder
        self.url = f"http://127.0.0.1:{port}"
        image = Computers(folder / "computers", "*.invalid").make("lambda", RUNTIME_PACKAGES)
        self.output = folder / "localstack.log"
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        with self.output.open("wb") as output:
            self._process = subprocess.Popen(
                [str(environment / "bin" / "python"), "-m", "tests.localstack.plugin"],
                cwd=ROOT,
                env={
                    **kept,
                    **_SETTINGS,
                    "PYTHONPATH": str(ROOT),
                    "GATEWAY_LISTEN": f"127.0.0.1:{port}",
                    "FILESYSTEM_ROOT": str(folder / "ls"),
                    "STIX_LOCALSTACK_FOLDER": str(folder),
                    "STIX_LOCALSTACK_LAMBDA_PYTHON": str(image.python),
                    "STIX_LOCALSTACK_WHEELS": str(wheels),
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

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

    def logs(self) -> dict[str, str]:
        return {path.stem: path.read_text(errors="replace") for path in (self._folder / "logs").glob("*.log")}

    def stop(self) -> None:
        """It and its functions: they are one session."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
