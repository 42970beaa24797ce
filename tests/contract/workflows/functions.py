"""The functions that the conformance cases call, the same for every engine."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from stix.local.interpreter import FunctionError
from stix.ports.workflows import Workflows


class Functions:
    """``pause`` lets seconds pass: of the wall clock or of a virtual one."""

    def __init__(self, workflows: Callable[[], Workflows], pause: Callable[[float], None]):
        self._workflows = workflows
        self._pause = pause
        self._lock = threading.Lock()
        self.calls: Counter[str] = Counter()

    def __call__(self, function: str, payload: Any) -> Any:
        return getattr(self, "do_" + function)(payload)

    def _count(self, payload: dict[str, Any]) -> int:
        with self._lock:
            self.calls[payload["key"]] += 1
            return self.calls[payload["key"]]

    def do_echo(self, payload: Any) -> Any:
        return payload

    def do_fail(self, payload: dict[str, Any]) -> Any:
        raise FunctionError(payload["error"], payload["message"])

    def do_flaky(self, payload: dict[str, Any]) -> Any:
        calls = self._count(payload)
        if calls <= payload["failures"]:
            raise FunctionError("Flaky", f"call {calls}")
        return {"calls": calls} | ({"retry": payload["retry"]} if "retry" in payload else {})

    def do_errors(self, payload: dict[str, Any]) -> Any:
        calls = self._count(payload)
        if calls <= len(payload["errors"]):
            raise FunctionError(payload["errors"][calls - 1])
        return {"calls": calls}

    def do_calls(self, payload: dict[str, Any]) -> int:
        return self.calls[payload["key"]]

    def do_slow(self, payload: dict[str, Any]) -> Any:
        self._pause(payload["seconds"])
        return payload

    def do_big(self, payload: dict[str, Any]) -> str:
        return "x" * payload["size"]

    def do_answer(self, payload: dict[str, Any]) -> None:
        self._workflows().succeed(payload["token"], {"answer": payload["value"]})

    def do_refuse(self, payload: dict[str, Any]) -> None:
        self._workflows().fail(payload["token"], payload["error"], payload["cause"])

    def do_refuse_once(self, payload: dict[str, Any]) -> None:
        calls = self._count(payload)
        if calls == 1:
            self._workflows().fail(payload["token"], "No", "not yet")
        else:
            self._workflows().succeed(payload["token"], {"calls": calls})
