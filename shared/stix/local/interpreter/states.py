"""Prepared states: what the engine runs. ``next`` None ends the block. Amounts are seconds or counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .choice import Rule
from .intrinsics import Expression
from .paths import Path
from .retry import Catcher, Retrier

__all__ = [
    "Amount",
    "Block",
    "ChoiceState",
    "FailState",
    "MapState",
    "ParallelState",
    "PassState",
    "State",
    "SucceedState",
    "TaskState",
    "WaitState",
]

Amount = float | Expression
Integration = Literal["function", "invoke", "execution"]
Pattern = Literal["request", "sync", "sync2", "token"]


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    name: str
    next: str | None = None
    input_path: Path | None  # None discards: {}
    output_path: Path | None
    parameters: Expression | None = None
    result_selector: Expression | None = None
    result_path: Path | None  # None discards the result
    retry: tuple[Retrier, ...] = ()
    catch: tuple[Catcher, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PassState(State):
    result: Any = None
    has_result: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskState(State):
    integration: Integration
    pattern: Pattern
    function: str  # of a direct function ARN, else empty
    timeout: Amount | None
    heartbeat: Amount | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceState(State):
    rules: tuple[tuple[Rule, str], ...]
    default: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitState(State):
    seconds: Amount | None
    timestamp: float | Expression | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SucceedState(State):
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class FailState(State):
    error: str | Expression
    cause: str | Expression


@dataclass(frozen=True, slots=True, kw_only=True)
class ParallelState(State):
    branches: tuple[Block, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MapState(State):
    items: Path
    processor: Block
    concurrency: Amount
    tolerated_count: Amount | None
    tolerated_percentage: Amount | None


@dataclass(frozen=True, slots=True)
class Block:
    """States that run together: the machine, a branch of a Parallel, the processor of a Map."""

    start_at: str
    states: Mapping[str, State]
