"""``stix ssh`` up to where the system's ssh takes over, its ways to a node, and endpoints."""

from __future__ import annotations

import os
import socket
import threading

import httpx
import pytest

from stix.api import v1, v1_access
from stix.sdk import ssh_routes
from stix.sdk.ssh_routes import Attempts, session_manager_command
from tests.unit.scripted_api import Cli, ScriptedApi, cluster, error, operation

SSH = ("POST", "/v1/clusters/dev/ssh")


@pytest.fixture
def api() -> ScriptedApi:
    return ScriptedApi()


@pytest.fixture
def cli(api, capsys, monkeypatch, tmp_path) -> Cli:
    return Cli(api, capsys, monkeypatch, str(tmp_path / "home"))


@pytest.fixture(autouse=True)
def person(tmp_path, monkeypatch):
    """A person whose home is not this machine's, and whose programs are noted instead of run."""
    run: list[list[str]] = []
    fake = type("Entry", (), {"pw_dir": str(tmp_path / "person"), "pw_name": "me"})()
    monkeypatch.setattr("stix.sdk.ssh_config.pwd.getpwuid", lambda number: fake)
    monkeypatch.setattr("stix.cli.ssh.os.execv", lambda program, arguments: run.append(arguments[1:]))
    (tmp_path / "person").mkdir()
    return run


def node(rank=0, **fields):
    given = {"up": True, "ready": True, "user": "root", "port": 22, "host_keys": ["ssh-ed25519 AAAA"]}
    return v1_access.SshNode(rank=rank, **{**given, **fields}).model_dump(mode="json")


def access(*nodes, **fields):
    body = {"cluster": "dev", "cluster_id": "c", "nodes": list(nodes)} | fields
    return httpx.Response(200, json=v1_access.SshAccess(**body).model_dump(mode="json"))


def hosts(cli):
    path = os.path.join(cli.home, "ssh/config")
    with open(path) as stream:
        return [line.split()[1] for line in stream if line.startswith("Host ")]


@pytest.mark.parametrize(
    ("arguments", "run"),
    [
        (["dev"], ["dev"]),
        (["dev", "ls", "-l", "-h"], ["dev", "ls", "-l", "-h"]),
        (["dev", "-L", "8080:localhost:8080", "-N"], ["dev", "-L", "8080:localhost:8080", "-N"]),
        (["--node", "1", "dev", "uptime"], ["dev-worker1", "uptime"]),
        (["dev", "--node", "1", "uptime"], ["dev-worker1", "uptime"]),
        (["dev", "--node=1"], ["dev-worker1"]),
        (["dev", "echo", "--node", "1"], ["dev", "echo", "--node", "1"]),
    ],
)
def test_ssh_runs_the_systems_with_what_follows_the_cluster(
    cli: Cli, api: ScriptedApi, person, arguments, run
):
    api.scripted[SSH] = [access(node(), node(1))]
    assert cli("ssh", *arguments).code == 0
    assert person == [run]
    assert hosts(cli) == ["dev", "dev-worker1"]
    [call] = api.asked(*SSH)
    v1_access.SshRequest.model_validate(call.body)


def test_ssh_waits_until_the_node_has_the_key_and_says_when_it_does_not_come(cli, api, person):
    waiting = [access(node(ready=False, user="", host_keys=())) for _ in range(3)]
    api.scripted[SSH] = [*waiting, access(node())]
    assert cli("ssh", "dev").code == 0
    assert len(api.slept) == 3
    api.scripted[SSH] = [access(node(ready=False)) for _ in range(200)]
    result = cli("ssh", "dev")
    assert result.code == 1
    assert "has not taken the key within 45 s" in result.err


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (access(node(problem="install the package openssh-server")), 1, "install the package openssh-server"),
        (error(404, "cluster_not_found", "There is no cluster 'dev'."), 2, "no cluster 'dev'"),
        (error(409, "cluster_not_up", "Cluster 'dev' is STOPPED."), 2, "STOPPED"),
    ],
)
def test_ssh_says_why_nobody_can_log_in(cli, api, person, answer, code, words):
    api.scripted[SSH] = [answer]
    result = cli("ssh", "dev")
    assert (result.code, person) == (code, [])
    assert words in result.err


def test_ssh_names_the_ranks_there_are_when_it_is_asked_for_another(cli, api):
    api.scripted[SSH] = [access(node(), node(1))]
    result = cli("ssh", "dev", "--node", "2")
    assert result.code == 2
    assert "0 to 1" in result.err
    assert "give a node's rank" in cli("ssh", "dev", "--node", "two").err


def test_hosts_go_when_their_cluster_is_found_to_be_gone(cli, api, person):
    def log_in():
        api.scripted[SSH] = [access(node())]
        assert cli("ssh", "dev").code == 0
        assert hosts(cli) == ["dev"]

    log_in()
    api.scripted[SSH] = [error(404, "cluster_not_found", "There is no cluster 'dev'.")]
    cli("ssh-proxy", "dev", "0")
    assert hosts(cli) == []
    log_in()
    api.clusters = [cluster("dev")]
    cli("status")
    assert hosts(cli) == ["dev"]
    api.clusters = []
    cli("status")
    assert hosts(cli) == []
    log_in()
    api.clusters = [cluster("dev")]
    api.operation_states = [operation()]
    api.scripted["GET", "/v1/clusters"] = [httpx.Response(200, json={"clusters": [], "next": None})]
    assert cli("down", "-y", "dev").code == 0
    assert hosts(cli) == []


# -- ways ------------------------------------------------------------------------------------------------


def test_session_manager_is_asked_as_aws_documents_it():
    assert session_manager_command("i-0abc", "eu-west-1", 22) == [
        *("aws", "ssm", "start-session", "--target", "i-0abc", "--document-name", "AWS-StartSSHSession"),
        *("--parameters", "portNumber=22", "--region", "eu-west-1"),
    ]


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Makes programs that are found first."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def make(name, text):
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)

    return make


def through_aws(**fields):
    attempts = Attempts()
    asked = {"cloud": "aws", "region": "eu-west-1", "cluster": "dev", "cluster_id": "c", "nodes": []}
    found = ssh_routes._session_manager(asked, node(machine_id="i-1", **fields), attempts)
    return found, attempts.lines


def test_session_manager_is_used_once_the_server_has_spoken(programs, tmp_path):
    programs("session-manager-plugin", "")
    programs("aws", f'echo "$@" >{tmp_path}/asked; echo SSH-2.0-test; cat')
    (process, first), lines = through_aws(session_manager=True)
    try:
        assert first == b"SSH-2.0-test\n"
        assert lines == []
        assert (tmp_path / "asked").read_text().split()[:4] == ["ssm", "start-session", "--target", "i-1"]
    finally:
        process.kill()
        process.communicate()


def test_session_manager_is_left_with_a_reason_when_it_cannot_lead_there(programs, monkeypatch):
    assert "instance profile" in through_aws()[1][0]
    with monkeypatch.context() as without:
        without.setattr("shutil.which", lambda name: None if name == "aws" else name)
        assert "aws is not installed here" in through_aws(session_manager=True)[1][0]
    programs("session-manager-plugin", "")
    programs("aws", "echo 'TargetNotConnected: i-1 is not connected.' >&2; exit 254")
    found, lines = through_aws(session_manager=True)
    assert found is None
    assert "TargetNotConnected" in lines[0]


@pytest.fixture
def listening():
    """A port where something says a line."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: server.accept()[0].close(), daemon=True).start()
        yield server.getsockname()[1]


def test_machine_that_is_another_one_is_not_the_way(listening, programs):
    programs("ssh-keyscan", "echo '127.0.0.1 ssh-ed25519 OTHER'")
    attempts = Attempts()
    assert ssh_routes._direct(node(address="127.0.0.1", port=listening), attempts) is None
    assert "another machine answers there" in attempts.lines[0]


def test_machine_that_has_the_nodes_key_is_the_way(listening, programs):
    programs("ssh-keyscan", "echo '127.0.0.1 ssh-ed25519 AAAA'")
    stream = ssh_routes._direct(node(address="127.0.0.1", port=listening), Attempts())
    assert stream is not None
    stream.close()


def test_server_that_listens_nowhere_is_not_tried_directly():
    attempts = Attempts()
    assert ssh_routes._direct(node(address="127.0.0.1", port=0), attempts) is None
    assert attempts.lines == []


def test_proxy_names_every_way_it_tried(cli, api, tmp_path):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # Held, so that nobody else comes to listen there.
        closed = silent.getsockname()[1]
        api.scripted[SSH] = [access(node(address="127.0.0.1", port=closed), cloud="aws")]
        api.scripted["POST", "/v1/clusters/dev/tunnels"] = [
            error(409, "cluster_not_up", "Node 0 is UNREACHABLE.")
        ]
        result = cli("ssh-proxy", "dev", "0")
    assert result.code == 1
    for words in (
        f"directly at 127.0.0.1 port {closed}: Connection refused",
        "instance profile",
        "UNREACHABLE",
    ):
        assert words in result.err


# -- addresses -------------------------------------------------------------------------------------------


def endpoints(api, *ports, reason="", host="192.0.2.7"):
    found = [v1_access.Endpoint(port=port, host=host, url=f"http://{host}:{port}") for port in ports]
    body = v1_access.Endpoints(endpoints=found, reason=reason).model_dump(mode="json")
    api.scripted["GET", "/v1/clusters/dev/endpoints"] = [httpx.Response(200, json=body)]


def test_endpoint_is_one_line_and_its_absence_an_error(cli, api):
    api.clusters = [cluster("dev")]
    endpoints(api, 8080, 9000)
    assert cli("status", "dev", "--endpoint", "9000").out == "192.0.2.7:9000\n"
    endpoints(api, 8080, 9000)
    assert (
        cli("status", "dev", "--endpoints").out
        == "8080: http://192.0.2.7:8080\n9000: http://192.0.2.7:9000\n"
    )
    endpoints(api, 8080)
    closed = cli("status", "dev", "--endpoint", "9000")
    assert (closed.code, closed.out) == (1, "")
    assert "its task opened 8080" in closed.err
    assert "-L 9000:localhost:9000" in closed.err
    endpoints(api, reason="its task opened none")
    assert "opened none" in cli("status", "dev", "--endpoints").err


def test_ip_is_the_public_address_where_there_is_one(cli, api):
    head = v1.Node(rank=0, status="UP", address="10.0.0.1", public_address="192.0.2.7")
    api.clusters = [cluster("dev", nodes=[head])]
    assert cli("status", "dev", "--ip").out == "192.0.2.7\n"
    api.clusters = [cluster("dev", status="STOPPED", nodes=[head])]
    stopped = cli("status", "dev", "--ip")
    assert (stopped.code, stopped.out) == (1, "")
    assert "STOPPED" in stopped.err


def test_only_one_of_the_addresses_is_asked_for_at_a_time(cli, api):
    result = cli("status", "--ip", "--endpoints")
    assert result.code == 2
    assert "one of --ip" in result.err
