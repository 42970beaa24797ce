"""What people ask of the control plane that cannot be: refused with the reason and the way on."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from stix.cli.entry import run
from stix.cli.session import Session
from tests.e2e.embedded import ROOT, Done, EmbeddedHome
from tests.integration.test_bad_input import BAD_INPUT, FAILURE, assert_refused

pytestmark = pytest.mark.xdist_group("bad-input-clusters")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedHome]:
    """A home with the one-node cluster ``dev``."""
    home = EmbeddedHome(tmp_path_factory.mktemp("stix") / "home")
    home.stix("launch", "-y", "-c", "dev", "--cpus", "1")
    yield home
    home.finish()


def said(home: EmbeddedHome, *arguments: str, cwd: Path = ROOT, **environ: str) -> Done:
    """What the command says, run in this process; ``test_bad_input`` runs the program."""
    environ = home.environ | environ
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with (
        mock.patch.dict(os.environ, environ, clear=True),
        mock.patch("sys.stdin", io.StringIO()),
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = run(list(arguments), Session(environ))
    told = [stream.buffer.getvalue().decode() for stream in (out, err)]
    return Done(arguments, code, *told)


UNKNOWN = {
    "exec": ["exec", "ghost", "true"],
    "logs": ["logs", "ghost"],
    "logs of a job": ["logs", "ghost", "3", "--no-follow"],
    "logs to files": ["logs", "ghost", "--sync-down"],
    "stop": ["stop", "-y", "ghost"],
    "start": ["start", "-y", "ghost"],
    "down": ["down", "-y", "ghost"],
    "down by a pattern": ["down", "-y", "ghost-*"],
    "autostop": ["autostop", "-y", "ghost"],
    "queue": ["queue", "ghost"],
    "cancel": ["cancel", "-y", "ghost", "1"],
    "cancel all": ["cancel", "-y", "-a", "ghost"],
    "cancel the newest": ["cancel", "-y", "ghost"],
    "status": ["status", "ghost"],
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_unknown_cluster_is_named_by(home: EmbeddedHome, case: str) -> None:
    done = said(home, *UNKNOWN[case])
    assert_refused(done, BAD_INPUT, "ghost", "stix status")


IMPOSSIBLE = {
    "too many cpus": (["launch", "-y", "--cpus", "9999+", "true"], ["9999+", "CPUs"]),
    "too much memory": (["launch", "-y", "--memory", "99999", "true"], ["99999", "memory"]),
    "gpus that are not there": (["launch", "-y", "--gpus", "H200:8", "true"], ["H200:8"]),
    "spot machines": (["launch", "-y", "--use-spot", "true"], ["spot"]),
    "an unknown instance type": (["launch", "-y", "-t", "p5.48xlarge", "true"], ["p5.48xlarge"]),
    "a cloud that is not configured": (["launch", "-y", "--infra", "aws", "true"], ["aws", "stix check"]),
    "a dry run of it": (["launch", "--dryrun", "--cpus", "9999+", "true"], ["9999+"]),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_launch_is_refused_when_no_offer_fits(home: EmbeddedHome, case: str) -> None:
    arguments, words = IMPOSSIBLE[case]
    assert_refused(said(home, *arguments), BAD_INPUT, *words)
    with home.client() as client:
        assert [cluster["name"] for cluster in client.clusters()] == ["dev"]


UNFITTING = {
    "more nodes": (["launch", "-y", "-c", "dev", "--num-nodes", "3", "true"], ["num_nodes", "3", "dev"]),
    "more cpus": (["launch", "-y", "-c", "dev", "--cpus", "2", "true"], ["cpus", "2", "dev"]),
    "more memory": (["launch", "-y", "-c", "dev", "--memory", "99999", "true"], ["memory", "99999", "dev"]),
    "gpus": (["launch", "-y", "-c", "dev", "--gpus", "L4", "true"], ["L4", "dev"]),
    "another cloud": (["launch", "-y", "-c", "dev", "--infra", "aws", "true"], ["aws", "dev"]),
    "another instance type": (["launch", "-y", "-c", "dev", "-t", "p5.48xlarge", "true"], ["p5.48xlarge"]),
    "exec with more nodes": (["exec", "--num-nodes", "2", "dev", "true"], ["num_nodes", "2", "dev"]),
    "exec with more cpus": (["exec", "--cpus", "64", "dev", "true"], ["cpus", "64", "dev"]),
    "exec with gpus": (["exec", "--gpus", "L4:1", "dev", "true"], ["L4", "dev"]),
}


@pytest.mark.parametrize("case", UNFITTING)
def test_existing_cluster_is_refused_when_the_task_needs(home: EmbeddedHome, case: str) -> None:
    arguments, words = UNFITTING[case]
    assert_refused(said(home, *arguments), BAD_INPUT, *words)


@pytest.mark.parametrize("name", ["Über", "has blank", "-dash", "a/b", "x" * 200, "1", "dot.", ""])
def test_cluster_name_is_refused_when_it_is_none(home: EmbeddedHome, name: str) -> None:
    done = said(home, "launch", "-y", f"--cluster={name}", "true")
    assert_refused(done, BAD_INPUT, "cluster", name[:40])


WRONG = {
    "a job that is not there": (["logs", "dev", "99"], ["99", "stix queue dev"]),
    "cancelling a job that is not there": (["cancel", "-y", "dev", "99"], ["99", "stix queue dev"]),
    "a request that is not there": (["api", "logs", "op-none"], ["op-none"]),
    "an unknown cloud to check": (["check", "moon"], ["moon", "local"]),
    "a file and a command": (["launch", "-y", "task.yaml", "echo hi"], ["task.yaml"]),
    "a file and a command for exec": (["exec", "dev", "task.yaml", "echo hi"], ["task.yaml"]),
    "an empty command": (["exec", "dev", " "], ["empty"]),
    "another port than the running one": (["api", "start", "--port", "31999"], ["31999", "stix api stop"]),
    "negative rank": (["logs", "dev", "-w", "-1"], ["-1"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_command_is_refused_when_given(home: EmbeddedHome, tmp_path: Path, case: str) -> None:
    (tmp_path / "task.yaml").write_text("run: echo hi\n")
    arguments, words = WRONG[case]
    assert_refused(said(home, *arguments, cwd=tmp_path), BAD_INPUT, *words)


def test_token_is_refused_when_it_is_wrong(home: EmbeddedHome) -> None:
    with home.client() as client:
        url = client.endpoint.url
    done = said(home, "status", STIX_API_URL=url, STIX_API_TOKEN="wrong")
    assert_refused(done, FAILURE, "token", "STIX_API_TOKEN")


def test_exec_says_how_to_go_on_when_the_cluster_is_stopped(home: EmbeddedHome) -> None:
    home.stix("launch", "-y", "-c", "asleep", "--cpus", "1")
    home.stix("stop", "-y", "asleep")
    assert_refused(said(home, "exec", "asleep", "true"), BAD_INPUT, "STOPPED", "stix start asleep")
    # Stopping it once more, and going down, are no mistakes.
    home.stix("stop", "-y", "asleep")
    home.stix("down", "-y", "asleep")


def test_question_is_refused_when_nobody_can_answer(home: EmbeddedHome) -> None:
    assert_refused(said(home, "down", "dev"), BAD_INPUT, "-y")
    assert_refused(said(home, "stop", "dev"), BAD_INPUT, "-y")
