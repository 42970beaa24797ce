from __future__ import annotations

import json
import ssl
from typing import Any, get_type_hints

import httpx
import pytest

from stix.api import v1, v1_access, v1_admin, v1_reports
from stix.sdk import responses
from stix.sdk.client import Client
from stix.sdk.endpoint import Endpoint
from stix.sdk.errors import IncompatibleError, LinkExpiredError, SdkError, UnreachableError
from stix.sdk.follow import follow_operation
from tests.unit.scripted_api import URL, ScriptedApi, cluster, error, job, operation

SHAPES = (v1, v1_access, v1_admin, v1_reports)


@pytest.fixture
def api() -> ScriptedApi:
    return ScriptedApi(clusters=[cluster("dev")])


@pytest.fixture
def client(api: ScriptedApi):
    with Client(Endpoint(URL, "t0ken"), api.transport, pace=api.pace) as client:
        yield client


@pytest.mark.parametrize("name", responses.__all__)
def test_response_shape_has_the_fields_of_the_api_model(name: str) -> None:
    model = next(found for module in SHAPES if (found := getattr(module, name, None)))
    assert set(get_type_hints(getattr(responses, name))) == set(model.model_fields)


def test_calls_carry_the_token_and_reads_carry_no_idempotency_key(api: ScriptedApi, client: Client) -> None:
    client.cluster("dev")
    assert api.calls[0].headers["authorization"] == "Bearer t0ken"
    assert "idempotency-key" not in api.calls[0].headers


@pytest.mark.parametrize(
    "failure",
    [
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        httpx.RemoteProtocolError("cut"),
        httpx.Response(502),
        error(503, "unavailable", "busy"),
        httpx.Response(500, json={"message": "Internal Server Error"}),
        httpx.Response(429),
    ],
)
def test_post_is_repeated_with_the_same_key_when_the_answer_was_lost(
    api: ScriptedApi, client: Client, failure: Any
) -> None:
    api.scripted["POST", "/v1/clusters/dev/stop"] = [failure, failure]
    assert client.stop("dev") == {"operation_id": "op-stop-dev"}
    keys = {call.headers["idempotency-key"] for call in api.calls}
    assert len(api.calls) == 3
    assert len(keys) == 1
    assert len(keys.pop()) <= 128


def test_the_same_call_made_twice_on_purpose_has_two_keys(api: ScriptedApi, client: Client) -> None:
    client.stop("dev")
    client.stop("dev")
    assert len({call.headers["idempotency-key"] for call in api.calls}) == 2


def test_retry_after_is_obeyed_when_the_server_is_busy(api: ScriptedApi, client: Client) -> None:
    api.scripted["GET", "/v1/check"] = [httpx.Response(429, headers={"Retry-After": "3"})]
    client.check()
    assert api.slept == [3.0]


def test_back_off_grows_and_ends_when_the_server_stays_away(api: ScriptedApi, client: Client) -> None:
    client.cluster("dev")
    api.scripted["GET", "/v1/check"] = [httpx.ConnectError("refused")] * 100
    with pytest.raises(UnreachableError):
        client.check()
    assert api.slept == sorted(api.slept)
    assert 1 < sum(api.slept) <= 5


def test_first_contact_fails_soon_when_nobody_listens(api: ScriptedApi, client: Client) -> None:
    api.scripted["GET", "/v1/check"] = [httpx.ConnectError("[Errno 111] Connection refused")] * 100
    with pytest.raises(UnreachableError, match=f"No control plane answers at {URL}: Connection refused"):
        client.check()
    assert sum(api.slept) <= 1.5


def test_a_call_moves_to_the_new_port_when_the_embedded_server_came_back(api: ScriptedApi) -> None:
    asked: list[bool] = []

    def rediscover(start: bool) -> Endpoint:
        asked.append(start)
        return Endpoint("http://127.0.0.1:5", "new", "embedded")

    api.scripted["GET", "/v1/check"] = [httpx.ConnectError("refused")]
    with Client(Endpoint(URL, "old"), api.transport, rediscover=rediscover, pace=api.pace) as client:
        client.check()
        assert api.calls[-1].headers["authorization"] == "Bearer new"
        assert api.calls[-1].headers["host"] == "127.0.0.1:5"
        api.scripted["GET", "/v1/check"] = [httpx.ConnectError("refused")]
        client.check()
    assert asked == [True, False]


def test_a_call_is_sent_again_at_once_when_the_server_had_to_be_started_for_long(api: ScriptedApi) -> None:
    endpoint = Endpoint(URL, "token", "embedded")

    def start_slowly(_: bool) -> Endpoint:
        api.pace.sleep(10.0)
        return endpoint

    api.scripted["GET", "/v1/check"] = [httpx.ConnectError("refused")]
    with Client(endpoint, api.transport, rediscover=start_slowly, pace=api.pace) as client:
        client.check()
        assert len(api.calls) == 2
        # It is not asked for ever whether a server that refuses every call is there.
        api.scripted["GET", "/v1/check"] = [httpx.ConnectError("refused")] * 50
        with pytest.raises(UnreachableError):
            client.check()


def test_untrusted_certificate_is_not_retried_and_names_the_fix(api: ScriptedApi, client: Client) -> None:
    failure = httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate")
    failure.__cause__ = ssl.SSLError("self-signed")
    api.scripted["GET", "/v1/check"] = [failure]
    with pytest.raises(UnreachableError, match="not trusted") as caught:
        client.check()
    assert "SSL_CERT_FILE" in caught.value.hint
    assert len(api.calls) == 1


def test_server_error_arrives_whole_when_it_is_ours(api: ScriptedApi, client: Client) -> None:
    api.scripted["POST", "/v1/clusters/dev/stop"] = [error(409, "conflict", "It is gone.", "Do nothing.")]
    with pytest.raises(SdkError) as caught:
        client.stop("dev")
    found = caught.value
    assert (found.code, found.message, found.hint, found.http_status) == (
        "conflict",
        "It is gone.",
        "Do nothing.",
        409,
    )


@pytest.mark.parametrize(("status", "code"), [(401, "unauthorized"), (403, "forbidden"), (500, "internal")])
def test_gateway_error_gets_our_words_when_it_has_none(
    api: ScriptedApi, client: Client, status: int, code: str
) -> None:
    api.scripted["GET", "/v1/check"] = [httpx.Response(status, json={"message": "x"})] * 100
    with pytest.raises(SdkError) as caught:
        client.check()
    assert caught.value.code == code
    assert URL in caught.value.message


@pytest.mark.parametrize("answer", [httpx.Response(404, text="<html>"), httpx.Response(200, text="<html>")])
def test_a_stranger_is_recognised_when_it_answers_instead(
    api: ScriptedApi, client: Client, answer: httpx.Response
) -> None:
    api.scripted["GET", "/v1/check"] = [answer]
    with pytest.raises(IncompatibleError, match="not a Stix control plane"):
        client.check()


@pytest.mark.parametrize(("protocol", "fix"), [(2, "Upgrade this client"), (0, "Upgrade the control plane")])
def test_health_names_the_side_to_upgrade_when_protocols_differ(
    api: ScriptedApi, client: Client, protocol: int, fix: str
) -> None:
    health = {"status": "ok", "version": "9", "protocol": protocol, "runtime": "aws", "deployment": "d"}
    api.scripted["GET", "/v1/health"] = [httpx.Response(200, json=health)]
    with pytest.raises(IncompatibleError) as caught:
        client.health()
    assert fix in caught.value.hint


def test_lists_are_read_to_their_end_when_they_have_pages(api: ScriptedApi, client: Client) -> None:
    api.clusters = [cluster(f"c{n}") for n in range(7)]
    api.page_size = 3
    assert [one["name"] for one in client.clusters()] == [f"c{n}" for n in range(7)]
    assert len(api.calls) == 3


def test_job_list_stops_at_its_limit(api: ScriptedApi, client: Client) -> None:
    api.jobs["dev"] = [job(n) for n in range(9, 0, -1)]
    api.page_size = 2
    assert [one["id"] for one in client.jobs("dev", limit=3)] == [9, 8, 7]
    assert len(api.calls) == 2


@pytest.mark.parametrize("name", ["a/b", "..", "a?x=1", "a b"])
def test_a_strange_name_stays_one_segment_of_the_path(api: ScriptedApi, client: Client, name: str) -> None:
    with pytest.raises(SdkError) as caught:
        client.cluster(name)
    assert caught.value.http_status == 404
    assert api.calls[0].path.count("/") == 3


def test_trace_hides_the_permission_of_signed_urls(api: ScriptedApi) -> None:
    lines: list[str] = []
    api.logs["dev", 1] = {0: [b""]}
    with Client(Endpoint(URL, "t0ken"), api.transport, trace=lines.append, pace=api.pace) as client:
        client.cluster("dev")
        client.objects.get(f"{URL}/objects/dev/1/0/0?signature=s3cret", {})
    assert lines[0].startswith("GET /v1/clusters/dev?verbose=true 200 (")
    assert lines[1].startswith(f"GET {URL}/objects/dev/1/0/0")
    assert "s3cret" not in "".join(lines)
    assert "authorization" not in api.calls[1].headers


def test_object_get_says_so_when_the_url_has_expired(api: ScriptedApi, client: Client) -> None:
    api.scripted["GET", "/objects/x"] = [httpx.Response(403)]
    with pytest.raises(LinkExpiredError):
        client.objects.get(f"{URL}/objects/x", {})


def test_operation_progress_is_given_once_and_in_order(api: ScriptedApi, client: Client) -> None:
    api.operation_states = [
        operation(status="PENDING"),
        operation(status="RUNNING", lines=["one"]),
        operation(status="RUNNING", lines=["one"]),
        operation(status="SUCCEEDED", lines=["one", "two", "three"]),
    ]
    lines: list[str] = []
    ended = follow_operation(client, "op-1", lines.append)
    assert lines == ["one", "two", "three"]
    assert ended["status"] == "SUCCEEDED"
    assert [call.query.get("seen") for call in api.calls] == ["0", "0", "1", "1"]
    # Only the answer that held no news was worth a pause.
    assert api.slept == [1.0]


def test_operation_is_followed_over_a_restart_of_the_server(api: ScriptedApi, client: Client) -> None:
    api.operation_states = [operation(status="RUNNING", lines=["one"]), operation(lines=["one", "two"])]
    lines: list[str] = []
    client.cluster("dev")
    api.scripted["GET", "/v1/operations/op-1"] = [httpx.ConnectError("refused")] * 6
    follow_operation(client, "op-1", lines.append)
    assert lines == ["one", "two"]


def test_request_bodies_are_json_when_they_hold_other_scripts(api: ScriptedApi, client: Client) -> None:
    api.scripted["POST", "/v1/clusters/dev/jobs"] = [
        httpx.Response(201, json={"cluster": "dev", "job_id": 4})
    ]
    assert client.exec("dev", {"task": {"run": "echo 好"}})["job_id"] == 4
    assert json.loads(api.calls[0].content) == {"task": {"run": "echo 好"}}
