"""Parsed values back to plain ones, as the task YAML writes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

__all__ = ["given_fields", "plain"]


def plain(value: Any) -> Any:
    """The plain form of a value: its own ``to_config()`` where it has one."""
    if hasattr(value, "to_config"):
        return value.to_config()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return given_fields(value)
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value


def given_fields(record: Any) -> dict[str, Any]:
    """The fields of a dataclass that differ from their defaults."""
    config = {}
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        default = field.default
        if default is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if value != default:
            config[field.name] = plain(value)
    return config
