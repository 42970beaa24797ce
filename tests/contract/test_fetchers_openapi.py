"""The answers that the fetchers' tests are built on, against what the clouds publish about their APIs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import yaml
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from stix.catalog.fetchers import lambda_cloud, runpod, vast
from tests.unit.price_answers import (
    answering,
    body_of,
    lambda_answer,
    lambda_type,
    price_api,
    runpod_answers,
    runpod_cpu,
    runpod_gpu,
    runpod_sizes,
    vast_offer,
)

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "openapi"


def document(name: str) -> dict[str, Any]:
    path = FOLDER / name
    if not path.is_file():
        pytest.skip(f"the published API description {name} is not beside this clone")
    text = path.read_text()
    return json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)


def check(published: dict[str, Any], schema: dict[str, Any], answer: Any) -> None:
    """Raises ``ValidationError`` for an answer that the document does not allow."""
    resource = Resource.from_contents(published, default_specification=DRAFT202012)
    registry: Registry[Any] = Registry().with_resource("urn:api", resource)
    pointed = json.loads(json.dumps(schema).replace('"#/', '"urn:api#/'))
    jsonschema.Draft202012Validator(pointed, registry=registry).validate(answer)


def answer_schema(published: dict[str, Any], path: str) -> dict[str, Any]:
    return published["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]


def test_lambda_answers_are_as_published() -> None:
    published = document("lambda.json")
    schema = answer_schema(published, httpx.URL(lambda_cloud.URL).path)
    cpu = lambda_type("cpu_4x_general", "N/A", cents=20, gpus=0, regions=())
    check(published, schema, lambda_answer(lambda_type(), cpu))
    with pytest.raises(jsonschema.ValidationError):
        check(published, schema, lambda_answer(lambda_type() | {"regions_with_capacity_available": "all"}))


@pytest.mark.parametrize(
    ("name", "answer"), [("gpus", {"gpus": [runpod_gpu()]}), ("cpus", {"cpus": [runpod_cpu()]})]
)
def test_runpod_answers_are_as_published(name: str, answer: dict[str, Any]) -> None:
    published = document("runpod_v2.json")
    schema = answer_schema(published, f"/v2/catalog/{name}")
    check(published, schema, answer)
    with pytest.raises(jsonschema.ValidationError):
        check(published, schema, {name: [{"id": "x"}]})


def test_runpod_is_asked_with_published_parameters() -> None:
    published = document("runpod_v2.json")
    asked: list[httpx.URL] = []

    def noting(answer: Any) -> Any:
        def handler(request: httpx.Request) -> Any:
            asked.append(request.url)
            return answer

        return handler

    answers = runpod_answers(runpod_gpu(), runpod_sizes())
    runpod.fetch(price_api(answering({place: noting(answer) for place, answer in answers.items()})))
    for url in asked:
        if url.path == "/graphql":
            continue  # RunPod publishes no description of it
        known = {}
        for parameter in published["paths"][url.path]["get"]["parameters"]:
            described = published["components"]["parameters"][parameter["$ref"].rpartition("/")[2]]
            known[described["name"]] = described["schema"]
        for name, value in url.params.items():
            schema = known[name]
            check(published, schema, [value] if schema.get("type") == "array" else value)


def test_vast_is_asked_and_answers_as_published() -> None:
    operation = document("vast.yaml")["paths"]["/api/v0/bundles"]["post"]
    question = operation["requestBody"]["content"]["application/json"]["schema"]
    asked: list[Any] = []

    def handler(request: httpx.Request) -> Any:
        asked.append(body_of(request))
        return {"offers": [] if len(asked) > 1 else [vast_offer(7)]}

    vast.fetch(price_api(answering({"console.vast.ai/api/v0/bundles": handler})))
    for body in asked:
        assert body.keys() <= question["properties"].keys()
        described = {
            name: schema
            for name, schema in question["properties"].items()
            # Of ``order`` the document bounds the list of pairs where it means each pair.
            if name != "order"
        }
        jsonschema.validate(body, {"type": "object", "properties": described})
    example = operation["responses"]["200"]["content"]["application/json"]["example"]["offers"]
    for name, value in vast_offer(7).items():
        kind = (int, float) if isinstance(example[name], (int, float)) else type(example[name])
        assert isinstance(value, kind), name
