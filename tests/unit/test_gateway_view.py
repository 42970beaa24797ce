"""Reading a view: what it means, and what is said of one that is wrong."""

from __future__ import annotations

import json

import pytest

from stix.gateway import ViewError, parse_view, publish_view
from stix.gateway.view import Probe, Replica, Service, View

SERVICE = {"name": "chat", "port": 8080, "replicas": [{"id": 1, "address": "10.0.0.4", "port": 80}]}


def parsed(**changed: object) -> Service:
    return parse_view(json.dumps({"services": [{**SERVICE, **changed}]})).services[0]


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(ViewError) as caught:
        parse_view(text)
    return caught.value.problems


def test_what_is_left_out_is_the_default_and_what_is_unknown_is_ignored():
    assert parse_view("{}") == View()
    service = parsed(from_a_newer_version=1)
    assert service == Service("chat", 8080, replicas=(Replica("1", "1", "10.0.0.4", 80),))
    assert (service.policy, service.stream_timeout_seconds, service.tokens) == ("least_load", 120, None)


def test_a_probe_has_the_names_of_the_service_spec():
    probe = parsed(
        probe={
            "path": "/v1/health",
            "initial_delay_seconds": 60,
            "timeout_seconds": 3,
            "endpoint_probe_interval_seconds": 2,
            "consecutive_failure_threshold_timeout": 20,
            "post_data": {"prompt": "x"},
            "headers": {"X-Key": "7"},
        }
    ).probe
    assert probe == Probe("/v1/health", 60, 3, 2, 20, '{"prompt": "x"}', {"X-Key": "7"})


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"name": "a b"}, "services[0].name: 'a b'. Write letters, digits, '.', '_' and '-'"),
        ({"name": None}, "services[0].name: None. It is required."),
        ({"port": 0}, "services[0].port: 0. Write a port from 1 to 65535."),
        ({"port": True}, "services[0].port: True."),
        ({"policy": "fastest"}, "Write one of round_robin, least_load, instance_aware_least_load, weighted"),
        ({"tokens": ["secret"]}, "services[0].tokens: ['secret']. Write a list of SHA-256 hashes"),
        ({"sticky_header": "X: 1\nY"}, "services[0].sticky_header"),
        ({"tls": {"certificate": "/etc/cert.pem", "key": "k"}}, "services[0].tls.certificate"),
        ({"probe": {"path": "health"}}, "services[0].probe.path: 'health'. Write a path such as /health"),
        ({"probe": {"path": "/", "headers": {"A": "b\r\nC: d"}}}, "services[0].probe.headers"),
        (
            {"replicas": [{"id": 1, "address": "host", "port": 80}]},
            "services[0].replicas[0].address: 'host'.",
        ),
        ({"replicas": {"id": 1}}, "services[0].replicas: {'id': 1}. Write a list"),
        ({"replicas": SERVICE["replicas"] * 2}, "services[0].replicas: id: '1' is given 2 times."),
        ({"wait_seconds": -1}, "services[0].wait_seconds: -1. Write whole seconds"),
        ({"drain_seconds": float("nan")}, "services[0].drain_seconds: nan."),
    ],
)
def test_a_wrong_field_is_named_with_its_value_and_the_fix(changed, problem):
    found = problems(json.dumps({"services": [{**SERVICE, **changed}]}))
    assert any(problem in text for text in found), found


def test_everything_that_is_wrong_is_said_at_once():
    services = [{**SERVICE, "port": 0}, {**SERVICE, "policy": "x"}]
    found = problems(json.dumps({"version": "one", "services": services}))
    assert len(found) == 4
    assert "name: 'chat' is given 2 times. Give each its own." in found


@pytest.mark.parametrize("text", ["", "{", "[]", "7"])
def test_what_is_no_view_is_refused(text):
    assert problems(text)[0].startswith("the view: ")


def test_publishing_a_wrong_view_leaves_the_file(tmp_path):
    path = tmp_path / "view.json"
    publish_view(str(path), {"version": 1, "services": [SERVICE]})
    before = path.read_text()
    with pytest.raises(ViewError):
        publish_view(str(path), {"version": 2, "services": [{"name": "chat"}]})
    assert path.read_text() == before
    assert path.stat().st_mode & 0o777 == 0o600
