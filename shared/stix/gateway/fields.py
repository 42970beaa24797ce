"""Reading untyped JSON: every problem names the field, what was given and what to write instead."""

from __future__ import annotations

import ipaddress
import math
import re
from typing import Any, Callable, Dict, List, Mapping, Pattern, Sequence, TypeVar

Value = TypeVar("Value")
_REQUIRED: Any = object()


class ViewError(ValueError):
    """What is wrong with a view: ``problems``, one sentence or two for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class Fields:
    """The fields of one object. A refused one is noted in ``problems`` and read as its default."""

    def __init__(self, value: Any, path: str, problems: List[str]) -> None:
        self.path, self.problems = path, problems
        self._values: Mapping[str, Any] = value if isinstance(value, dict) else {}
        if not isinstance(value, dict):
            self.refuse("", value, "Write an object, {...}.")

    def refuse(self, name: str, value: Any, hint: str) -> None:
        where = ".".join(part for part in (self.path, name) if part) or "the view"
        given = repr(value)
        self.problems.append(f"{where}: {given if len(given) < 60 else given[:57] + '...'}. {hint}")

    def take(self, name: str, check: Callable[[Any], Value], default: Any = _REQUIRED) -> Value:
        """The checked value, or ``default`` where it is absent or null; ``check`` raises ValueError(hint)."""
        value = self._values.get(name)
        if value is None:
            if default is _REQUIRED:
                self.refuse(name, None, "It is required.")
                return None  # type: ignore[return-value]
            return default  # type: ignore[no-any-return]
        try:
            return check(value)
        except ValueError as exc:
            self.refuse(name, value, str(exc))
            return None if default is _REQUIRED else default  # type: ignore[return-value]

    def each(self, name: str) -> List[Fields]:
        """The objects of a list."""
        value = self._values.get(name, [])
        if not isinstance(value, list):
            self.refuse(name, value, "Write a list, [...].")
            return []
        start = f"{self.path}." if self.path else ""
        return [Fields(item, f"{start}{name}[{index}]", self.problems) for index, item in enumerate(value)]

    def has(self, name: str) -> bool:
        return self._values.get(name) is not None

    def inner(self, name: str) -> Fields:
        return Fields(self._values[name], f"{self.path}.{name}" if self.path else name, self.problems)


def matching(pattern: Pattern[str], hint: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise ValueError(hint)
        return value

    return check


def number(least: float, most: float, hint: str) -> Callable[[Any], float]:
    def check(value: Any) -> float:
        plain = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not plain or not math.isfinite(value) or not least <= value <= most:
            raise ValueError(hint)
        return float(value)

    return check


def whole(least: int, most: int, hint: str) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(hint)
        return value

    return check


def choice(options: Sequence[str]) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in options:
            raise ValueError(f"Write one of {', '.join(options)}.")
        return str(value)

    return check


def address(value: Any) -> str:
    try:
        return str(ipaddress.ip_address(value if isinstance(value, str) else ""))
    except ValueError:
        raise ValueError("Write an IP address, such as 10.0.0.4.") from None


HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")


def headers(value: Any) -> Dict[str, str]:
    hint = "Write names and texts of HTTP headers, without line breaks."
    if not isinstance(value, dict):
        raise ValueError(hint)
    for name, text in value.items():
        if not HEADER_NAME.fullmatch(name) or not isinstance(text, str) or re.search(r"[\r\n\0]", text):
            raise ValueError(hint)
    return dict(value)
