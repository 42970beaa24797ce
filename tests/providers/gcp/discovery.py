"""Google's discovery document of Compute Engine: which method a request is, and whether it and its answer
have the document's form."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import parse_qsl, unquote

__all__ = ["Call", "Discovery"]

_PREFIX = "/compute/v1/"
_KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
}


class Call:
    """One request: the document's method id (``compute.instances.list``), path and query parameters, body."""

    def __init__(self, method: dict[str, Any], parameters: dict[str, str], body: Any) -> None:
        self.id: str = method["id"].removeprefix("compute.")
        self.method = method
        self.parameters = parameters
        self.body = body

    def __getitem__(self, name: str) -> str:
        return self.parameters.get(name, "")


class Discovery:
    def __init__(self) -> None:
        self._document = _document()
        self._routes = [
            (method["httpMethod"], re.compile(_pattern(method["path"])), method)
            for resource in self._document["resources"].values()
            for method in resource.get("methods", {}).values()
        ]
        self.violations: list[str] = []

    def call(self, verb: str, path: str, query: str, body: bytes) -> Call | None:
        """None, and a violation, for a request that Compute Engine does not know."""
        for known, pattern, method in self._routes:
            found = pattern.fullmatch(path.removeprefix(_PREFIX)) if path.startswith(_PREFIX) else None
            if found is None or known != verb:
                continue
            given = dict(parse_qsl(query, keep_blank_values=True))
            # Of every method: how the answer is written.
            given.pop("$alt", None)
            known_names = set(method["parameters"]) | set(self._document["parameters"])
            for name in set(given) - known_names:
                self.violations.append(f"{method['id']} has no parameter {name}")
            parameters = {**given, **{name: unquote(value) for name, value in found.groupdict().items()}}
            for name, about in method["parameters"].items():
                if name in parameters:
                    self._check_parameter(parameters[name], about, f"{method['id']} parameter {name}")
                elif about.get("required"):
                    self.violations.append(f"{method['id']} needs the parameter {name}")
            content = json.loads(body) if body else None
            if "request" in method:
                self._check(content, method["request"], f"{method['id']} request", method["id"])
            elif content:
                self.violations.append(f"{method['id']} takes no body")
            return Call(method, parameters, content)
        self.violations.append(f"there is no {verb} {path}")
        return None

    def check_answer(self, call: Call, answer: Any) -> None:
        self._check(answer, call.method["response"], f"{call.method['id']} answer")

    def _check_parameter(self, value: str, about: dict[str, Any], where: str) -> None:
        """It is text whatever its type; numbers have bounds, names a pattern."""
        by_type = {"integer": r"-?\d+", "boolean": "true|false"}
        pattern = by_type.get(about["type"], about.get("pattern", "(?s:.*)"))
        fits = re.fullmatch(pattern, value) is not None
        if fits and about["type"] == "integer":
            fits = int(about.get("minimum", value)) <= int(value) <= int(about.get("maximum", value))
        if not fits:
            self.violations.append(f"{where} is {value!r}, not {pattern}")

    def _check(self, value: Any, schema: dict[str, Any], where: str, method: str = "") -> None:
        """``method``: whose request it is, for what that one requires; empty for an answer."""
        if "$ref" in schema:
            schema = self._document["schemas"][schema["$ref"]]
        kind = schema.get("type", "any")
        if kind == "any":
            return
        # 64-bit integers are strings in JSON; Google takes numbers too.
        if not isinstance(value, _KINDS[kind]) or (kind == "integer" and isinstance(value, bool)):
            self.violations.append(f"{where} is {value!r}, not of the type {kind}")
            return
        if schema.get("format") in ("int64", "uint64") and not re.fullmatch(r"-?\d+", str(value)):
            self.violations.append(f"{where} is {value!r}, not a number")
        if "enum" in schema and value not in schema["enum"]:
            self.violations.append(f"{where} is {value!r}, none of {schema['enum']}")
        # The pattern of a list's items stands at the list.
        for each in value if kind == "array" else [value]:
            if "pattern" in schema and not re.fullmatch(schema["pattern"], str(each)):
                self.violations.append(f"{where} has {each!r}, not {schema['pattern']}")
        if kind == "array":
            for number, item in enumerate(value):
                self._check(item, schema["items"], f"{where}[{number}]", method)
        if kind == "object":
            for name, item in value.items():
                known = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
                if known is None:
                    self.violations.append(f"{where} has no field {name}")
                else:
                    self._check(item, known, f"{where}.{name}", method)
            for name, about in schema.get("properties", {}).items():
                if method in about.get("annotations", {}).get("required", ()) and name not in value:
                    self.violations.append(f"{where} has no {name}, which is required")


def _pattern(path: str) -> str:
    """``projects/{project}/zones/{zone}`` as a regular expression."""
    return re.sub(r"\\\{\+?(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(path))


@cache
def _document() -> dict[str, Any]:
    folder = resources.files("googleapiclient.discovery_cache.documents")
    found: dict[str, Any] = json.loads(folder.joinpath("compute.v1.json").read_text(encoding="utf-8"))
    return found
