"""One execution environment of Lambda: a child process of AWS's own runtime client, behind a Runtime API.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil

__all__ = ["Environment", "Outcome"]

_INIT_SECONDS = 60.0
"""AWS gives ten; a busy test machine may need longer."""
_MOST_BYTES = 6 * 2**20


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a call: the function's answer, or with ``failed`` AWS's description of an error."""

    payload: bytes
    failed: bool = False

    @classmethod
    def error(cls, kind: str, words: str) -> Outcome:
        return cls(json.dumps({"errorType": kind, "errorMessage": words}).encode(), failed=True)


class Environment:
    """Started at once; ``invoke`` makes one call at a time. Not ``alive``: it cannot be used again."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        environ: Mapping[str, str],
        log: Path,
        now: Callable[[], float] = time.time,
        name: str = "",
    ) -> None:
        self.name = name
        self._killed: Outcome | None = None
        self._now = now
        self._calls: queue.Queue[_Call] = queue.Queue()
        self._outcomes: queue.Queue[Outcome] = queue.Queue()
        self._ready = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Requests)
        self._server.environment = self  # type: ignore[attr-defined]
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        api = f"127.0.0.1:{self._server.server_port}"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=cwd,
                env={**environ, "AWS_LAMBDA_RUNTIME_API": api},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.log = log

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def cpu_seconds(self) -> float:
        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system)

    def wait_ready(self, seconds: float = _INIT_SECONDS) -> Outcome | None:
        """None once the function's modules are imported, else what went wrong with that."""
        deadline = time.monotonic() + seconds
        while not self._ready.wait(0.02):
            if not self._outcomes.empty():
                return self._outcomes.get()
            if not self.alive or time.monotonic() > deadline:
                self.stop()
                return self._exited("init")
        return None

    def invoke(self, arn: str, payload: bytes, *, seconds: float) -> Outcome:
        """The outcome within ``seconds``; then the process is killed, as AWS does."""
        if (failed := self.wait_ready()) is not None:
            self.stop()
            return failed
        call = _Call(str(uuid.uuid4()), arn, payload, self._now() + seconds)
        self._calls.put(call)
        deadline = time.monotonic() + seconds
        while True:
            try:
                outcome = self._outcomes.get(timeout=0.05)
            except queue.Empty:
                if time.monotonic() > deadline:
                    self.stop()
                    words = f"RequestId: {call.id} Error: Task timed out after {seconds:.2f} seconds"
                    return Outcome.error("Sandbox.Timedout", words)
                if not self.alive:
                    self.stop()
                    return self._exited(call.id)
                continue
            if len(outcome.payload) > _MOST_BYTES:
                words = f"Response payload size exceeded maximum allowed payload size ({_MOST_BYTES} bytes)."
                return Outcome.error("Function.ResponseSizeTooLarge", words)
            return outcome

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._calls.put(_END)
        self._server.shutdown()
        self._server.server_close()

    def kill(self, outcome: Outcome) -> None:
        """At once, whatever it does: ``outcome`` is what the call under way comes to."""
        self._killed = outcome
        self._process.kill()
        self._process.wait()

    def _exited(self, request: str) -> Outcome:
        if self._killed is not None:
            return self._killed
        status = self._process.returncode
        words = f"RequestId: {request} Error: Runtime exited with error: exit status {status}"
        return Outcome.error("Runtime.ExitError", words)

    # --- the Runtime API's side ---

    def next_call(self) -> _Call:
        self._ready.set()
        return self._calls.get()

    def answered(self, outcome: Outcome) -> None:
        self._outcomes.put(outcome)


@dataclass(frozen=True, slots=True)
class _Call:
    id: str
    arn: str
    payload: bytes
    deadline: float


_END = _Call("", "", b"", 0.0)


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A function that was killed says no goodbye."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Requests(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        return

    @property
    def _environment(self) -> Environment:
        return self.server.environment  # type: ignore[attr-defined, no-any-return]

    def do_GET(self) -> None:
        assert self.path == "/2018-06-01/runtime/invocation/next", self.path
        call = self._environment.next_call()
        if call is _END:
            self.close_connection = True
            return
        self.send_response(200)
        self.send_header("Lambda-Runtime-Aws-Request-Id", call.id)
        self.send_header("Lambda-Runtime-Deadline-Ms", str(int(call.deadline * 1000)))
        self.send_header("Lambda-Runtime-Invoked-Function-Arn", call.arn)
        self.send_header(
            "Lambda-Runtime-Trace-Id", f"Root=1-{int(time.time()):08x}-{call.id[-24:]};Sampled=0"
        )
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(call.payload)))
        self.end_headers()
        self.wfile.write(call.payload)

    def do_POST(self) -> None:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = self._chunks()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind = self.path.rpartition("/")[2]
        assert kind in ("response", "error"), self.path
        self._environment.answered(Outcome(body, failed=kind == "error"))
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body
