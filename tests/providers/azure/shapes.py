"""Whether JSON is what Azure's API describes: the SDK's models are generated from that description."""

from __future__ import annotations

import enum
import sys
import types
import typing
from datetime import datetime
from functools import cache
from typing import Any

__all__ = ["violations"]


def violations(model: Any, body: Any, *, sent: bool = False, path: str = "") -> list[str]:
    """What of ``body`` the model does not allow, all the way down: unknown fields, values of another type or
    outside of an enumeration, required fields that are absent, and, where it was ``sent``, fields that only
    Azure writes."""
    if not isinstance(body, dict):
        return [f"{path}: {body!r} is no {model.__name__}"]
    fields = _fields(model)
    found = [f"{path}.{name}: unknown" for name in body if name not in fields]
    for name, (hint, read_only) in fields.items():
        at = f"{path}.{name}"
        if name not in body:
            if not read_only and type(None) not in typing.get_args(hint):
                found.append(f"{at}: required")
        elif sent and read_only:
            found.append(f"{at}: only Azure writes it")
        else:
            found += _value(hint, body[name], sent, at)
    return found


_OUTDATED = ("VirtualMachineSizeTypes",)
"""Enumerations that Azure's description itself calls deprecated: they lack what is new."""


@cache
def _fields(model: Any) -> dict[str, tuple[Any, bool]]:
    """By the name in JSON: the type, and whether only Azure writes it. Raises TypeError for another class."""
    model()  # fields are known after the first instance
    if not hasattr(model, "_attr_to_rest_field"):
        raise TypeError(f"{model} is no generated model")
    package = sys.modules[model.__module__.rpartition(".")[0]]
    hints = typing.get_type_hints(model, localns={"_models": package, "_types": package})
    return {
        field._rest_name: (hints[attribute], field._visibility == ["read"])
        for attribute, field in model._attr_to_rest_field.items()
    }


def _value(hint: Any, value: Any, sent: bool, path: str) -> list[str]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _one_of([one for one in arguments if one is not type(None)], value, sent, path)
    if origin is typing.Literal:
        return [] if value in arguments else [f"{path}: {value!r} is none of {arguments}"]
    if origin is list:
        if not isinstance(value, list):
            return [f"{path}: {value!r} is no list"]
        return [one for item in value for one in _value(arguments[0], item, sent, f"{path}[]")]
    if origin is not None:  # a mapping: its keys are free
        if not isinstance(value, dict):
            return [f"{path}: {value!r} is no mapping"]
        return [
            one for key, item in value.items() for one in _value(arguments[1], item, sent, f"{path}.{key}")
        ]
    if hint is Any:
        return []
    if isinstance(hint, type) and hasattr(hint, "_is_model"):
        return violations(hint, value, sent=sent, path=path)
    return [] if _is_plain(hint, value) else [f"{path}: {value!r} is no {hint.__name__}"]


def _one_of(hints: list[Any], value: Any, sent: bool, path: str) -> list[str]:
    """An enumeration stands beside ``str`` in the models, since Azure may add to it: it is taken as it is."""
    if any(getattr(one, "__name__", "") in _OUTDATED for one in hints):
        return [] if isinstance(value, str) else [f"{path}: {value!r} is no text"]
    enums = [one for one in hints if isinstance(one, type) and issubclass(one, enum.Enum)]
    if enums:
        known = {member.value for one in enums for member in one}
        return [] if value in known else [f"{path}: {value!r} is none of {sorted(known)}"]
    tried = [_value(one, value, sent, path) for one in hints]
    return min(tried, key=len)


def _is_plain(hint: Any, value: Any) -> bool:
    if hint is datetime:
        try:
            return datetime.fromisoformat(value) is not None
        except (TypeError, ValueError):
            return False
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)
