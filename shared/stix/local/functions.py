"""The Lambda functions as this process runs them: the same handlers, a pool of threads each."""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from stix.local.interpreter.errors import FunctionError
from stix.local.turns import Turns
from stix.local.workers import WorkerPool
from stix.model.errors import StixError

__all__ = [
    "FUNCTIONS",
    "PAYLOAD_LIMIT",
    "Context",
    "FunctionSize",
    "Functions",
    "Handler",
    "PayloadTooLargeError",
    "bundle_folder",
    "import_handlers",
]

logger = logging.getLogger(__name__)

_REQUESTS = frozenset({"api", "agent", "authorize"})
"""Functions that somebody waits for."""

PAYLOAD_LIMIT = 6 * 1024 * 1024
"""Bytes of a synchronous invocation's payload, and of its answer, in AWS Lambda."""


class Handler(Protocol):
    def __call__(self, event: Any, context: Any, /) -> Any: ...


class PayloadTooLargeError(Exception):
    """The payload is larger than ``PAYLOAD_LIMIT``; nothing was invoked."""


@dataclass(frozen=True, slots=True)
class FunctionSize:
    """How many invocations run at a time, and the seconds that an invocation is told it has."""

    threads: int = 1
    timeout_seconds: float = 300.0


FUNCTIONS: Mapping[str, FunctionSize] = MappingProxyType(
    {
        # Threads that wait for the disk together: their writes share one fsync.
        "api": FunctionSize(8, 29.0),
        "agent": FunctionSize(8, 29.0),
        "authorize": FunctionSize(1, 10.0),
        # Provider calls are slow and must not hold each other up; their threads wait, they do not compute.
        "optimize": FunctionSize(2),
        "provision": FunctionSize(8),
        "monitor": FunctionSize(2),
        "catalog": FunctionSize(2, 600.0),
        "recover": FunctionSize(4),
        "autoscale": FunctionSize(4),
    }
)


@dataclass(frozen=True, slots=True)
class Context:
    """What AWS Lambda passes as ``context``, as far as anything reads it."""

    function_name: str
    aws_request_id: str
    deadline: float = field(repr=False)
    function_version: str = "$LATEST"
    memory_limit_in_mb: int = 512
    log_group_name: str = ""
    log_stream_name: str = ""
    identity: None = None
    client_context: None = None

    @property
    def invoked_function_arn(self) -> str:
        return f"arn:aws:lambda:local:000000000000:function:{self.function_name}"

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self.deadline - time.monotonic()) * 1000))


class Functions:
    """Invokes handlers by name.

    ``invoke`` runs in the calling thread, ``submit`` queues work on the pool of one function. Payloads and
    answers pass through JSON, as they do between AWS services, so that nothing else can slip through here.
    """

    def __init__(self, handlers: Mapping[str, Handler], sizes: Mapping[str, FunctionSize] = FUNCTIONS):
        self._handlers = dict(handlers)
        self._sizes = {name: sizes.get(name, FunctionSize()) for name in self._handlers}
        self._pools = {
            name: WorkerPool(name, size.threads, ordered=name not in _REQUESTS)
            for name, size in self._sizes.items()
        }
        self._turns = Turns()

    def invoke(self, name: str, payload: Mapping[str, Any]) -> Any:
        """The handler's answer. Raises ``FunctionError`` with the name of the exception's class when the
        handler raised, ``PayloadTooLargeError``, and ``KeyError`` for an unknown function."""
        handler = self._handlers[name]
        text = json.dumps(payload, allow_nan=False)
        if len(text) > PAYLOAD_LIMIT:
            raise PayloadTooLargeError(
                f"{len(text)} bytes are more than the {PAYLOAD_LIMIT} of an invocation"
            )
        context = Context(
            name, str(uuid.uuid4()), deadline=time.monotonic() + self._sizes[name].timeout_seconds
        )
        try:
            answer = json.dumps(handler(json.loads(text), context), allow_nan=False)
        except StixError as exc:
            # Part of the contract between functions and state machines (throttled, not yet ended ...).
            logger.warning("the function %s raised %s: %s", name, type(exc).__name__, exc)
            raise FunctionError(type(exc).__name__, str(exc)) from exc
        except Exception as exc:
            logger.exception("the function %s failed, request %s", name, context.aws_request_id)
            raise FunctionError(type(exc).__name__, str(exc)) from exc
        if len(answer) > PAYLOAD_LIMIT:
            raise FunctionError(
                "Function.ResponseSizeTooLarge",
                f"The answer of {name} has {len(answer)} bytes; at most {PAYLOAD_LIMIT} are allowed.",
            )
        return json.loads(answer)

    def submit(self, name: str, work: Callable[[], None], order: float = 0.0) -> None:
        """Run ``work`` on a thread of the function ``name``, before what waits there with a greater ``order``
        and after what was queued before with the same."""
        turn = self._turns.request(work) if name in _REQUESTS else lambda: self._turns.run(work)
        self._pools[name].submit(turn, order)

    def close(self, seconds: float) -> bool:
        """Begin nothing new and wait for the invocations in progress; False when some outlast ``seconds``."""
        deadline = time.monotonic() + seconds
        for pool in self._pools.values():
            pool.stop()
        ended = [pool.join(max(0.0, deadline - time.monotonic())) for pool in self._pools.values()]
        return all(ended)


def bundle_folder() -> Path:
    """The folder that holds ``functions/`` and ``infra/``: this file's clone, or what was unpacked."""
    return Path(__file__).resolve().parents[3]


def import_handlers(names: Iterable[str] = FUNCTIONS) -> dict[str, Handler]:
    """The handlers ``functions.<name>.handler.handler`` of the bundle. Raises ``ImportError``."""
    # powertools' tracer would look for the X-Ray SDK, and its logger for a service's name.
    os.environ.setdefault("POWERTOOLS_TRACE_DISABLED", "1")
    os.environ.setdefault("POWERTOOLS_SERVICE_NAME", "stix")
    folder = str(bundle_folder())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return {name: importlib.import_module(f"functions.{name}.handler").handler for name in names}
