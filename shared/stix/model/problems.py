"""Problems found in what a person wrote: collected in one pass, told as one ``TaskError``.

Field parsers raise ``refuse(...)`` (one problem) or ``refuse_all(...)`` (several, each with its path below
the field). Pydantic collects them over the whole model; ``problems_in`` takes them out again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeVar

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from stix.model.errors import TaskError

__all__ = [
    "FieldPath",
    "Position",
    "Problem",
    "collect",
    "field_name",
    "placed_error",
    "problems_in",
    "refuse",
    "refuse_all",
    "shown",
    "task_error",
]

FieldPath: TypeAlias = tuple[str | int, ...]
Position: TypeAlias = tuple[int, int]

T = TypeVar("T")

MOST_TOLD = 5
LONGEST_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Problem:
    """``text`` says what is wrong and ``hint`` what to write instead; both are whole sentences.

    ``value`` is what was given, already shortened; empty for secrets.
    """

    path: FieldPath
    text: str
    hint: str = ""
    value: str = ""

    def below(self, *prefix: str | int) -> Problem:
        """The same problem, seen from a mapping that holds this one under ``prefix``."""
        return replace(self, path=(*prefix, *self.path))


def shown(value: Any) -> str:
    """How a value appears in an error: text quoted, YAML's words for null and booleans, long ones cut."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, (list, tuple, set, frozenset)):
        return "a list" if value else "an empty list"
    if isinstance(value, int) and abs(value) > 10**LONGEST_SHOWN:
        return "a very long number"
    text = value if isinstance(value, str) else str(value)
    text = text.encode("utf-8", "backslashreplace").decode()
    if len(text) > LONGEST_SHOWN:
        text = text[: LONGEST_SHOWN - 3] + "..."
    return f'"{text}"'.replace("\n", "\\n") if isinstance(value, str) else text


def field_name(path: FieldPath) -> str:
    """``resources.ports[1]``, ``envs.MODE``, ``file_mounts[/data]``."""
    name = ""
    for part in path:
        if isinstance(part, str) and part.replace("_", "a").replace("-", "a").isalnum():
            name += f".{part}" if name else part
        else:
            name += f"[{shown(part).strip(chr(34))}]"
    return name


def _custom(problem: Problem) -> PydanticCustomError:
    context = {"text": problem.text, "hint": problem.hint, "value": problem.value}
    return PydanticCustomError("refused", "{text}", context)


def refuse(text: str, hint: str = "", *, value: Any = "") -> PydanticCustomError:
    """The error that a field parser raises: one problem with the field itself."""
    return _custom(Problem((), text, hint, "" if isinstance(value, str) and not value else shown(value)))


def refuse_all(problems: Iterable[Problem]) -> ValidationError:
    """Several problems at once; paths are relative to the field or model that raises them."""
    lines = [InitErrorDetails(type=_custom(one), loc=one.path, input=None) for one in problems]
    return ValidationError.from_exception_data("task", lines, hide_input=True)


def problems_in(error: ValidationError) -> list[Problem]:
    """What ``refuse`` and ``refuse_all`` put in, with full paths."""
    found = []
    for line in error.errors(include_url=False, include_input=False):
        context = line.get("ctx", {})
        if line["type"] == "refused":
            found.append(Problem(line["loc"], context["text"], context["hint"], context["value"]))
        else:
            found.append(Problem(line["loc"], f"{line['msg']}."))
    return found


def collect(handler: Callable[[Any], T], data: Any, problems: Iterable[Problem]) -> T:
    """``handler(data)``; its problems and the given ones are raised together."""
    found = list(problems)
    try:
        value = handler(data)
    except ValidationError as error:
        found += problems_in(error)
    if found:
        raise refuse_all(found)
    return value


def task_error(
    problems: Iterable[Problem],
    *,
    source: str = "",
    line_of: Callable[[FieldPath], Position | None] = lambda path: None,
    flags: Mapping[str, str] | None = None,
) -> TaskError:
    """One ``TaskError``: a line for each of the first five problems, in the order of the file.

    ``line_of`` gives the 1-based line and column of a path. ``flags`` maps field names to the command-line
    flags that set them; such a problem is told by its flag.
    """
    return placed_error(((line_of(one.path), one) for one in problems), source=source, flags=flags)


def placed_error(
    problems: Iterable[tuple[Position | None, Problem]],
    *,
    source: str = "",
    flags: Mapping[str, str] | None = None,
) -> TaskError:
    """As ``task_error``, of problems that come with their line and column."""
    placed = sorted(problems, key=lambda pair: pair[0] or (0, 0))
    lines, details = [], []
    for position, one in placed:
        name = field_name(one.path)
        flag = next((flags[str(p)] for p in reversed(one.path) if str(p) in flags), None) if flags else None
        at = ":".join(str(part) for part in (source, *(position or ())) if part != "")
        label = flag or name
        told = ": ".join(part for part in (at, label, f"{one.text} {one.hint}".strip()) if part)
        lines.append(told)
        entry: dict[str, Any] = {"field": name, "value": one.value, "message": one.text, "hint": one.hint}
        if position:
            entry |= {"line": position[0], "column": position[1]}
        details.append(entry)
    if len(lines) > MOST_TOLD:
        rest = len(lines) - MOST_TOLD
        lines = [*lines[:MOST_TOLD], f"... and {rest} more problem{'s' if rest > 1 else ''}."]
    return TaskError("\n".join(lines), details={**details[0], "source": source, "problems": details})
