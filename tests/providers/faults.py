"""Faults that a test asks a provider's test server for, one rule each."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

__all__ = ["Fault", "Faults", "Kind"]


class Kind(StrEnum):
    REFUSE = "refuse"
    """Answer with the provider's error ``code``."""
    THROTTLE = "throttle"
    """Answer as the provider does above its rate limit."""
    LOSE_ANSWER = "lose_answer"
    """Do it, then break the connection instead of answering."""
    TWICE = "twice"
    """The request is delivered two times; the second answer is the one that arrives."""
    SHORT_PAGE = "short_page"
    """The next page of a list holds fewer entries than fit, with a token for the rest."""
    SLOW = "slow"
    """The operation stays under way until the test lets it finish."""
    FAIL_LATER = "fail_later"
    """Accepted; the operation then ends with the provider's error ``code``."""


@dataclass
class Fault:
    kind: Kind
    operation: str
    code: str = ""
    times: int = 1
    more: dict[str, Any] = field(default_factory=dict)


class Faults:
    """Rules by operation (the provider's own name for it). Thread-safe."""

    def __init__(self) -> None:
        self._rules: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, kind: Kind, operation: str, *, code: str = "", times: int = 1, **more: Any) -> None:
        with self._lock:
            self._rules.append(Fault(kind, operation, code, times, more))

    def take(self, operation: str, *kinds: Kind) -> Fault | None:
        """The first rule for the operation (of these kinds), used up by one; None where there is none."""
        with self._lock:
            for rule in self._rules:
                if rule.operation == operation and (not kinds or rule.kind in kinds):
                    rule.times -= 1
                    if rule.times <= 0:
                        self._rules.remove(rule)
                    return rule
        return None

    def clear(self) -> None:
        with self._lock:
            self._rules.clear()
