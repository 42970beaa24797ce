"""moto's interpreter of the States Language, made to run deployed definitions with deployed functions.

It is LocalStack's, with task tokens, Retry and Catch of its own, and so a second opinion on our definitions
beside the interpreter of the embedded runtime. Four things are put right: it runs nothing unless it is told
to, makes a client for each task with an address that it takes from the environment, parses with parsers that
its threads share though they are not made for that, and waits by another clock than the account's.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest.mock import patch

from moto.core.config import default_user_config
from moto.stepfunctions.parser.asl.component.common.path import result_path
from moto.stepfunctions.parser.asl.component.common.retry import retrier_decl
from moto.stepfunctions.parser.asl.component.state.exec import execute_state
from moto.stepfunctions.parser.asl.component.state.exec.state_task import lambda_eval_utils
from moto.stepfunctions.parser.asl.component.state.wait.wait_function.wait_function import WaitFunction
from moto.stepfunctions.parser.asl.parse.asl_parser import AmazonStateLanguageParser
from moto.stepfunctions.parser.asl.utils import json_path

__all__ = ["running_interpreter"]

T = TypeVar("T")
_LONGEST_CALL = 600.0
_LOOK_SECONDS = 0.1


@contextmanager
def running_interpreter(functions: Any, now: Callable[[], float]) -> Iterator[None]:
    """State machines that are started run. ``functions``: a client of Lambda, ``now``: its clock."""
    lock = threading.RLock()

    def alone(parse: Callable[[str], T]) -> Callable[[str], T]:
        def parse_alone(text: str) -> T:
            with lock:
                return parse(text)

        return parse_alone

    def sleep(seconds: float, going_on: Callable[[], bool] = lambda: True) -> None:
        until = now() + seconds
        while now() < until and going_on():
            time.sleep(min(_LOOK_SECONDS, max(until - now(), 0.0)))

    class Event(threading.Event):
        """Calls of functions have limits of their own; what waits longer waits for a task token."""

        def wait(self, timeout: float | None = None) -> bool:
            if timeout is None or timeout <= _LONGEST_CALL:
                return super().wait(timeout)
            sleep(timeout, lambda: not super(Event, self).wait(_LOOK_SECONDS))
            return self.is_set()

    logger = logging.getLogger("moto.stepfunctions")
    level = logger.level
    with (
        patch.dict(default_user_config, {"stepfunctions": {"execute_state_machine": True}}),
        patch.object(lambda_eval_utils, "boto_client_for", lambda **_given: functions),
        patch.object(result_path, "parse", cache(alone(result_path.parse))),
        patch.object(json_path, "parse", cache(alone(json_path.parse))),
        patch.object(
            WaitFunction, "_wait_interval", lambda _, env, wait_seconds: sleep(wait_seconds, env.is_running)
        ),
        patch.object(retrier_decl, "time", SimpleNamespace(sleep=sleep)),
        patch.object(execute_state, "threading", SimpleNamespace(Event=Event)),
        patch.object(AmazonStateLanguageParser, "parse", cache(alone(AmazonStateLanguageParser.parse))),
    ):
        # It logs a traceback for every failure of a state, also of those that are caught.
        logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            logger.setLevel(level)
