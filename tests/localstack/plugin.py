"""Runs inside LocalStack's environment: LocalStack, with what its packages leave to Docker and downloads.

Functions are processes of AWS's runtime client, from their own artifacts, as in ``tests/deployed``. The table
is moto's, one request at a time: its conditional writes are not atomic between threads.
"""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import Any

from localstack.services.dynamodb.server import DynamodbServer
from localstack.services.lambda_.invocation import runtime_executor
from localstack.services.lambda_.invocation.lambda_models import FunctionVersion, InvocationResult

from tests.deployed.artifacts import put_in_compiled
from tests.deployed.runtime_api import Environment

__all__ = ["ProcessExecutor", "main"]

FOLDER = Path(os.environ["STIX_LOCALSTACK_FOLDER"])
PYTHON = os.environ["STIX_LOCALSTACK_LAMBDA_PYTHON"]
WHEELS = Path(os.environ["STIX_LOCALSTACK_WHEELS"])


class ProcessExecutor(runtime_executor.RuntimeExecutor):
    """LocalStack's contract of an execution environment, as a child process of this machine."""

    _unpacking = threading.Lock()

    def start(self, env_vars: dict[str, str]) -> None:
        config = self.function_version.config
        task = config.code.get_unzipped_code_location()
        with self._unpacking:
            layers = [self._layer(layer) for layer in config.layers]
        for folder in ("tmp", "logs"):
            (FOLDER / folder).mkdir(exist_ok=True)
        environ = {key: str(value) for key, value in env_vars.items()} | {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "TMPDIR": str(FOLDER / "tmp"),
            "PYTHONPATH": ":".join(map(str, [task, *(layer / "python" for layer in layers)])),
            "LAMBDA_TASK_ROOT": str(task),
            "AWS_LAMBDA_LOG_FORMAT": "JSON",
        }
        self._environment = Environment(
            [PYTHON, "-m", "awslambdaric", config.handler],
            cwd=task,
            environ=environ,
            log=FOLDER / "logs" / f"{self.function_version.id.function_name}.log",
        )
        if (failed := self._environment.wait_ready()) is not None:
            raise runtime_executor.LambdaRuntimeException(failed.payload.decode())

    def stop(self) -> None:
        self._environment.stop()

    def get_address(self) -> str:
        return "127.0.0.1"

    def get_endpoint_from_executor(self) -> str:
        return "127.0.0.1"

    def get_runtime_endpoint(self) -> str:
        return ""  # the environment has a Runtime API of its own

    def invoke(self, payload: dict[str, str]) -> InvocationResult:
        seconds = float(self.function_version.config.timeout)
        body = payload["payload"].encode()
        outcome = self._environment.invoke(payload["invoked-function-arn"], body, seconds=seconds)
        return InvocationResult(payload["invoke-id"], outcome.payload, outcome.failed, logs="")

    def get_logs(self) -> str:
        return self._environment.log.read_text(errors="replace")

    @classmethod
    def prepare_version(cls, function_version: FunctionVersion) -> None:
        for code in (function_version.config.code, *(layer.code for layer in function_version.config.layers)):
            code.prepare_for_execution()

    @classmethod
    def cleanup_version(cls, function_version: FunctionVersion) -> None:
        return

    @staticmethod
    def _layer(layer: Any) -> Path:
        """Unpacked once, with this machine's compiled files."""
        folder = FOLDER / "opt" / str(layer.code.id)
        if not folder.is_dir():
            layer.code.prepare_for_execution()
            shutil.copytree(layer.code.get_unzipped_code_location(), folder)
            put_in_compiled(folder / "python", WHEELS)
        return folder


class _Executors:
    """In place of LocalStack's plugin manager: one executor, by whatever name. ``load`` twice gives it."""

    def exists(self, name: str) -> bool:
        return True

    def load(self, name: str = "") -> Any:
        return self if name else ProcessExecutor


_table_started = threading.Event()


def _start_table(server: DynamodbServer) -> bool:
    """moto's DynamoDB behind LocalStack's."""
    if _table_started.is_set():
        return True
    _table_started.set()
    from moto.dynamodb.responses import DynamoHandler
    from moto.server import ThreadedMotoServer

    lock, original = threading.RLock(), DynamoHandler.call_action

    def call_action(self: Any) -> Any:
        with lock:
            return original(self)

    DynamoHandler.call_action = call_action
    ThreadedMotoServer("127.0.0.1", server.port, verbose=False).start()
    return True


def main() -> None:
    from localstack.runtime.main import main as run

    runtime_executor.EXECUTOR_PLUGIN_MANAGER = _Executors()
    DynamodbServer.start_dynamodb = _start_table
    DynamodbServer.stop_dynamodb = lambda server: None
    DynamodbServer.wait_for_dynamodb = lambda server: None
    DynamodbServer.check_dynamodb = lambda server, expect_shutdown=False: None
    run()


if __name__ == "__main__":
    main()
