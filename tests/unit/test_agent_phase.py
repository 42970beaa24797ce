"""A phase is found again by the next agent, at whatever moment the one before it died."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stix.agent.phase import Phase
from stix.agent.tunables import Tunables
from tests.waiting import eventually

Start = Callable[[str, str], Phase]


@pytest.fixture
def phase(tmp_path: Path) -> Callable[[str], Phase]:
    return lambda name: Phase(str(tmp_path), name, f"STIX_JOB_KEY={tmp_path}", Tunables(adopted_poll=0.02))


@pytest.fixture
def start(tmp_path: Path, phase: Callable[[str], Phase]) -> Iterator[Start]:
    def start(name: str, script: str) -> Phase:
        begun = phase(name)
        environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "STIX_JOB_KEY": str(tmp_path)}
        begun.start(script, str(tmp_path), environment, ())
        return begun

    yield start
    phase("run").end(grace=0.0)


@pytest.mark.parametrize("recorded", [True, False], ids=["its pid is written", "no pid is written yet"])
def test_script_that_runs_is_adopted(
    tmp_path: Path, phase: Callable[[str], Phase], start: Start, recorded: bool
) -> None:
    begun, gate = tmp_path / "begun", tmp_path / "gate"
    first = start("run", f"touch {begun}; until [ -e {gate} ]; do sleep 0.02; done; exit 7")
    eventually(begun.exists, "it runs, and its wrapper has written its pid")
    if not recorded:
        Path(first.path("pid")).unlink()
    second = phase("run")
    assert second.adopt()
    gate.touch()
    assert second.wait() == 7
    assert first.wait() == 7


def test_script_that_never_began_is_not_adopted_though_the_phase_before_left_a_daemon(
    tmp_path: Path, phase: Callable[[str], Phase], start: Start
) -> None:
    assert start("setup", "setsid sleep 600 &").wait() == 0
    assert not phase("run").adopt()


def test_script_that_has_ended_is_adopted(phase: Callable[[str], Phase], start: Start) -> None:
    first = start("run", "exit 3")
    assert first.wait() == 3
    Path(first.path("pid")).unlink()
    second = phase("run")
    assert second.adopt()
    assert second.wait() == 3


def test_process_that_has_the_pid_of_a_script_that_has_ended_is_left_alone(
    phase: Callable[[str], Phase], start: Start
) -> None:
    """As after the machine was started again."""
    first = start("run", "exit 3")
    assert first.wait() == 3
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as stranger:
        try:
            Path(first.path("pid")).write_text(f"{stranger.pid}\n\n")
            second = phase("run")
            assert second.adopt()
            second.end_leftovers()
            second.end(grace=0.0)
            assert stranger.poll() is None
        finally:
            stranger.kill()
