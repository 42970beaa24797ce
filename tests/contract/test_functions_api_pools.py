"""The routes of pools against the checked-in document, and a pool's life over each store."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from functions.api.handler import handler
from stix.adapters.dynamodb import DynamoStateStore
from stix.api.openapi import document
from stix.application.tokens import create_user_token
from stix.model.status import ManagedJobStatus, PoolStatus
from stix.runtime.bootstrap import install
from tests.contract.functions_client import Answer, send
from tests.contract.test_functions_api import check
from tests.unit.pools import PoolsPlane
from tests.unit.world import WORKSPACE

POOL = {"setup": "true", "pool": {"workers": 1}}


@pytest.fixture
def pools(tmp_path):
    made = PoolsPlane(tmp_path)
    create_user_token(made.world, token="ann-token", workspace=WORKSPACE, user="ann")
    install(made.world)
    yield made
    install(None)
    made.close()


@pytest.fixture
def ask(pools):
    def request(method: str, path: str, body: Any = None, **options: Any) -> Answer:
        answer = send(handler, method, path, body, **({"token": "ann-token"} | options))
        template = next(t for t in document()["paths"] if re.fullmatch(re.sub(r"{\w+}", "[^/]+", t), path))
        check(document()["paths"][template][method.lower()], answer)
        pools.settle()
        return answer

    return request


def test_pool_lives_its_life_through_the_routes(pools, ask):
    applied = ask("PUT", "/v1/pools/warm", {"task": {"task": POOL}}, headers={"idempotency-key": "k"})
    assert (applied.status, applied.body) == (202, {"name": "warm", "version": 1, "created": True})
    again = ask("PUT", "/v1/pools/warm", {"task": {"task": POOL}}, headers={"idempotency-key": "k"})
    assert again.body == applied.body
    pools.ready(1)
    sent = ask("POST", "/v1/jobs", {"tasks": [{"task": {"run": "true"}}], "pool": "warm", "num_jobs": 2})
    assert (sent.status, sent.body) == (202, {"job_id": 1, "name": "job", "num_jobs": 2})
    pools.begin(1)
    job = ask("GET", "/v1/jobs/1").body
    assert (job["pool"], job["rank"], job["num_jobs"], job["status"]) == ("warm", 0, 2, "RUNNING")
    pool = ask("GET", "/v1/pools/warm").body
    assert (pool["ready"], pool["waiting"], pool["workers"][0]["jobs"]) == (1, 1, [1])
    assert [one["name"] for one in ask("GET", "/v1/pools").body["pools"]] == ["warm"]
    assert ask("GET", "/v1/pools/warm/workers/1/logs", query="rank=0").body["job"]["status"] == "SUCCEEDED"
    [cancelled] = ask("POST", "/v1/jobs/cancel", {"pool": "warm"}).body["jobs"][:1]
    assert cancelled["pool"] == "warm"
    assert ask("POST", "/v1/pools/warm/down", {"drain": True}).status == 202
    refused = ask("POST", "/v1/jobs", {"tasks": [{"task": {"run": "true"}}], "pool": "warm"})
    assert (refused.status, refused.code) == (409, "pool_going")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/v1/pools/cold", None, 404, "pool_not_found"),
        ("GET", "/v1/pools/cold/workers/1/logs", None, 404, "pool_not_found"),
        ("POST", "/v1/pools/cold/down", {}, 404, "pool_not_found"),
        ("PUT", "/v1/pools/cold", {"workers": 1}, 404, "pool_not_found"),
        ("PUT", "/v1/pools/cold", {}, 400, "invalid_input"),
        ("PUT", "/v1/pools/0cold", {"task": {"task": POOL}}, 400, "invalid_input"),
        ("PUT", "/v1/pools/cold", {"workers": -1}, 400, "invalid_input"),
        ("PUT", "/v1/pools/cold", {"task": {"task": {"setup": "true"}}}, 400, "invalid_input"),
        ("PUT", "/v1/pools/cold", {"task": {"task": POOL | {"resources": {"cpus": 99}}}}, 422, "no_offer"),
        ("POST", "/v1/jobs", {"tasks": [{"task": {"run": "true"}}], "num_jobs": 2}, 400, "invalid_input"),
        ("POST", "/v1/jobs", {"tasks": [{"task": {"run": "true"}}], "pool": "cold"}, 404, "pool_not_found"),
        ("GET", "/v1/pools?after=nonsense", None, 400, "invalid_input"),
    ],
)
def test_request_is_refused_with_its_code_when_it_is_wrong(pools, ask, method, path, body, status, code):
    path, _, query = path.partition("?")
    answer = ask(method, path, body, query=query)
    assert (answer.status, answer.code) == (status, code)


def test_pool_lives_its_life_when_the_table_is_dynamodb(tmp_path, dynamodb_table):
    plane = PoolsPlane(tmp_path)
    plane.store.close()
    name, client = dynamodb_table()
    plane.store = DynamoStateStore(name, client, clock=plane.clock.now)
    plane.world = replace(plane.world, store=plane.store)
    plane.apply({"workers": 1})
    plane.ready(1)
    plane.send(num_jobs=3)
    assert [plane.on(number) for number in (1, 2, 3)] == [1, 0, 0]
    for number in (1, 2, 3):
        plane.begin(number)
        plane.finish(number)
    assert {plane.managed(number).status for number in (1, 2, 3)} == {ManagedJobStatus.SUCCEEDED}
    plane.down()
    assert (plane.pool().status, plane.seats()) == (PoolStatus.TERMINATED, [])
