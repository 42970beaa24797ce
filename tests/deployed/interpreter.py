"""moto's interpreter of the States Language, made to run deployed definitions with deployed functions.

It is LocalStack's, with task tokens, Retry and Catch of its own, and so a second opinion on our definitions
beside the interpreter of the embedded runtime. Three things are put right: it runs nothing unless it is told
to, makes a client for each task with an address that it takes from the environment, and parses with parsers
that its threads share though they are not made for that.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar
from unittest.mock import patch

from moto.core.config import default_user_config
from moto.stepfunctions.parser.asl.component.common.path import result_path
from moto.stepfunctions.parser.asl.component.state.exec.state_task import lambda_eval_utils
from moto.stepfunctions.parser.asl.parse.asl_parser import AmazonStateLanguageParser
from moto.stepfunctions.parser.asl.utils import json_path

__all__ = ["running_interpreter"]

T = TypeVar("T")


@contextmanager
def running_interpreter(functions: Any) -> Iterator[None]:
    """State machines that are started run. ``functions`` is a client of Lambda."""
    lock = threading.RLock()

    def alone(parse: Callable[[str], T]) -> Callable[[str], T]:
        def parse_alone(text: str) -> T:
            with lock:
                return parse(text)

        return parse_alone

    logger = logging.getLogger("moto.stepfunctions")
    level = logger.level
    with (
        patch.dict(default_user_config, {"stepfunctions": {"execute_state_machine": True}}),
        patch.object(lambda_eval_utils, "boto_client_for", lambda **_given: functions),
        patch.object(result_path, "parse", cache(alone(result_path.parse))),
        patch.object(json_path, "parse", cache(alone(json_path.parse))),
        patch.object(AmazonStateLanguageParser, "parse", alone(AmazonStateLanguageParser.parse)),
    ):
        # It logs a traceback for every failure of a state, also of those that are caught.
        logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            logger.setLevel(level)
