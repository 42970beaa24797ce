"""Worst-case length of a run's history, computed from a state machine's definition."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

RUN_EVENTS = 2
"""ExecutionStarted, and how it ended."""

_INCREMENT = re.compile(r"States\.MathAdd\((\$[\w.]+), 1\)")


class UnboundedLoopError(Exception):
    """A cycle that no counter ends."""


def longest_history(definition: Mapping[str, Any], *, max_attempts: int, max_items: int) -> int:
    """Upper bound of the events of one run.

    ``max_attempts`` is how often a counter lets its cycle go round, ``max_items`` how long a Map is at most.

    Raises:
        UnboundedLoopError: a cycle without a counter that grows on each round and is compared with a limit.
    """
    return RUN_EVENTS + _longest_walk(definition, max_attempts, max_items)


def _longest_walk(definition: Mapping[str, Any], max_attempts: int, max_items: int) -> int:
    states = definition["States"]
    weights = {name: _events(state, max_attempts, max_items) for name, state in states.items()}
    edges = {name: set(_successors(state)) for name, state in states.items()}
    rounds = []
    for name, state in states.items():
        for head, counter in _guarded(state):
            if name in _reachable(edges, head):
                _check_counter(states, edges, head, name, counter)
                edges[name].discard(head)
                rounds.append(head)
    # Each round begins a new walk at the head of its cycle; without the guarded edges nothing else goes back.
    longest = _longest_paths(edges, weights)
    return longest[definition["StartAt"]] + sum(max_attempts * longest[head] for head in rounds)


def _events(state: Mapping[str, Any], max_attempts: int, max_items: int) -> int:
    """Events of one visit: entered and exited, and what each of its attempts adds."""
    attempts = 1 + sum(retrier.get("MaxAttempts", 3) for retrier in state.get("Retry", ()))
    match state["Type"]:
        case "Task":
            # Scheduled, started, succeeded or failed; and submitted where a token is waited for.
            each = 4 if state["Resource"].endswith(".waitForTaskToken") else 3
        case "Map":
            inner = state.get("ItemProcessor") or state["Iterator"]
            # The map and each of its iterations start and end.
            each = 2 + max_items * (2 + _longest_walk(inner, max_attempts, max_items))
        case "Parallel":
            each = 2 + sum(_longest_walk(branch, max_attempts, max_items) for branch in state["Branches"])
        case _:
            each = 0
    return 2 + attempts * each


def _successors(state: Mapping[str, Any]) -> list[str]:
    following = [rule["Next"] for rule in (*state.get("Choices", ()), *state.get("Catch", ()))]
    return following + [state[key] for key in ("Next", "Default") if key in state]


def _guarded(state: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(state that is gone back to, path of the counter) for each choice "counter is below its limit"."""
    if state["Type"] != "Choice":
        return []
    below = ("NumericLessThan", "NumericLessThanPath")
    return [
        (rule["Next"], rule["Variable"]) for rule in state["Choices"] if any(key in rule for key in below)
    ]


def _check_counter(
    states: Mapping[str, Any], edges: Mapping[str, set[str]], head: str, tail: str, counter: str
) -> None:
    """Every way from ``head`` to ``tail`` must add one to ``counter``, and none may overwrite it."""
    growing = {name for name, state in states.items() if counter in _increments(state)}
    others = {name: (set() if name in growing else following) for name, following in edges.items()}
    if head in growing or tail not in _reachable(others, head):
        holder = counter.rpartition(".")[0]
        loop = {name for name in _reachable(edges, head) if tail in _reachable(edges, name)}
        for name in loop - growing:
            state = states[name]
            written = state.get("ResultPath", "$" if state["Type"] not in ("Choice", "Wait") else None)
            if written in ("$", holder, counter):
                raise UnboundedLoopError(f"'{name}' overwrites {counter} on the way to '{tail}'")
        return
    raise UnboundedLoopError(f"'{tail}' goes back to '{head}' without adding to {counter}")


def _increments(state: Mapping[str, Any]) -> set[str]:
    """Counters to which a Pass state adds one."""
    if state["Type"] != "Pass":
        return set()
    holder = state.get("ResultPath", "$")
    grown = set()
    for key, value in state.get("Parameters", {}).items():
        path = f"{holder}.{key.removesuffix('.$')}"
        match = _INCREMENT.fullmatch(value) if isinstance(value, str) else None
        if match and match[1] == path:
            grown.add(path)
    return grown


def _reachable(edges: Mapping[str, set[str]], start: str) -> set[str]:
    seen, waiting = {start}, [start]
    while waiting:
        for name in edges[waiting.pop()] - seen:
            seen.add(name)
            waiting.append(name)
    return seen


def _longest_paths(edges: Mapping[str, set[str]], weights: Mapping[str, int]) -> dict[str, int]:
    longest: dict[str, int] = {}
    visiting: set[str] = set()

    def visit(name: str) -> int:
        if name in visiting:
            raise UnboundedLoopError(f"a cycle through '{name}' has no counter")
        if name not in longest:
            visiting.add(name)
            longest[name] = weights[name] + max((visit(following) for following in edges[name]), default=0)
            visiting.discard(name)
        return longest[name]

    for name in edges:
        visit(name)
    return longest
