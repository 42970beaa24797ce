"""The OpenAPI 3.1 document of the people's HTTP API, from its models and its table of routes.

``python -m stix.api.openapi [FILE]`` writes it to ``FILE`` or to standard output.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from stix.api import v1
from stix.api.route import Query, Route
from stix.api.routes import ERROR_CODES, OPERATION_CODES, ROUTES

__all__ = ["document", "text"]

_EVERY_ROUTE = (429, 500, 503)
_WITH_TOKEN = (401, 403)
_MEANING = {
    400: "Something in the request is wrong; the message names the field, the value and the fix.",
    401: "No token, or one that is unknown or has expired.",
    403: "The token opens no route for people.",
    404: "There is no such thing.",
    409: "The state of the thing does not allow it.",
    422: "Nothing that is configured fits the request.",
    429: "Too many requests; the gateway's own words.",
    500: "A defect of the service.",
    502: "A cloud refused.",
    503: "A failure of the world; trying again may help.",
}
_PATH_PARAMETERS = {
    "worker": "Number of a pool's worker.",
    "name": "Name of the cluster, pool or service.",
    "replica": "A replica's number.",
    "job_id": "A job's number, or `latest`.",
    "operation_id": "An operation's id.",
    "run": "A run's number.",
}

_Mode = Literal["validation", "serialization"]
_References: TypeAlias = Mapping[Any, Any]
"""A model and its mode to the reference of its schema."""


def document() -> dict[str, Any]:
    """The document as JSON values; paths in the order of the table."""
    references, schemas = _schemas()
    paths: dict[str, Any] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method] = _operation(route, references)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Stix",
            "version": "1",
            "description": "Run AI and batch work on whichever cloud is cheapest and available. "
            "Times are epoch seconds, memory is GiB, money is USD.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {str(status): _refusal(status) for status in ERROR_CODES},
            "parameters": {"IdempotencyKey": _IDEMPOTENCY_KEY},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def text() -> str:
    """The document as it is kept in ``docs/openapi.json``."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A repeated request with the same key and body gets the first one's answer, for a day; "
    "with another body it is refused (409 `idempotency_mismatch`).",
    "schema": {"type": "string", "minLength": 1, "maxLength": 128},
}


def _schemas() -> tuple[_References, dict[str, Any]]:
    models: dict[tuple[type[BaseModel], _Mode], None] = {(v1.ErrorResponse, "serialization"): None}
    for route in ROUTES:
        models[route.response, "serialization"] = None
        if route.request is not None:
            models[route.request, "validation"] = None
    references, definitions = models_json_schema(list(models), ref_template="#/components/schemas/{model}")
    schemas = dict(sorted(definitions["$defs"].items()))
    schemas["ErrorBody"]["properties"]["code"]["examples"] = sorted(
        {*OPERATION_CODES, *(code for codes in ERROR_CODES.values() for code in codes)}
    )
    return references, schemas


def _operation(route: Route, references: _References) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _PATH_PARAMETERS[name],
            "schema": {"type": "string"},
        }
        for name in re.findall(r"{(\w+)}", route.path)
    ]
    parameters += [_query(query) for query in route.query]
    if route.keyed:
        parameters.append({"$ref": "#/components/parameters/IdempotencyKey"})
    answer: dict[str, Any] = {
        "description": (route.response.__doc__ or route.summary).strip().partition("\n")[0],
        "content": _json(references[route.response, "serialization"]),
    }
    if any(query.name == "wait" for query in route.query):
        answer["headers"] = {
            "Retry-After": {
                "description": "Seconds after which to ask again, where the answer was not held.",
                "schema": {"type": "integer"},
            }
        }
    refusals = {*route.errors, *_EVERY_ROUTE, *(() if route.open else _WITH_TOKEN)}
    operation: dict[str, Any] = {"operationId": route.name, "summary": route.summary}
    if parameters:
        operation["parameters"] = parameters
    if route.request is not None:
        required = any(field.is_required() for field in route.request.model_fields.values())
        content = _json(references[route.request, "validation"])
        operation["requestBody"] = {"required": required, "content": content}
    operation["responses"] = {str(route.status): answer} | {
        str(status): {"$ref": f"#/components/responses/{status}"} for status in sorted(refusals)
    }
    if route.open:
        operation["security"] = []
    return operation


def _query(query: Query) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": query.type}
    for name, value in (("minimum", query.lowest), ("maximum", query.most), ("default", query.default)):
        if value is not None:
            schema[name] = value
    return {
        "name": query.name,
        "in": "query",
        "required": False,
        "description": query.description,
        "schema": schema,
    }


def _refusal(status: int) -> dict[str, Any]:
    codes = ERROR_CODES[status]
    named = f" Codes: {', '.join(f'`{code}`' for code in codes)}." if codes else ""
    schema = {"$ref": "#/components/schemas/ErrorResponse"} if codes else {"type": "object"}
    return {"description": _MEANING[status] + named, "content": _json(schema)}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(text(), encoding="utf-8")
    else:
        sys.stdout.write(text())
