"""Errors of definitions, of running states, and of the functions that they call."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["DATA_LIMIT_EXCEEDED", "RUNTIME", "DefinitionError", "FunctionError", "StateError"]

RUNTIME = "States.Runtime"
DATA_LIMIT_EXCEEDED = "States.DataLimitExceeded"


class DefinitionError(Exception):
    """A state machine file cannot be run. ``problems`` names file, state and fix, one line each."""

    def __init__(self, problems: Sequence[str]):
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class StateError(Exception):
    """A running state failed with ``error``, a name that Retry and Catch match, and ``cause``, text."""

    def __init__(self, error: str, cause: str):
        super().__init__(f"{error}: {cause}")
        self.error = error
        self.cause = cause


class FunctionError(Exception):
    """What an invoked function raised: ``error_type`` is the name that Retry and Catch match."""

    def __init__(self, error_type: str, message: str = ""):
        super().__init__(message)
        self.error_type = error_type
        self.message = message
