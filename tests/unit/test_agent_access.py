"""The agent's part in letting people in: keys in a file of others, and which SSH server there is."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import threading

import pytest

from stix.agent.access import Access
from stix.agent.authorized_keys import with_keys, write_keys
from stix.agent.config import AgentConfig
from stix.agent.ssh_server import NoServerError, PrivateServer, find_server
from tests.waiting import eventually

MARK = "stix:c-1"
ANN = {"user": "ann", "key": "ssh-ed25519 AAAA"}
BOB = {"user": "bob smith", "key": "ssh-rsa BBBB"}
THEIRS = 'command="x y",no-pty ssh-rsa CCCC stix:c-1:ann comment\n# stix:c-1:ann\nssh-rsa DDDD stix:c-12:ann'

needs_sshd = pytest.mark.skipif(
    shutil.which("sshd", path="/usr/sbin:/sbin:/usr/bin") is None, reason="no sshd here"
)


def test_only_our_own_lines_are_changed():
    once = with_keys(THEIRS, MARK, [ANN, BOB])
    assert once == THEIRS + "\nssh-ed25519 AAAA stix:c-1:ann\nssh-rsa BBBB stix:c-1:bob_smith\n"
    assert with_keys(once, MARK, [ANN, BOB]) == once
    assert with_keys(once, MARK, []) == THEIRS + "\n"
    assert with_keys(THEIRS, MARK, []) == THEIRS


def test_file_keeps_its_mode_and_is_made_private_when_it_is_new(tmp_path):
    path = tmp_path / "home/.ssh/authorized_keys"
    write_keys(str(path), MARK, [ANN])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.chmod(0o640)
    write_keys(str(path), MARK, [])
    assert path.read_text() == ""
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(path.parent) == ["authorized_keys"]


def config(tmp_path, home=None):
    (tmp_path / "state").mkdir()
    (tmp_path / "home").mkdir()
    return AgentConfig("t", "m", str(tmp_path / "state"), str(home or tmp_path / "home"))


def test_missing_server_names_its_package(tmp_path, monkeypatch):
    monkeypatch.setattr("stix.agent.ssh_server._SBIN", str(tmp_path))
    with pytest.raises(NoServerError, match="openssh-server"):
        find_server(config(tmp_path))


@needs_sshd
def test_server_is_the_agents_own_when_the_nodes_home_is_not_the_users(tmp_path):
    server = find_server(config(tmp_path))
    assert isinstance(server, PrivateServer)
    assert server.port == 0
    [key] = server.host_keys()
    again = find_server(AgentConfig("t", "m", str(tmp_path / "state"), str(tmp_path / "home")))
    assert again.host_keys() == [key]


@needs_sshd
def test_own_server_lets_a_key_in_to_the_nodes_home_and_others_not(tmp_path):
    server = find_server(config(tmp_path))
    for name in ("mine", "other"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    server.authorize(
        MARK, [{"user": "ann", "key": " ".join((tmp_path / "mine.pub").read_text().split()[:2])}]
    )
    program = shutil.which("sshd", path="/usr/sbin:/sbin:/usr/bin")
    options = ["-F", "none", "-o", f"ProxyCommand={program} -i -f {tmp_path}/state/ssh/config"]
    options += ["-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-o", "HostKeyAlias=node"]
    (tmp_path / "known").write_text(f"node {server.host_keys()[0]}\n")
    options += ["-o", f"UserKnownHostsFile={tmp_path}/known", "-l", pwd.getpwuid(os.geteuid()).pw_name]

    def log_in(key, *command):
        return subprocess.run(
            ["ssh", *options, "-i", tmp_path / key, "-o", "IdentitiesOnly=yes", "node", *command],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
        )

    done = log_in("mine", "pwd; echo $HOME; exit 7")
    assert (done.returncode, done.stdout) == (7, f"{tmp_path}/home\n" * 2), done.stderr
    assert log_in("other", "pwd").returncode == 255
    server.authorize(MARK, [])
    assert log_in("mine", "pwd").returncode == 255


class Cluster:
    """What the agent's part knows of its cluster."""

    identity = {"cluster_id": "c-1", "node_token": "t"}  # noqa: RUF012


@needs_sshd
def test_facts_follow_the_keys_and_nothing_stays_when_the_node_ends(tmp_path):
    told: list[dict] = []
    access = Access(config(tmp_path), Cluster(), told.append)
    access.update(4, {"keys": [ANN], "keys_version": 1, "tunnels": []})
    eventually(lambda: told, "the facts are told")
    assert access.version == 4
    assert (told[0]["version"], told[0]["port"], told[0]["problem"]) == (1, 0, "")
    assert told[0]["user"] == pwd.getpwuid(os.geteuid()).pw_name
    keys = tmp_path / "state/ssh/authorized_keys"
    assert keys.read_text() == "ssh-ed25519 AAAA stix:c-1:ann\n"
    access.update(5, {"keys": [ANN, BOB], "keys_version": 2, "tunnels": []})
    eventually(lambda: len(told) == 2, "the second key is there")
    assert keys.read_text().count("stix:c-1:") == 2
    access.close()
    assert keys.read_text() == ""


def test_no_key_stays_when_the_node_ends_while_it_takes_them(tmp_path, monkeypatch):
    begun, go_on = threading.Event(), threading.Event()

    class Server:
        port = 0
        kept: list[dict] = []  # noqa: RUF012

        def authorize(self, mark, keys):
            if keys:
                begun.set()
                assert go_on.wait(60)
            self.kept = keys

        def host_keys(self):
            return []

    server, told = Server(), []
    monkeypatch.setattr("stix.agent.access.find_server", lambda config: server)
    access = Access(config(tmp_path), Cluster(), told.append)
    access.update(1, {"keys": [ANN], "keys_version": 1, "tunnels": []})
    assert begun.wait(60)
    ending = threading.Thread(target=access.close)
    ending.start()
    ending.join(0.1)  # Time enough to end without the keys that are on their way.
    go_on.set()
    ending.join()
    eventually(lambda: told, "it has done what it was at")
    assert server.kept == []


def test_facts_say_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr("stix.agent.ssh_server._SBIN", str(tmp_path))
    told: list[dict] = []
    access = Access(config(tmp_path), Cluster(), told.append)
    access.update(1, {"keys": [ANN], "keys_version": 1, "tunnels": []})
    eventually(lambda: told, "the facts are told")
    assert "openssh-server" in told[0]["problem"]
    access.close()
