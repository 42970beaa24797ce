"""The archive, the config, the environment, and small pure parts of the agent."""

from __future__ import annotations

import ast
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import stix.agent
from stix.agent.archive import archive_bytes, build_archive
from stix.agent.backoff import Backoff
from stix.agent.config import ConfigError, load_config
from stix.agent.environment import task_environment
from stix.agent.http_answer import Answer, BadAnswerError
from stix.agent.settings import must_end_alone

PACKAGE = Path(stix.agent.__file__).parent


def test_archive_is_small_and_equal_when_built_twice(tmp_path):
    first, second = build_archive(tmp_path / "a.pyz"), build_archive(tmp_path / "deep/b.pyz")
    assert first == second
    assert (tmp_path / "a.pyz").read_bytes() == (tmp_path / "deep/b.pyz").read_bytes()
    assert len(archive_bytes()) < 165_000
    names = zipfile.ZipFile(tmp_path / "a.pyz").namelist()
    assert "__main__.py" in names
    assert {"stix_agent/agent.py", "stix_gateway/__main__.py"} <= set(names)
    assert not any("archive" in name for name in names)


def test_archive_says_how_to_use_it_when_called_wrongly(tmp_path):
    build_archive(tmp_path / "a.pyz")
    done = subprocess.run(
        [sys.executable, "-I", "-S", tmp_path / "a.pyz", "dance"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr[:6]) == (64, "usage:")


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.name)
def test_module_imports_only_itself_and_the_standard_library(path):
    tree = ast.parse(path.read_text(), feature_version=(3, 8))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            roots = [alias.name.split(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            roots = [] if node.level else [str(node.module).split(".")[0]]
            assert node.level <= 1
        else:
            continue
        assert set(roots) <= sys.stdlib_module_names


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "cannot be read"), ("[]", "list"), ("{}", "join_token"), ('{"join_token": ""}', "join_token")],
)
def test_config_error_names_the_field_when_it_is_unusable(tmp_path, text, words):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(ConfigError, match=words):
        load_config(str(tmp_path / "c.json"))


def test_api_url_follows_its_file_when_the_server_moves(tmp_path):
    file = tmp_path / "url"
    values = {"join_token": "t", "machine_id": "m", "state_dir": "s", "home_dir": "h", "api_url": "http://a/"}
    (tmp_path / "c.json").write_text(json.dumps({**values, "api_url_file": str(file)}))
    config = load_config(str(tmp_path / "c.json"))
    assert config.current_api_url() == "http://a"
    file.write_text("http://b/\n")
    assert config.current_api_url() == "http://b"


def test_environment_has_both_prefixes_when_the_job_is_a_gang():
    assignment = {
        "job": {"id": 3, "task_id": "t", "user": "u", "envs": {"A": "b", "N": None}, "demand": {"gpus": 0.5}},
        "rank": 1,
        "ips": ["10.0.0.1", "10.0.0.2"],
        "gpus": [7],
    }
    identity = {
        "cluster_id": "c",
        "cluster_name": "n",
        "cloud": "aws",
        "region": "r",
        "zone": "z",
        "user": "u",
    }
    setup = task_environment(assignment, identity, "/home/u", "setup", {"A": "secret wins"})
    expected = {
        "NODE_RANK": "1",
        "NODE_IPS": "10.0.0.1\n10.0.0.2",
        "NUM_NODES": "2",
        "NUM_GPUS_PER_NODE": "1",
        "TASK_ID": "t",
        "INTERNAL_JOB_ID": "3",
        "USER": "u",
        "SETUP_NODE_RANK": "1",
        "SETUP_NODE_IPS": "10.0.0.1\n10.0.0.2",
    }
    for name, value in expected.items():
        assert setup[f"SKYPILOT_{name}"] == setup[f"STIX_{name}"] == value
    assert (setup["CUDA_VISIBLE_DEVICES"], setup["A"], setup["HOME"]) == ("7", "secret wins", "/home/u")
    assert setup["STIX_JOB_KEY"] == "c/3"
    assert "N" not in setup
    assert "SKYPILOT_SETUP_NODE_RANK" not in task_environment(assignment, identity, "/h", "run", {})


@pytest.mark.parametrize(
    ("settings", "silent", "idle", "ends"),
    [
        ({"autostop": {"idle_minutes": 5}, "dead_man_seconds": 60}, 61, 301, True),
        ({"autostop": {"idle_minutes": 5}, "dead_man_seconds": 60}, 59, 301, False),
        ({"autostop": {"idle_minutes": 5}, "dead_man_seconds": 60}, 61, 299, False),
        ({"autostop": {"idle_minutes": 5}, "dead_man_seconds": 60}, 61, None, False),
        ({"autostop": None, "dead_man_seconds": 60}, 9e9, 9e9, False),
        ({"autostop": {"idle_minutes": 5}}, 9e9, 9e9, False),
    ],
)
def test_node_ends_alone_only_when_silence_and_idleness_both_passed(settings, silent, idle, ends):
    assert must_end_alone(settings, silent, idle) is ends


def test_backoff_doubles_up_to_its_cap_when_attempts_fail():
    backoff = Backoff(0.2, 5.0)
    waits = [backoff.next() for _ in range(10)]
    bounds = [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0, 5.0, 5.0]
    assert all(bound / 2 <= wait <= bound for wait, bound in zip(waits, bounds, strict=True))
    backoff.reset()
    assert backoff.next() <= 0.2


@pytest.mark.parametrize(
    ("raw", "body", "reusable"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiNEXT", b"hi", True),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", b"", True),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nhi\r\n1\r\n!\r\n0\r\nT: 1\r\n\r\n",
            b"hi!",
            True,
        ),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\ncontent-length: 1\r\n\r\nx", b"x", False),
        (b"HTTP/1.0 200 OK\r\n\r\nall of it", b"all of it", False),
    ],
)
def test_answer_is_read_exactly_when_its_length_is_told_in_any_way(raw, body, reusable):
    answer = Answer(io.BytesIO(raw))
    assert (answer.body(), answer.reusable) == (body, reusable)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nA: b",
    ],
)
def test_answer_is_refused_when_it_is_cut_short_or_not_http(raw):
    with pytest.raises(BadAnswerError):
        Answer(io.BytesIO(raw)).body()
