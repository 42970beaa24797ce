"""Whether JSON has only the fields that Azure's API describes: as the SDK's generated models know them."""

from __future__ import annotations

import importlib
import types
import typing
from typing import Any

__all__ = ["unknown_fields"]


def unknown_fields(model: Any, body: Any, path: str = "") -> list[str]:
    """Paths of fields that the model does not have, all the way down."""
    model = _inner(model)
    if isinstance(body, list):
        return [one for item in body for one in unknown_fields(model, item, path + "[]")]
    if not isinstance(body, dict) or not hasattr(model, "_attr_to_rest_field"):
        return []
    model()  # fields are known after the first instance
    fields = {field._rest_name: field for field in model._attr_to_rest_field.values()}
    by_rest = {field._rest_name: _hint(model, name) for name, field in model._attr_to_rest_field.items()}
    found: list[str] = []
    for name, value in body.items():
        if name not in fields:
            found.append(f"{path}.{name}")
        else:
            found += unknown_fields(by_rest[name], value, f"{path}.{name}")
    return found


def _inner(hint: Any) -> Any:
    """The model in ``Optional[list[Model]]`` and the like."""
    while True:
        arguments = [one for one in typing.get_args(hint) if one is not type(None) and one is not str]
        origin = typing.get_origin(hint)
        if origin in (typing.Union, types.UnionType) or origin is list:
            hint = arguments[0] if arguments else str
        elif origin is not None:
            return str  # a mapping: its keys are free
        else:
            return hint


def _hint(model: Any, name: str) -> Any:
    """The type of a field: its annotation, in the words of the module that its class is from."""
    for base in model.__mro__:
        written = vars(base).get("__annotations__", {}).get(name)
        if written is not None:
            module = importlib.import_module(base.__module__)
            package = importlib.import_module(base.__module__.rpartition(".")[0])
            names = {**vars(typing), **vars(module), "_models": package}
            return _resolved(eval(written, names) if isinstance(written, str) else written, names)
    return str


def _resolved(hint: Any, names: dict[str, Any]) -> Any:
    """With the names that stand as strings inside of ``Optional[...]`` and the like."""
    if isinstance(hint, typing.ForwardRef):
        return _resolved(eval(hint.__forward_arg__, names), names)
    arguments = typing.get_args(hint)
    if not arguments or typing.get_origin(hint) not in (typing.Union, types.UnionType, list):
        return hint
    resolved = tuple(
        _resolved(one if not isinstance(one, str) else eval(one, names), names) for one in arguments
    )
    return list[resolved[0]] if typing.get_origin(hint) is list else typing.Union[resolved]  # type: ignore[valid-type]
