"""Nothing is lost and nothing runs twice: the server, a command, or an agent is killed at any moment."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.embedded import ENDED, GENEROUS, ROOT, STIX, EmbeddedHome, await_that

pytestmark = pytest.mark.xdist_group("e2e-durability")

PHASES = ("launch", "set up", "run", "tear down", "launch without the command")


class Killing:
    """Rounds of a cluster with one job each; the server dies once in every round, in a chosen phase."""

    def __init__(self, home: EmbeddedHome, out: Path, chance: random.Random):
        self.home, self.out, self.chance = home, out, chance
        self.kills: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.reasons: list[str] = []

    def round(self, number: int) -> None:
        phase = PHASES[number % len(PHASES)]
        cluster, marks = f"kill{number}", self.out / f"round-{number}"
        marks.mkdir()
        task = marks / "task.yaml"
        task.write_text(
            f"num_nodes: {1 + number % 2}\n"
            f"setup: |\n  touch {marks}/setup-$STIX_SETUP_NODE_RANK\n  sleep 0.4\n"
            f"run: |\n  touch {marks}/run-$STIX_NODE_RANK\n  sleep 0.4\n"
            # One write below PIPE_BUF to a file opened for appending: rounds cannot mix their lines.
            f'  if [ "$STIX_NODE_RANK" = 0 ]; then echo {cluster} >> {self.out}/ran; fi\n'
        )
        launch = self.home.spawn("launch", "-y", "-c", cluster, str(task), stderr=subprocess.PIPE)
        try:
            if phase.startswith("launch"):
                # From before the request arrives to the moment at which the nodes have joined.
                time.sleep(self.chance.uniform(0.05, 0.9))
                if phase == "launch without the command":
                    launch.kill()
                self.kill(phase)
            elif phase == "set up":
                await_that("setup begins", (marks / "setup-0").exists)
                self.kill(phase, within=0.5)
            elif phase == "run":
                await_that("the run begins", (marks / "run-0").exists)
                self.kill(phase, within=0.5)
            self.home.stix("status")
            self.settle(cluster, phase, launch)
        finally:
            launch.kill()
            launch.communicate()
        self.take_down(cluster, phase)

    def kill(self, phase: str, *, within: float = 0.0) -> None:
        time.sleep(self.chance.uniform(0.0, within))
        self.kills[phase] += self.home.kill_server()

    def settle(self, cluster: str, phase: str, launch: subprocess.Popen[bytes]) -> None:
        """The command ends as its job does, and the job ends well or says why not."""
        if phase != "launch without the command":
            _, said = launch.communicate(timeout=GENEROUS)
            assert b"Traceback" not in said, said.decode()
        with self.home.client() as client:
            known = [entry["name"] for entry in client.clusters()]
        if cluster not in known:
            # The command died before its request had arrived; one that lived would have sent it again.
            assert phase == "launch without the command"
            self.outcomes["never asked"] += 1
            return
        job = self.home.await_job(cluster, 1)
        self.outcomes[job["status"]] += 1
        if job["status"] != "SUCCEEDED":
            self.reasons.append(f"{cluster} ({phase}): {job['status']}: {job['reason']}")
            assert job["reason"]
        elif phase != "launch without the command":
            assert launch.returncode == 0, said.decode()

    def take_down(self, cluster: str, phase: str) -> None:
        if self.home.stix("status", cluster, code=None).returncode:
            return
        if phase != "tear down":
            self.home.stix("down", "-y", cluster)
            return
        down = self.home.spawn("down", "-y", cluster, stderr=subprocess.PIPE)
        time.sleep(self.chance.uniform(0.05, 0.5))
        self.kill(phase)
        self.home.stix("status")
        _, said = down.communicate(timeout=GENEROUS)
        assert down.returncode == 0, said.decode()

    def check(self, rounds: int) -> None:
        print(f"kills {dict(self.kills)}, jobs {dict(self.outcomes)} {self.reasons}")
        ran = (self.out / "ran").read_text().split()
        assert len(ran) == len(set(ran)), "a job ran twice"
        assert len(ran) >= self.outcomes["SUCCEEDED"]
        unsuccessful = rounds - self.outcomes["SUCCEEDED"] - self.outcomes["never asked"]
        assert unsuccessful <= rounds // 30, self.reasons
        assert sum(self.kills.values()) >= rounds - rounds // 10, "the server was seldom there to be killed"
        await_that("every run ends", lambda: not self.home.live_runs())
        await_that("nothing is left to do", lambda: not self.home.live_items())
        assert not list((self.home.folder / "nodes").glob("local-*"))


@pytest.mark.parametrize("rounds", [5, pytest.param(50, marks=pytest.mark.soak)])
def test_every_job_runs_once_when_the_server_is_killed_at_any_moment(
    new_home: Callable[..., EmbeddedHome], out: Path, rounds: int
) -> None:
    seed = int(os.environ.get("STIX_TEST_SEED") or random.SystemRandom().randrange(10**6))
    print(f"STIX_TEST_SEED={seed}")
    home = new_home()
    home.stix("api", "start")
    killing = Killing(home, out, random.Random(seed))
    for number in range(rounds):
        killing.round(number)
    killing.check(rounds)
    home.stix("api", "stop")
    home.await_no_process()


def until_told(out: Path) -> str:
    """What a job does that begins, and goes on when ``go`` is there."""
    return f"touch {out}/begun; until [ -e {out}/go ]; do sleep 0.1; done"


@pytest.mark.parametrize("code", [0, 7])
def test_exit_code_arrives_when_the_agent_is_killed_during_the_job(
    home: EmbeddedHome, out: Path, code: int
) -> None:
    cluster = f"orphan{code}"
    home.stix("launch", "-y", "-c", cluster)
    job = home.exec(cluster, f"echo before; {until_told(out)}; echo after; exit {code}")
    await_that("the job begins", (out / "begun").exists)
    agent = home.agents()[0]
    agent.kill()
    (out / "go").touch()
    assert home.stix("logs", cluster, str(job), code=code).stdout == "before\nafter\n"
    assert home.await_job(cluster, job)["status"] == ("SUCCEEDED" if code == 0 else "FAILED")
    assert home.agents()[0].pid != agent.pid
    # The node is as good as new.
    assert home.stix("exec", cluster, "echo next").stdout == "next\n"
    home.stix("down", "-y", cluster)


@pytest.mark.parametrize("seconds", [8, pytest.param(60, marks=pytest.mark.soak)])
def test_log_is_complete_when_the_server_was_away_during_the_job(
    home: EmbeddedHome, out: Path, tmp_path: Path, seconds: int
) -> None:
    """Output flows all the time, and the job ends while nobody listens."""
    cluster = f"away{seconds}"
    home.stix("launch", "-y", "-c", cluster)
    count = (seconds - 1) * 20
    script = (
        f"for i in $(seq {count}); do echo line $i; echo error $i >&2; sleep 0.05; done; touch {out}/ended"
    )
    job = home.exec(cluster, f"touch {out}/begun; {script}")
    await_that("the job begins", (out / "begun").exists)
    time.sleep(0.5)
    home.stix("api", "stop")
    time.sleep(seconds)
    await_that("the job ends without the server", (out / "ended").exists)
    home.stix("status")
    assert home.await_job(cluster, job)["status"] == "SUCCEEDED"
    saved = tmp_path / "saved"
    await_log_end(home, cluster, job)
    home.stix("logs", cluster, str(job), "--sync-down", str(saved))
    for stream, word in (("stdout", "line"), ("stderr", "error")):
        written = "".join(f"{word} {i}\n" for i in range(1, count + 1)).encode()
        found = (saved / "rank-0" / stream).read_bytes()
        assert hashlib.sha256(found).hexdigest() == hashlib.sha256(written).hexdigest()
    home.stix("down", "-y", cluster)


def await_log_end(home: EmbeddedHome, cluster: str, job: int) -> None:
    """Wait until the agents have sent the last piece of the log."""
    with home.client() as client:
        await_that("the log is whole", lambda: client.log_page(cluster, job, cursor="end")["done"])


def test_job_goes_on_when_the_command_that_follows_it_is_killed(home: EmbeddedHome, out: Path) -> None:
    home.stix("launch", "-y", "-c", "left")
    follower = subprocess.Popen(
        [STIX, "exec", "left", f"{until_told(out)}; echo done > {out}/result"],
        env=home.environ,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    await_that("the job begins", (out / "begun").exists)
    follower.send_signal(signal.SIGKILL)
    follower.wait(GENEROUS)
    with home.client() as client:
        job = client.job("left", "latest")
    assert job["status"] not in ENDED
    (out / "go").touch()
    assert home.await_job("left", job["id"])["status"] == "SUCCEEDED"
    assert (out / "result").read_text() == "done\n"
    home.stix("down", "-y", "left")


@pytest.mark.parametrize("rounds", [4, pytest.param(30, marks=pytest.mark.soak)])
def test_every_command_runs_once_when_the_server_is_killed_while_it_is_sent(
    home: EmbeddedHome, out: Path, rounds: int
) -> None:
    """The command sends its request again until it is answered; the idempotency key makes it one job."""
    seed = int(os.environ.get("STIX_TEST_SEED") or random.SystemRandom().randrange(10**6))
    print(f"STIX_TEST_SEED={seed}")
    chance = random.Random(seed)
    home.stix("launch", "-y", "-c", "sent")
    for number in range(rounds):
        sending = home.spawn("exec", "sent", f"echo {number} >> {out}/ran", stderr=subprocess.PIPE)
        time.sleep(chance.uniform(0.05, 0.4))
        home.kill_server()
        home.stix("status")
        _, said = sending.communicate(timeout=GENEROUS)
        assert sending.returncode == 0, said.decode()
    assert [int(line) for line in (out / "ran").read_text().split()] == list(range(rounds))
    with home.client() as client:
        assert [job["status"] for job in client.jobs("sent")] == ["SUCCEEDED"] * rounds
    home.stix("down", "-y", "sent")
