"""stix serve: what is asked for, what is shown, and the exit codes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from stix.api import v1_services
from stix.model.task import Task
from tests.unit.scripted_api import NOW, Cli, ScriptedApi, chunk, error, job

TASK = """\
name: chat
resources: {ports: 8000}
run: python serve.py
service: {readiness_probe: /health, replicas: 2}
"""
ACCEPTED = {"name": "chat", "version": 1, "port": 30001, "endpoint": "http://127.0.0.1:30001"}


@pytest.fixture
def api() -> ScriptedApi:
    api = ScriptedApi(job_states=[job()])
    api.logs["dev", 1] = {0: [chunk((1, "hello\n"))]}
    return api


@pytest.fixture
def cli(api, capsys, monkeypatch, tmp_path) -> Cli:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "chat.yaml").write_text(TASK)
    return Cli(api, capsys, monkeypatch, str(tmp_path / "home"))


def replica(number: int = 1, status: str = "READY", **fields: Any) -> dict[str, Any]:
    given = {"version": 1, "since": NOW - 9, "launched_at": NOW - 120, "place": "aws/us-east-1/a"}
    made = v1_services.ServiceReplica(id=number, status=status, **{**given, **fields})
    return made.model_dump(mode="json")


def service(*replicas: dict[str, Any], **fields: Any) -> dict[str, Any]:
    given = {"status": "READY", "since": NOW - 60, "created_at": NOW - 300, "port": 30001}
    given |= {"active_version": 1, "serving": [1], "endpoint": "http://10.1.2.3:30001"}
    made = v1_services.Service(name="chat", replicas=list(replicas), **{**given, **fields})
    return made.model_dump(mode="json")


def say(api: ScriptedApi, method: str, path: str, *answers: Any) -> None:
    for one in answers:
        answer = one if isinstance(one, httpx.Response) else httpx.Response(200, json=one)
        api.scripted[method, path].append(answer)


def test_up_sends_the_task_with_its_service_and_prints_the_endpoint(cli: Cli, api: ScriptedApi) -> None:
    say(api, "POST", "/v1/services", ACCEPTED)
    result = cli("serve", "up", "-y", "chat.yaml")
    assert (result.code, result.out) == (0, "Endpoint: http://127.0.0.1:30001\n")
    [call] = api.asked("POST", "/v1/services")
    request = v1_services.ServiceUpRequest.model_validate(call.body)
    assert (request.name, request.tokens) == ("chat", None)
    assert Task.from_yaml_config(request.task).service is not None


def test_up_of_a_private_service_sends_only_the_tokens_hash(cli: Cli, api: ScriptedApi) -> None:
    say(api, "POST", "/v1/services", ACCEPTED)
    result = cli("serve", "up", "-y", "--private", "chat.yaml")
    token = result.out.splitlines()[1].removeprefix("Token: ")
    [call] = api.asked("POST", "/v1/services")
    assert call.body["tokens"] == [hashlib.sha256(token.encode()).hexdigest()]
    assert token not in json.dumps(call.body)


def test_up_sends_the_certificate_that_the_service_names(cli: Cli, api: ScriptedApi, tmp_path) -> None:
    with_tls = TASK.replace("replicas: 2", "replicas: 2, tls: {certfile: c.pem, keyfile: k.pem}")
    (tmp_path / "chat.yaml").write_text(with_tls)
    result = cli("serve", "up", "-y", "chat.yaml")
    assert result.code == 2
    assert "service.tls.certfile" in result.err
    (tmp_path / "c.pem").write_text("-----BEGIN CERTIFICATE-----")
    (tmp_path / "k.pem").write_text("-----BEGIN PRIVATE KEY-----")
    say(api, "POST", "/v1/services", ACCEPTED)
    assert cli("serve", "up", "-y", "chat.yaml").code == 0
    [call] = api.asked("POST", "/v1/services")
    assert call.body["tls"]["key"] == "-----BEGIN PRIVATE KEY-----"


def test_up_of_a_task_without_a_service_is_refused_by_field(cli: Cli, tmp_path) -> None:
    (tmp_path / "plain.yaml").write_text("run: echo hi\n")
    result = cli("serve", "up", "-y", "plain.yaml")
    assert result.code == 2
    assert "readiness_probe" in result.err


def test_update_sends_the_mode(cli: Cli, api: ScriptedApi) -> None:
    say(api, "POST", "/v1/services/chat/versions", ACCEPTED | {"version": 2})
    result = cli("serve", "update", "-y", "--mode", "blue_green", "chat", "chat.yaml")
    assert result.code == 0
    assert "version 2" in result.err
    [call] = api.asked("POST", "/v1/services/chat/versions")
    assert v1_services.ServiceUpdateRequest.model_validate(call.body).mode == "blue_green"


def test_status_shows_services_and_their_replicas(cli: Cli, api: ScriptedApi) -> None:
    shown = service(
        replica(1, spot=True, accelerators="A100:1"),
        replica(2, "FAILED_PROBING", ended_at=NOW - 5, reason="no answer"),
        ready_at=NOW - 3600,
        ready_replicas=1,
        request_rate=2.5,
    )
    say(api, "GET", "/v1/services", {"services": [shown], "next": None})
    out = cli("serve", "status", "-v").out
    assert "1/1" in out
    assert "2.5" in out
    assert "A100:1 (spot)" in out
    assert "FAILED_PROBING" in out
    assert "replica 2: no answer" in out
    say(api, "GET", "/v1/services/chat", shown)
    assert cli("serve", "status", "--endpoint", "chat").out == "http://10.1.2.3:30001\n"


def test_down_waits_until_the_service_is_gone(cli: Cli, api: ScriptedApi) -> None:
    say(api, "POST", "/v1/services/chat/down", service(status="SHUTTING_DOWN"))
    gone = error(404, "service_not_found", "There is no service 'chat'.")
    say(api, "GET", "/v1/services/chat", service(status="SHUTTING_DOWN"), gone)
    result = cli("serve", "down", "-y", "chat")
    assert (result.code, result.err) == (0, "Service chat is gone.\n")


def test_down_of_a_replica_ends_it_alone(cli: Cli, api: ScriptedApi) -> None:
    say(api, "POST", "/v1/services/chat/replicas/2/terminate", service())
    result = cli("serve", "down", "-y", "chat", "--replica-id", "2", "--purge")
    assert result.code == 0
    [call] = api.asked("POST", "/v1/services/chat/replicas/2/terminate")
    assert call.body == {"purge": True}
    assert cli("serve", "down", "-y", "--replica-id", "2", "a", "b").code == 2


def test_logs_are_those_of_the_newest_replica(cli: Cli, api: ScriptedApi) -> None:
    say(api, "GET", "/v1/services/chat", service(replica(1), replica(2)))
    say(api, "GET", "/v1/services/chat/replicas/2/logs", api._log_page("dev", {}))
    assert cli("serve", "logs", "chat").out == "hello\n"


def test_logs_of_the_load_balancer_are_what_gateways_count(cli: Cli, api: ScriptedApi) -> None:
    figures = {"figures_at": NOW - 2, "request_rate": 3.0, "queue_length": 4.0, "latency_p95": 0.2}
    say(api, "GET", "/v1/services/chat", service(replica(1, in_flight=4), **figures))
    out = cli("serve", "logs", "chat", "--load-balancer").out
    assert "waiting or in progress: 4" in out
    assert "replica 1: READY, 4 in progress" in out
    assert "Last requests" not in out


def test_logs_of_the_load_balancer_show_the_last_requests_when_the_gateway_is_here(
    cli: Cli, api: ScriptedApi, tmp_path: Path
) -> None:
    log = tmp_path / "home" / "gateway" / "state" / "access.log"
    log.parent.mkdir(parents=True)
    told = {"method": "GET", "path": "/a", "status": 200, "replica": "1", "total_ms": 2641, "end": "--"}
    entries = [
        {"service": "chat", **told, "waited_ms": 2640},
        {"service": "other", **told},
        {"service": "chat", **told, "status": 503, "replica": "-", "waited_ms": 12, "end": "sC"},
    ]
    log.write_text(
        "half a line}\n" + "\n".join(json.dumps({"time": NOW, **one}) for one in entries) + "\n[WARN]\n"
    )
    say(api, "GET", "/v1/services/chat", service(replica(1), figures_at=NOW - 2))
    out = cli("serve", "logs", "chat", "--load-balancer").out
    first, second = out.partition("Last requests:\n")[2].splitlines()
    assert first.endswith("GET /a 200 replica 1 2.641 s, waited 2.640 s")
    assert second.endswith("GET /a 503 no replica 2.641 s, ended sC")


def test_explain_of_a_service_prints_decisions_with_figures_and_reasons(cli: Cli, api: ScriptedApi) -> None:
    decision = v1_services.ServiceDecision(
        at=NOW - 60,
        version=1,
        target=2,
        reason="2 replicas: 3 requests/s at 2 each",
        figures="3 requests/s, 1 waiting or in progress",
        actions=["launch a spot replica in aws/us-east-1/a: 1 of 2 spot replicas are missing"],
    )
    told = v1_services.ServiceExplanation(
        service=v1_services.Service.model_validate(service(target=2)), decisions=[decision], cost=1.5
    )
    say(api, "GET", "/v1/clusters/chat/explain", error(404, "cluster_not_found", "no cluster"))
    say(api, "GET", "/v1/services/chat", service())
    say(api, "GET", "/v1/services/chat/explain", told.model_dump(mode="json"))
    out = " ".join(cli("explain", "chat").out.split())
    assert "2 replicas: 3 requests/s at 2 each [3 requests/s, 1 waiting or in progress]" in out
    assert "launch a spot replica in aws/us-east-1/a" in out
