"""From the JSON of a state machine to prepared states, collecting every problem by file and state."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from .choice import compile_rule
from .intrinsics import Expression
from .paths import Path, PathSyntaxError, compile_path
from .resources import parse_resource
from .retry import Catcher, Retrier
from .states import (
    Amount,
    Block,
    ChoiceState,
    FailState,
    MapState,
    ParallelState,
    PassState,
    State,
    SucceedState,
    TaskState,
    WaitState,
)
from .templates import compile_expression, compile_reference, compile_template
from .timestamps import parse_timestamp

__all__ = ["Preparation"]

T = TypeVar("T")
_ROOT = compile_path("$")
_COMMON = {"Type", "Comment", "QueryLanguage"}
_FLOW = {"Next", "End"}
_PATHS = {"InputPath", "OutputPath"}
_RESULT = {"Parameters", "ResultSelector", "ResultPath", "Retry", "Catch"}
_FIELDS: dict[str, set[str]] = {
    "Pass": _COMMON | _FLOW | _PATHS | {"Result", "ResultPath", "Parameters"},
    "Task": _COMMON | _FLOW | _PATHS | _RESULT | {"Resource", "TimeoutSeconds", "TimeoutSecondsPath"}
    | {"HeartbeatSeconds", "HeartbeatSecondsPath"},
    "Choice": _COMMON | _PATHS | {"Choices", "Default"},
    "Wait": _COMMON | _FLOW | _PATHS | {"Seconds", "SecondsPath", "Timestamp", "TimestampPath"},
    "Succeed": _COMMON | _PATHS,
    "Fail": _COMMON | {"Error", "ErrorPath", "Cause", "CausePath"},
    "Parallel": _COMMON | _FLOW | _PATHS | _RESULT | {"Branches"},
    "Map": _COMMON | _FLOW | _PATHS | _RESULT
    | {"ItemProcessor", "Iterator", "ItemsPath", "ItemSelector", "MaxConcurrency", "MaxConcurrencyPath"}
    | {"ToleratedFailureCount", "ToleratedFailureCountPath"}
    | {"ToleratedFailurePercentage", "ToleratedFailurePercentagePath"},
}  # fmt: skip
_RETRIER = {
    "ErrorEquals",
    "IntervalSeconds",
    "MaxAttempts",
    "BackoffRate",
    "MaxDelaySeconds",
    "JitterStrategy",
}
_UNSUPPORTED = {
    "ItemReader",
    "ItemBatcher",
    "ResultWriter",
    "Label",
    "Assign",
    "Arguments",
    "Output",
    "Items",
    "Credentials",
}


class Preparation:
    """One pass over one file. ``problems`` is empty when the machine can run."""

    def __init__(self, source: str):
        self.source = source
        self.problems: list[str] = []
        self._names: set[str] = set()

    def machine(self, document: Any) -> tuple[Block | None, float | None]:
        where = self.source
        if not isinstance(document, dict):
            self.problems.append(f"{where}: a state machine is a JSON object")
            return None, None
        self._known(
            where, document, {"Comment", "StartAt", "States", "TimeoutSeconds", "Version", "QueryLanguage"}
        )
        timeout = document.get("TimeoutSeconds")
        if timeout is not None and not _positive(timeout):
            self.problems.append(f"{where}: TimeoutSeconds must be a number above 0, not {timeout!r}")
        return self._block(where, document), timeout

    def _block(self, where: str, document: Mapping[str, Any]) -> Block | None:
        states, start_at = document.get("States"), document.get("StartAt")
        if not isinstance(states, dict) or not states:
            self.problems.append(f"{where}: States must be an object with at least one state")
            return None
        if not isinstance(start_at, str) or start_at not in states:
            found = "is missing" if start_at is None else f"names {start_at!r}, which is no state here"
            self.problems.append(f"{where}: StartAt {found}{_nearest(start_at, states)}")
        prepared = {name: self._state(name, raw, states) for name, raw in states.items()}
        block = Block(str(start_at), {name: state for name, state in prepared.items() if state is not None})
        if isinstance(start_at, str) and len(block.states) == len(states) and start_at in states:
            self._reach(where, block)
        return block

    def _reach(self, where: str, block: Block) -> None:
        seen, queue, ends = set(), [block.start_at], False
        while queue:
            state = block.states.get(queue.pop())
            if state is None or state.name in seen:
                continue
            seen.add(state.name)
            targets = [catcher.next for catcher in state.catch]
            if isinstance(state, ChoiceState):
                targets += [target for _, target in state.rules] + ([state.default] if state.default else [])
            elif state.next is not None:
                targets.append(state.next)
            else:
                ends = True
            queue += targets
        for name in block.states:
            if name not in seen:
                self.problems.append(
                    f"{where}: state {name!r} cannot be reached from StartAt {block.start_at!r}"
                )
        if not ends:
            self.problems.append(
                f'{where}: no state ends the machine: add "End": true or a Succeed or Fail state'
            )

    def _state(self, name: str, raw: Any, siblings: Mapping[str, Any]) -> State | None:
        where = f"{self.source}: state {name!r}"
        if name in self._names:
            self.problems.append(f"{where}: this name is used twice; names are unique in the whole machine")
        self._names.add(name)
        if not isinstance(raw, dict) or raw.get("Type") not in _FIELDS:
            given = raw.get("Type") if isinstance(raw, dict) else raw
            self.problems.append(f"{where}: Type must be one of {', '.join(_FIELDS)}, not {given!r}")
            return None
        before = len(self.problems)
        self._known(where, raw, _FIELDS[raw["Type"]])
        self._targets(where, raw, siblings)
        try:
            state = self._prepare(where, name, raw)
        except PathSyntaxError as exc:
            self.problems.append(f"{where}: {exc}")
            return None
        return state if len(self.problems) == before else None

    def _known(self, where: str, raw: Mapping[str, Any], accepted: set[str]) -> None:
        language = raw.get("QueryLanguage", "JSONPath")
        if language != "JSONPath":
            self.problems.append(
                f"{where}: QueryLanguage {language!r} is not supported; write the machine in JSONPath"
            )
        for key in raw:
            if key in accepted:
                continue
            if key in _UNSUPPORTED:
                self.problems.append(
                    f"{where}: the field {key} is not supported: no machine that needs it runs embedded"
                )
            else:
                self.problems.append(f"{where}: unknown field {key!r}{_nearest(key, accepted)}")

    def _targets(self, where: str, raw: Mapping[str, Any], siblings: Mapping[str, Any]) -> None:
        named: list[tuple[str, Any]] = []
        if "Next" in _FIELDS[raw["Type"]]:
            if "Next" in raw:
                named.append(("Next", raw["Next"]))
            if ("Next" in raw) == (raw.get("End") is True):
                self.problems.append(f'{where}: give it either Next or "End": true')
        if "Default" in raw:
            named.append(("Default", raw["Default"]))
        for key in ("Choices", "Catch"):
            for each in raw.get(key) or () if isinstance(raw.get(key, []), list) else ():
                if isinstance(each, dict):
                    named.append((f"Next of {key}", each.get("Next")))
        for label, target in named:
            if not isinstance(target, str) or target not in siblings:
                self.problems.append(
                    f"{where}: {label} names {target!r}, which is no state here{_nearest(target, siblings)}"
                )

    def _prepare(self, where: str, name: str, raw: Mapping[str, Any]) -> State:
        base: dict[str, Any] = {
            "name": name,
            "next": raw.get("Next"),
            "input_path": _path(raw, "InputPath"),
            "output_path": _path(raw, "OutputPath"),
            "parameters": compile_template(raw["Parameters"]) if "Parameters" in raw else None,
            "result_selector": compile_template(raw["ResultSelector"]) if "ResultSelector" in raw else None,
            "result_path": _result_path(raw),
            "retry": self._retriers(where, raw.get("Retry", [])),
            "catch": self._catchers(where, raw.get("Catch", [])),
        }
        match raw["Type"]:
            case "Pass":
                return PassState(**base, result=raw.get("Result"), has_result="Result" in raw)
            case "Task":
                integration, pattern, function = parse_resource(raw)
                timeout = _amount(raw, "TimeoutSeconds", least=1)
                heartbeat = _amount(raw, "HeartbeatSeconds", least=1)
                if (
                    not callable(timeout)
                    and not callable(heartbeat)
                    and (heartbeat or 0) >= (timeout or 1e12)
                ):
                    raise PathSyntaxError("HeartbeatSeconds must be smaller than TimeoutSeconds")
                return TaskState(
                    **base, integration=integration, pattern=pattern, function=function, timeout=timeout,
                    heartbeat=heartbeat,
                )  # fmt: skip
            case "Choice":
                if not isinstance(raw.get("Choices"), list) or not raw["Choices"]:
                    raise PathSyntaxError("Choices must be a list of at least one rule")
                rules = tuple((compile_rule(rule), str(rule.get("Next"))) for rule in raw["Choices"])
                return ChoiceState(**base, rules=rules, default=raw.get("Default"))
            case "Wait":
                return _wait(base, raw)
            case "Succeed":
                return SucceedState(**base)
            case "Fail":
                return FailState(**base, error=_words(raw, "Error"), cause=_words(raw, "Cause"))
            case "Parallel":
                if not isinstance(raw.get("Branches"), list) or not raw["Branches"]:
                    raise PathSyntaxError("Branches must be a list of at least one branch")
                branches = [
                    self._inner(f"{where}, branch {i + 1}", each) for i, each in enumerate(raw["Branches"])
                ]
                return ParallelState(**base, branches=tuple(branches))
            case _:
                return self._map(where, base, raw)

    def _inner(self, where: str, raw: Any) -> Block:
        if not isinstance(raw, dict):
            raise PathSyntaxError("a branch or processor is an object with StartAt and States")
        self._known(where, raw, {"StartAt", "States", "Comment", "ProcessorConfig", "QueryLanguage"})
        mode = (raw.get("ProcessorConfig") or {}).get("Mode", "INLINE")
        if mode != "INLINE":
            self.problems.append(f"{where}: ProcessorConfig.Mode {mode!r} is not supported; use INLINE")
        return self._block(where, raw) or Block("", {})

    def _map(self, where: str, base: dict[str, Any], raw: Mapping[str, Any]) -> MapState:
        processors = [raw[key] for key in ("ItemProcessor", "Iterator") if key in raw]
        if len(processors) != 1:
            raise PathSyntaxError("a Map needs one ItemProcessor")
        if "ItemSelector" in raw and "Parameters" in raw:
            raise PathSyntaxError("give it ItemSelector or Parameters (its older name), not both")
        if "ItemSelector" in raw:
            base["parameters"] = compile_template(raw["ItemSelector"])
        return MapState(
            **base,
            items=compile_path(raw.get("ItemsPath", "$")),
            processor=self._inner(f"{where}, its processor", processors[0]),
            concurrency=_amount(raw, "MaxConcurrency", least=0) or 0.0,
            tolerated_count=_amount(raw, "ToleratedFailureCount", least=0),
            tolerated_percentage=_amount(raw, "ToleratedFailurePercentage", least=0),
        )

    def _retriers(self, where: str, raw: Any) -> tuple[Retrier, ...]:
        retriers = []
        for position, each in enumerate(_objects("Retry", raw)):
            unknown = set(each) - _RETRIER - {"Comment"}
            if unknown:
                self.problems.append(
                    f"{where}: unknown field {min(unknown)!r} in Retry{_nearest(min(unknown), _RETRIER)}"
                )
            cap = each.get("MaxDelaySeconds")
            jitter = each.get("JitterStrategy", "NONE")
            if jitter not in ("FULL", "NONE"):
                raise PathSyntaxError(f"JitterStrategy is FULL or NONE, not {jitter!r}")
            interval = _number("IntervalSeconds of Retry", each.get("IntervalSeconds", 1), 1)
            if cap is not None and _number("MaxDelaySeconds of Retry", cap, 0) <= interval:
                raise PathSyntaxError("MaxDelaySeconds of Retry must be above IntervalSeconds")
            attempts = _number("MaxAttempts of Retry", each.get("MaxAttempts", 3), 0)
            if attempts != int(attempts):
                raise PathSyntaxError(f"MaxAttempts of Retry must be a whole number, not {attempts!r}")
            retriers.append(
                Retrier(
                    errors=_error_names("Retry", each, last=position == len(raw) - 1),
                    interval=interval,
                    attempts=int(attempts),
                    rate=_number("BackoffRate of Retry", each.get("BackoffRate", 2.0), 1),
                    cap=cap,
                    full_jitter=jitter == "FULL",
                )
            )
        return tuple(retriers)

    def _catchers(self, where: str, raw: Any) -> tuple[Catcher, ...]:
        catchers = []
        for position, each in enumerate(_objects("Catch", raw)):
            unknown = set(each) - {"ErrorEquals", "Next", "ResultPath", "Comment"}
            if unknown:
                self.problems.append(f"{where}: unknown field {min(unknown)!r} in Catch")
            errors = _error_names("Catch", each, last=position == len(raw) - 1)
            catchers.append(Catcher(errors, str(each.get("Next")), _result_path(each)))
        return tuple(catchers)


def _objects(field: str, raw: Any) -> list[dict[str, Any]]:
    if not isinstance(raw, list) or not all(isinstance(each, dict) for each in raw):
        raise PathSyntaxError(f"{field} must be a list of objects")
    return raw


def _error_names(field: str, raw: Mapping[str, Any], *, last: bool) -> tuple[str, ...]:
    names = raw.get("ErrorEquals")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise PathSyntaxError(f"{field} needs ErrorEquals, a list of at least one error name")
    if "States.ALL" in names and (len(names) > 1 or not last):
        raise PathSyntaxError(f"States.ALL must stand alone, in the last element of {field}")
    return tuple(names)


def _number(field: str, value: Any, least: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < least:
        raise PathSyntaxError(f"{field} must be a number of at least {least:g}, not {value!r}")
    return value


def _positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


def _either(raw: Mapping[str, Any], field: str, constant: Callable[[Any], T]) -> T | Expression | None:
    if field in raw and f"{field}Path" in raw:
        raise PathSyntaxError(f"give it {field} or {field}Path, not both")
    if f"{field}Path" in raw:
        return compile_expression(raw[f"{field}Path"])
    return constant(raw[field]) if field in raw else None


def _amount(raw: Mapping[str, Any], field: str, *, least: float) -> Amount | None:
    return _either(raw, field, lambda value: _number(field, value, least))


def _words(raw: Mapping[str, Any], field: str) -> str | Expression:
    def constant(value: Any) -> str:
        if not isinstance(value, str):
            raise PathSyntaxError(f"{field} must be a string, not {value!r}")
        return value

    return _either(raw, field, constant) or ""


def _wait(base: dict[str, Any], raw: Mapping[str, Any]) -> WaitState:
    if len({"Seconds", "SecondsPath", "Timestamp", "TimestampPath"} & set(raw)) != 1:
        raise PathSyntaxError("a Wait needs one of Seconds, SecondsPath, Timestamp and TimestampPath")

    def moment(value: Any) -> float:
        try:
            return parse_timestamp(value).timestamp()
        except (ValueError, TypeError) as exc:
            raise PathSyntaxError(f"Timestamp: {exc}") from exc

    return WaitState(
        **base, seconds=_amount(raw, "Seconds", least=0), timestamp=_either(raw, "Timestamp", moment)
    )


def _path(raw: Mapping[str, Any], field: str) -> Path | None:
    value = raw.get(field, "$")
    if value is not None and not isinstance(value, str):
        raise PathSyntaxError(f"{field} must be a path or null, not {value!r}")
    return None if value is None else compile_path(value)


def _result_path(raw: Mapping[str, Any]) -> Path | None:
    value = raw.get("ResultPath", "$")
    return None if value is None else compile_reference(value)


def _nearest(word: Any, known: Any) -> str:
    near = difflib.get_close_matches(word, list(known), n=1) if isinstance(word, str) else []
    return f"; did you mean {near[0]!r}?" if near else ""
