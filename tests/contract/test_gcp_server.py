"""The test server of Google Cloud holds what comes and goes to Google's discovery document."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests

from tests.contract.world_gcp import World
from tests.providers.gcp.server import PROJECT


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


@pytest.mark.parametrize(
    ("verb", "path", "body", "violation"),
    [
        ("POST", "global/networks", {"name": "n", "autoCreate": True}, "has no field autoCreate"),
        ("POST", "global/networks", {"name": 5}, "not of the type string"),
        ("POST", "global/networks", {"name": "Not_A_Name"}, "has 'Not_A_Name'"),
        ("POST", "global/firewalls", {"name": "f", "direction": "UP"}, "none of ['EGRESS', 'INGRESS']"),
        ("POST", "global/firewalls", {"allowed": [{"ports": 80}]}, "allowed[0].ports is 80"),
        ("POST", "global/firewalls", None, "not of the type object"),
        ("GET", "global/networks/n?zone=z", None, "has no parameter zone"),
        ("GET", "global/networks/Wrong_Name", None, "parameter network is 'Wrong_Name'"),
        ("GET", "aggregated/instances?maxResults=many", None, "parameter maxResults is 'many'"),
        ("POST", "global/networks", {"description": "d"}, "has no name, which is required"),
        ("PUT", "global/networks/n", None, "there is no PUT"),
        ("GET", "global/nowhere", None, "there is no GET"),
    ],
)
def test_request_that_google_would_not_know_is_a_violation(
    world: World, verb: str, path: str, body: Any, violation: str
) -> None:
    discovery = world.server.discovery
    address, _, query = f"/compute/v1/projects/{PROJECT}/{quote(path, safe='/?=')}".partition("?")
    discovery.call(verb, address, query, b"" if body is None else json.dumps(body).encode())
    assert any(violation in one for one in discovery.violations), discovery.violations
    discovery.violations.clear()


def test_answer_that_google_would_not_give_is_a_violation(world: World) -> None:
    discovery = world.server.discovery
    call = discovery.call("GET", f"/compute/v1/projects/{PROJECT}/global/networks/n", "", b"")
    assert call is not None
    assert discovery.violations == []
    discovery.check_answer(call, {"name": "n", "size": 3})
    assert discovery.violations == ["compute.networks.get answer has no field size"]
    discovery.violations.clear()


def test_world_fails_when_a_request_over_http_broke_the_document(tmp_path: Path) -> None:
    world = World(tmp_path)
    wrong = {"name": "n", "autoCreate": True}
    address = f"{world.server.url}/compute/v1/projects/{PROJECT}/global/networks"
    answer = requests.post(address, json=wrong, headers={"Authorization": "Bearer token"}, timeout=10)
    assert answer.status_code == 200
    with pytest.raises(AssertionError, match="autoCreate"):
        world.close()
