"""The names of a job group on a node: whose hosts file they are put into, and when they are new."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace

import pytest

from stix.agent.config import AgentConfig
from stix.agent.hosts import Hosts, with_block

NAMES = [("trainer-0.rl", "10.0.0.1"), ("server-0.rl", "10.0.0.2")]


@pytest.fixture
def config(tmp_path):
    return AgentConfig("token", "m-1", str(tmp_path), str(tmp_path), allow_absolute_mounts=True)


@pytest.fixture
def system(tmp_path):
    path = tmp_path / "etc-hosts"
    path.write_text("127.0.0.1 localhost")
    return path


def test_block_is_replaced_when_there_is_one_already():
    once = with_block("127.0.0.1 localhost", "10.0.0.1 a\n")
    assert once.startswith("127.0.0.1 localhost\n#")
    again = with_block(once + "10.9.9.9 mine\n", "10.0.0.2 a\n")
    assert "10.0.0.1" not in again
    assert "10.0.0.2 a\n" in again
    assert "10.9.9.9 mine\n" in again
    assert with_block(once, "") == "127.0.0.1 localhost\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's agent writes the machine's own file")
def test_machine_knows_the_names_when_it_is_the_nodes_alone(config, system):
    hosts = Hosts(config, str(system))
    hosts.update(2, NAMES)
    assert "10.0.0.2 server-0.rl\n" in system.read_text()
    assert hosts.prefix() == []
    hosts.update(1, [("server-0.rl", "10.0.0.9")])  # An older version, late on its way.
    assert "10.0.0.9" not in system.read_text()
    # A restarted agent knows which version it has.
    Hosts(config, str(system)).update(2, [("server-0.rl", "10.0.0.9")])
    assert "10.0.0.9" not in system.read_text()
    hosts.update(3, [("server-0.rl", "10.0.0.3")])
    assert system.read_text().count("rl\n") == 1
    assert (system.stat().st_mode & 0o777) == 0o644


def test_shared_computers_file_stays_when_a_task_is_told_the_names(config, system):
    hosts = Hosts(replace(config, allow_absolute_mounts=False), str(system))
    hosts.update(1, NAMES)
    assert system.read_text() == "127.0.0.1 localhost"
    with open(hosts.path) as kept:
        assert "10.0.0.1 trainer-0.rl\n" in kept.read()


def test_task_sees_new_names_when_they_change_while_it_runs(config, system):
    hosts = Hosts(replace(config, allow_absolute_mounts=False), str(system))
    hosts.update(1, NAMES)
    prefix = hosts.prefix()
    if not prefix:
        pytest.skip("this kernel gives no process a view of /etc/hosts of its own")
    script = "cat /etc/hosts; read line; cat /etc/hosts"
    with subprocess.Popen(
        [*prefix, "/bin/sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as task:
        assert task.stdin is not None
        assert task.stdout is not None
        before = [task.stdout.readline() for _ in range(4)]
        hosts.update(2, [("server-0.rl", "10.0.0.7")])
        after, _ = task.communicate("\n")
    assert "10.0.0.2 server-0.rl\n" in before
    assert "10.0.0.7 server-0.rl\n" in after
    assert "10.0.0.2" not in after
    with open("/etc/hosts") as shared:
        assert "server-0.rl" not in shared.read()
