"""Lambda's data plane: functions as moto has them deployed, run as processes from their own artifacts.

Every call gets an environment that is idle, or a new one: environments are never shared and stay warm. Their
Python has the runtime's own packages (the SDK and the runtime client); everything else has to be in the
layers and in the function's code, in the places where Lambda has them.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from moto.awslambda.utils import get_backend

from tests.deployed.artifacts import put_in_compiled, unpack
from tests.deployed.chaos import Chaos, Fate
from tests.deployed.computers import Computers
from tests.deployed.runtime_api import Environment, Outcome

__all__ = ["RUNTIME_PACKAGES", "LambdaService"]

RUNTIME_PACKAGES = (
    *("awslambdaric", "simplejson", "snapshot-restore-py"),
    *("boto3", "botocore", "jmespath", "python-dateutil", "s3transfer", "six", "urllib3"),
)
"""What AWS's Python image carries: its runtime client and its SDK."""
_MOST_BYTES = 6 * 2**20
_ASKED = ("-api", "-agent", "-authorize")
"""Functions that somebody waits for, some of them until there is something to tell."""
_REST_SECONDS = 10.0


class LambdaService:
    """``invoke`` is the API's Invoke. ``wheels``: those of the core layer, for this machine."""

    def __init__(
        self,
        folder: Path,
        computers: Computers,
        *,
        account: str,
        region: str,
        wheels: Path,
        environ: Mapping[str, str],
    ) -> None:
        """``environ``: what leads a process into the emulated account, beside what Lambda itself sets."""
        self._folder, self._computers = folder, computers
        self._account, self._region = account, region
        self._wheels, self._environ = wheels, environ
        self._image = computers.make("lambda", RUNTIME_PACKAGES)
        self._idle: dict[str, list[Environment]] = defaultdict(list)
        self._lock = threading.Lock()
        self._rest = threading.Condition()
        self._working = 0
        self.environments: dict[str, list[Environment]] = defaultdict(list)
        """All that were ever started, by the function's name."""
        self.calls: dict[str, int] = defaultdict(int)
        self.chaos: Chaos | None = None
        self._fates: dict[str, Fate] = {}

    def function(self, name_or_arn: str, qualifier: str | None = None) -> Any:
        """moto's function at that version or alias. Raises moto's ``UnknownFunctionException``."""
        return get_backend(self._account, self._region).get_function(name_or_arn, qualifier)

    def retries(self, arn: str) -> int:
        """How often an asynchronous call of it is tried again: what the stack says, else Lambda's two."""
        configured = self.function(arn.rpartition(":")[0]).event_invoke_config
        return int(configured[0].config["MaximumRetryAttempts"]) if configured else 2

    def invoke(
        self, name_or_arn: str, payload: bytes, qualifier: str | None = None, *, repeats: bool = False
    ) -> Outcome:
        """Synchronous; the caller has looked at the permissions. ``repeats``: it may call twice for once."""
        function = self.function(name_or_arn, qualifier)
        self.calls[function.function_name] += 1
        if len(payload) > _MOST_BYTES:
            return Outcome.error(
                "RequestEntityTooLargeException", "Request must be smaller than 6291456 bytes"
            )
        if self.chaos is None or not repeats:
            return self._run(function, payload)
        return self.chaos.fate(f"{function.function_name} again").deliver(
            lambda: self._run(function, payload)
        )

    def _run(self, function: Any, payload: bytes) -> Outcome:
        def call() -> Outcome:
            return environment.invoke(function.function_arn, payload, seconds=float(function.timeout))

        with self._at_work(function), self._environment(function) as environment:
            if self.chaos is None:
                return call()
            fate = self._fates[environment.name] = self.chaos.fate(function.function_name)
            try:
                return fate.run(environment, call)
            finally:
                del self._fates[environment.name]

    @contextmanager
    def _at_work(self, function: Any) -> Iterator[None]:
        work = not function.function_name.endswith(_ASKED)
        with self._rest:
            self._working += work
        try:
            yield
        finally:
            with self._rest:
                self._working -= work
                self._rest.notify_all()

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """While no function is at work on machines and none begins, or beside those that never rest."""
        with self._rest:
            self._rest.wait_for(lambda: not self._working, _REST_SECONDS)
            yield

    def fate_of(self, environ: Mapping[str, Any]) -> Fate | None:
        """What is in store for the call that sends this request to AWS."""
        found = re.search(r"\bapp/(\S+)", str(environ.get("HTTP_USER_AGENT", "")))
        return self._fates.get(found.group(1)) if found else None

    def close(self) -> None:
        for environments in self.environments.values():
            for environment in environments:
                if environment.alive:
                    environment.stop()

    def logs(self) -> dict[str, str]:
        """What each function wrote, by its name."""
        return {path.stem: path.read_text(errors="replace") for path in self._folder.glob("*.log")}

    @contextmanager
    def _environment(self, function: Any) -> Iterator[Environment]:
        arn = function.function_arn
        with self._lock:
            idle = self._idle[arn]
            environment = idle.pop() if idle else None
        if environment is None or not environment.alive:
            environment = self.start(function)
        yield environment
        if environment.alive:
            with self._lock:
                self._idle[arn].append(environment)
        else:
            environment.stop()

    def start(self, function: Any) -> Environment:
        """A fresh environment of its own."""
        name = function.function_name
        with self._lock:
            task, layers = self._unpacked(function)
            number = len(self.environments[name])
            own = self._folder / f"{name}-{number}"
            own.mkdir()
            environment = Environment(
                [str(self._image.python), "-m", "awslambdaric", function.handler],
                cwd=task,
                environ=self._variables(function, task, layers, own),
                log=self._folder / f"{name}.log",
                now=self._computers.now,
                name=own.name,
            )
            self.environments[name].append(environment)
        return environment

    def _variables(self, function: Any, task: Path, layers: list[Path], temporary: Path) -> dict[str, str]:
        """The template's, and those that Lambda sets.

        https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html#configuration-envvars-runtime
        """
        role = function.role.rpartition("/")[2]
        return {
            "PATH": f"{self._image.bin}:/usr/local/bin:/usr/bin:/bin",
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "TMPDIR": str(temporary),
            "PYTHONPATH": ":".join(map(str, [task, *(layer / "python" for layer in layers)])),
            # Lambda's file system takes no bytecode; what was deployed with it is used.
            "PYTHONDONTWRITEBYTECODE": "1",
            "LAMBDA_TASK_ROOT": str(task),
            "_HANDLER": function.handler,
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{function.run_time}",
            "AWS_REGION": self._region,
            "AWS_DEFAULT_REGION": self._region,
            "AWS_ACCESS_KEY_ID": f"ASIA{hashlib.sha256(role.encode()).hexdigest()[:16].upper()}",
            "AWS_SECRET_ACCESS_KEY": role,
            "AWS_SESSION_TOKEN": role,
            "AWS_LAMBDA_FUNCTION_NAME": function.function_name,
            "AWS_LAMBDA_FUNCTION_VERSION": str(function.version),
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_size),
            # Tells whose a request is.
            "AWS_SDK_UA_APP_ID": temporary.name,
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": function.logging["LogGroup"],
            "AWS_LAMBDA_LOG_STREAM_NAME": "stream",
            "AWS_LAMBDA_LOG_FORMAT": function.logging["LogFormat"],
            "AWS_LAMBDA_LOG_LEVEL": function.logging["ApplicationLogLevel"],
            **self._computers.environ,
            **self._environ,
            **function.environment_vars,
        }

    def _unpacked(self, function: Any) -> tuple[Path, list[Path]]:
        """Where the function's code and its layers are, each unpacked once."""
        task = self._folder / "task" / f"{function.function_name}-{function.version}"
        if not task.is_dir():
            unpack(function.code_bytes, task)
        return task, [self._layer(layer["Arn"]) for layer in function.layers]

    def _layer(self, arn: str) -> Path:
        layer = get_backend(self._account, self._region).layers_versions_by_arn(arn)
        assert layer is not None, arn
        folder = self._folder / "opt" / str(layer.code_digest)
        if not folder.is_dir():
            unpack(layer.code_bytes, folder)
            put_in_compiled(folder / "python", self._wheels)
        return folder
