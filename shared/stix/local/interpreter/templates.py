"""Payload templates (Parameters, ResultSelector, ItemSelector): their ``"name.$"`` fields are expressions."""

from __future__ import annotations

from typing import Any

from .intrinsics import Expression, compile_intrinsic
from .paths import Path, PathSyntaxError, compile_path

__all__ = ["compile_expression", "compile_reference", "compile_template"]


def compile_expression(text: Any) -> Expression:
    """A path or an intrinsic function. Raises ``PathSyntaxError``."""
    if isinstance(text, str) and text.startswith("$"):
        return compile_path(text).read
    if isinstance(text, str) and text.startswith("States."):
        return compile_intrinsic(text)
    raise PathSyntaxError(f"{text!r} must be a path that starts with $ or an intrinsic function")


def compile_reference(text: Any) -> Path:
    """A path of names and indices only. Raises ``PathSyntaxError``."""
    if not isinstance(text, str):
        raise PathSyntaxError(f"{text!r} must be a path that starts with $")
    path = compile_path(text)
    if path.keys is None or path.in_context:
        raise PathSyntaxError(f"{text!r} must be a reference path: names and indices only, in the data")
    return path


def compile_template(template: Any) -> Expression:
    """Raises ``PathSyntaxError``. Constant parts are shared between results: never change a result."""
    if isinstance(template, dict):
        fields = [_field(key, value) for key, value in template.items()]
        names = [name for name, _ in fields]
        if len(set(names)) != len(names):
            raise PathSyntaxError(f"a field is given twice, with and without .$, among {sorted(template)}")
        if _constant(template):
            return lambda _scope: template
        return lambda scope: {name: build(scope) for name, build in fields}
    if isinstance(template, list) and not _constant(template):
        items = [compile_template(item) for item in template]
        return lambda scope: [build(scope) for build in items]
    return lambda _scope: template


def _constant(template: Any) -> bool:
    if isinstance(template, dict):
        return all(not key.endswith(".$") and _constant(value) for key, value in template.items())
    return not isinstance(template, list) or all(_constant(item) for item in template)


def _field(key: str, value: Any) -> tuple[str, Expression]:
    if not key.endswith(".$"):
        return key, compile_template(value)
    try:
        return key[:-2], compile_expression(value)
    except PathSyntaxError as exc:
        raise PathSyntaxError(f"the field {key!r}: {exc}") from exc
