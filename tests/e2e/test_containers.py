"""Tasks in container images: real commands, control plane, agents and a real container engine."""

from __future__ import annotations

import base64
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cloud_home import aws_home
from tests.e2e.container_engine import Engine, NoEngineError, Registry
from tests.e2e.embedded import EmbeddedHome, await_that, read_below
from tests.providers.aws.server import AwsServer

pytestmark = pytest.mark.xdist_group("e2e-containers")

TOOLS, APP, BARE = "docker:stix/tools:1", "docker:stix/app:1", "docker:stix/bare:1"
PASSWORD = "purple-monkey-dishwasher"


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    try:
        engine = Engine()
    except NoEngineError as exc:
        pytest.skip(str(exc))
    try:
        engine.make_image("stix/tools:1", "ENV FROM_IMAGE=yes")
        engine.make_image("stix/app:1", "USER app")
        engine.make_image("stix/bare:1", shell=False)
        yield engine
    finally:
        engine.close()


@pytest.fixture(scope="module")
def home(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedHome]:
    home = EmbeddedHome(tmp_path_factory.mktemp("stix") / "home", DOCKER_HOST=engine.host)
    yield home
    home.finish()
    assert engine.containers() == []


@pytest.fixture
def cluster(home: EmbeddedHome) -> Iterator[str]:
    """A cluster with the image that has a few tools."""
    home.stix("launch", "-y", "-c", "box", "--image-id", TOOLS)
    yield "box"
    home.stix("down", "-y", "box")


@pytest.fixture
def registry() -> Iterator[Registry]:
    registry = Registry("me", PASSWORD)
    yield registry
    registry.close()


def launch(home: EmbeddedHome, tmp_path: Path, text: str, *flags: str, code: int | None = 0):
    """Launch a task that is written here; its cluster is deleted afterwards by the caller."""
    (tmp_path / "task.yaml").write_text(text)
    return home.stix("launch", "-y", *flags, str(tmp_path / "task.yaml"), cwd=tmp_path, code=code)


def test_setup_and_run_are_inside_on_two_nodes_when_an_image_is_named(
    home: EmbeddedHome, engine: Engine, tmp_path: Path
) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "data.txt").write_text("from the work directory\n")
    (tmp_path / "one.txt").write_text("from a file mount\n")
    task = f"""\
num_nodes: 2
workdir: work
resources: {{image_id: "{TOOLS}", cpus: 1, memory: 1}}
envs: {{WORDS: "a 'quoted' word"}}
secrets: {{TOKEN: null}}
file_mounts: {{~/below/one.txt: one.txt, /opt/deep/one.txt: one.txt}}
config: {{docker: {{run_options: ["--env=OPTION=given", "--hostname inside", "--volume={tmp_path}:/meet"]}}}}
setup: |
  echo "set up $STIX_SETUP_NODE_RANK"
  echo installed > /usr-tool
run: |
  cat data.txt ~/below/one.txt /opt/deep/one.txt /usr-tool
  echo "$WORDS/$TOKEN/$FROM_IMAGE/$OPTION/$HOME/$PWD/$STIX_NUM_NODES"
  ls /bin/bash /usr/bin/python3 || echo neither
  echo "rank $STIX_NODE_RANK" > made.txt
  touch /meet/said-$STIX_NODE_RANK
  [ "$STIX_NODE_RANK" = 0 ] || sleep 600
  until [ -e /meet/said-1 ]; do sleep 0.1; done
  echo to the other stream >&2
  exit 9
"""
    done = launch(home, tmp_path, task, "-c", "two", "--secret", "TOKEN=hush", code=9)
    lines = done.stdout.splitlines()
    for who in ("head", "worker1"):
        said = [line.partition(") ")[2] for line in lines if line.startswith(f"({who}")]
        assert said[:4] == ["from the work directory", *["from a file mount"] * 2, "installed"]
        assert said[4] == "a 'quoted' word/hush/yes/given//root//root/sky_workdir/2"
        assert said[5] == "neither"
    assert {f"(setup, rank={rank}) set up {rank}" for rank in (0, 1)} <= set(lines)
    assert "to the other stream" not in done.stdout
    assert "to the other stream" in done.stderr
    image = engine.docker("image", "inspect", "--format", "{{.Id}}", "stix/tools:1").stdout.decode().strip()
    assert f"Container stix/tools:1 ({image}), docker" in done.stderr
    assert len(engine.containers()) == 2
    assert not os.path.exists("/usr-tool")
    # What ran inside is on the node's disk, and what setup installed is there for the next job.
    made = [path.read_text() for path in (home.folder / "nodes").glob("*/home/sky_workdir/made.txt")]
    assert sorted(made) == ["rank 0\n", "rank 1\n"]
    assert home.stix("exec", "two", "cat /usr-tool made.txt").stdout.splitlines()[0] == "installed"
    home.stix("down", "-y", "two")
    assert engine.containers() == []


def test_cancel_ends_all_that_runs_inside_when_some_of_it_hides(
    home: EmbeddedHome, engine: Engine, cluster: str
) -> None:
    command = (
        "trap '' TERM; setsid sleep 3001 & env -i sleep 3002 & (trap '' TERM; sleep 3003) & echo up;"
        " while :; do sleep 3004; done"
    )
    job = home.exec(cluster, command)
    other = home.exec(cluster, "sleep 3005", "--num-nodes", "1")
    sleeps = {f"sleep 300{number}" for number in range(1, 6)}
    await_that("all processes run", lambda: sleeps <= set(engine.processes()))
    home.stix("cancel", "-y", cluster, str(job))
    assert home.await_job(cluster, job)["status"] == "CANCELLED"
    assert [line for line in engine.processes() if line.startswith("sleep")] == ["sleep 3005"]
    await_that("the other is known to run", lambda: home.job(cluster, other)["status"] == "RUNNING")
    home.stix("cancel", "-y", cluster, str(other))
    home.await_job(cluster, other)


def test_script_may_end_well_when_it_is_asked_to(home: EmbeddedHome, engine: Engine, cluster: str) -> None:
    job = home.exec(cluster, "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.1; done")
    await_that("it runs", lambda: "sleep 0.1" in engine.processes())
    home.stix("cancel", "-y", cluster, str(job))
    home.await_job(cluster, job)
    assert home.stix("logs", cluster, str(job), code=None).stdout.splitlines() == ["up", "bye"]


def test_what_the_script_left_behind_is_ended_when_it_ends(
    home: EmbeddedHome, engine: Engine, cluster: str
) -> None:
    service = "setsid sh -c 'touch /apart; exec sleep 3012'"
    job = home.exec(cluster, f"sleep 3011 & {service} & until [ -e /apart ]; do sleep 0.1; done; exit 4")
    ended = home.await_job(cluster, job)
    assert (ended["status"], ended["exit_codes"]) == ("FAILED", [4])
    # As on a machine: what made a session of its own is a service that the task meant to leave.
    await_that(
        "only that is left",
        lambda: [line for line in engine.processes() if "sleep 301" in line] == ["sleep 3012"],
    )


def test_job_goes_on_when_the_agent_is_killed_and_comes_back(
    home: EmbeddedHome, engine: Engine, cluster: str, out: Path
) -> None:
    flags = ("--num-nodes", "1")
    wait = "until [ -e go ]; do sleep 0.1; done"
    job = home.exec(cluster, f"for i in 1 2 3; do echo $i; done; {wait}; echo 4; echo 5; exit 5", *flags)
    await_that("it runs", lambda: home.job(cluster, job)["status"] == "RUNNING")
    first = home.agents()[0]
    os.kill(first.pid, signal.SIGKILL)
    await_that("another agent runs", lambda: home.agents().get(0, first).pid != first.pid)
    (folder,) = home.folder.glob("nodes/*/home/sky_workdir")
    (folder / "go").touch()
    ended = home.await_job(cluster, job)
    assert (ended["status"], ended["exit_codes"]) == ("FAILED", [5])
    assert home.stix("logs", cluster, str(job), code=None).stdout.split() == list("12345")
    # And it can still end what an earlier agent started.
    job = home.exec(cluster, "sleep 3021", *flags)
    await_that("it runs", lambda: any("sleep 3021" in line for line in engine.processes()))
    second = home.agents()[0]
    os.kill(second.pid, signal.SIGKILL)
    await_that("another agent runs", lambda: home.agents().get(0, second).pid != second.pid)
    home.stix("cancel", "-y", cluster, str(job))
    assert home.await_job(cluster, job)["status"] == "CANCELLED"
    assert not any("sleep 3021" in line for line in engine.processes())


def test_container_is_the_same_when_its_cluster_was_stopped(
    home: EmbeddedHome, engine: Engine, cluster: str
) -> None:
    service = "trap 'sleep 0.3; echo bye > /bye; exit' TERM; touch /up; while :; do sleep 0.1; done"
    wait = "until [ -e /up ]; do sleep 0.1; done"
    home.stix("exec", cluster, f'echo kept > /kept; setsid sh -c "{service}" & {wait}')
    (made,) = engine.running()
    home.stix("stop", "-y", cluster)
    # At once: what ran inside may be in the middle of ending.
    home.stix("start", "-y", cluster)
    assert home.stix("exec", cluster, "cat /kept /bye").stdout == "kept\nbye\n"
    assert engine.running() == [made]
    assert engine.processes() == []


def test_scripts_run_as_the_images_own_user_when_it_is_not_root(
    home: EmbeddedHome, engine: Engine, tmp_path: Path
) -> None:
    (tmp_path / "one.txt").write_text("mine\n")
    task = f"""\
workdir: .
resources: {{image_id: "{APP}", cpus: 1, memory: 1}}
file_mounts: {{~/one.txt: one.txt}}
run: |
  id -u; echo ~; echo $PWD; echo more >> one.txt; cat one.txt; echo over > ~/one.txt
  touch new; stat -c %u new
  trap '' TERM; sleep 3041
"""
    launch(home, tmp_path, task, "-d", "-c", "app")
    await_that("it runs", lambda: "sleep 3041" in engine.processes())
    home.stix("cancel", "-y", "app", "1")
    assert home.await_job("app", 1)["status"] == "CANCELLED"
    said = home.stix("logs", "app", "1", code=None).stdout.splitlines()
    assert said == ["1000", "/home/app", "/home/app/sky_workdir", "mine", "more", "1000"]
    assert engine.processes() == []
    home.stix("down", "-y", "app")


def test_cluster_keeps_its_image_when_another_is_asked(home: EmbeddedHome, cluster: str) -> None:
    refused = home.stix("launch", "-y", "-c", cluster, "--image-id", APP, "true", code=2)
    assert f"image_id: {APP} was asked, each node of '{cluster}' has {TOOLS}" in refused.stderr
    assert home.stix("launch", "-y", "-c", cluster, "--image-id", TOOLS, "echo same").stdout == "same\n"


def test_private_image_runs_when_the_login_is_given(
    home: EmbeddedHome, registry: Registry, tmp_path: Path
) -> None:
    task = """\
resources: {image_id: "docker:tools:1", cpus: 1, memory: 1}
secrets: {SKYPILOT_DOCKER_USERNAME: me, SKYPILOT_DOCKER_PASSWORD: null, SKYPILOT_DOCKER_SERVER: null}
run: echo "$FROM_REGISTRY"
"""
    given = ("--secret", f"SKYPILOT_DOCKER_SERVER={registry.address}", "--secret")
    denied = launch(home, tmp_path, task, "-c", "no", *given, "SKYPILOT_DOCKER_PASSWORD=guessed", code=1)
    assert f"{registry.address} refuses the login" in denied.stderr
    assert "SKYPILOT_DOCKER_PASSWORD" in denied.stderr
    assert "guessed" not in denied.stderr
    assert home.job("no", 1)["status"] == "FAILED_SETUP"

    done = launch(home, tmp_path, task, "-c", "yes", *given, f"SKYPILOT_DOCKER_PASSWORD={PASSWORD}")
    assert done.stdout == "yes\n"
    assert f"Container {registry.address}/tools:1 ({registry.digest}), docker" in done.stderr
    assert ("/v2/tools/manifests/1", 200) in registry.requests
    # It was nowhere but with the control plane's secrets, and is there no longer once the job has ended.
    words = (PASSWORD.encode(), base64.b64encode(f"me:{PASSWORD}".encode()))  # The second is the engine's.
    for folder in (home.folder, Path("/dev/shm")):
        assert [path for path, data in read_below(folder) if any(word in data for word in words)] == []
    home.stix("down", "-y", "no", "yes")


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("none:1", "may not be pulled, or does not exist"),
        ("tools:2", "There is no image"),
        ("Tools", "is not the name of an image"),
    ],
)
def test_reason_names_the_fix_when_the_image_cannot_be_had(
    home: EmbeddedHome, registry: Registry, tmp_path: Path, image: str, words: str
) -> None:
    login = ""
    if image == "tools:2":
        login = f"SKYPILOT_DOCKER_USERNAME: me, SKYPILOT_DOCKER_PASSWORD: {PASSWORD}, "
        login += f"SKYPILOT_DOCKER_SERVER: '{registry.address}'"
    task = f"""\
resources: {{image_id: "docker:{registry.address}/{image}", cpus: 1, memory: 1}}
secrets: {{{login}}}
run: echo never
"""
    done = launch(home, tmp_path, task, "-c", "absent", code=1)
    assert "never" not in done.stdout
    assert words in done.stderr
    job = home.job("absent", 1)
    assert job["status"] == "FAILED_SETUP"
    assert words in job["reason"]
    home.stix("down", "-y", "absent")


def test_reason_says_so_when_the_image_has_no_shell(home: EmbeddedHome, engine: Engine) -> None:
    done = home.stix("launch", "-y", "-c", "bare", "--image-id", BARE, "true", code=1)
    assert "The image stix/bare:1 has no /bin/sh" in done.stderr
    made = engine.docker("ps", "--all", "--quiet", "--filter", "ancestor=stix/bare:1").stdout
    assert made == b""
    home.stix("down", "-y", "bare")


def test_reason_names_the_option_when_the_engine_refuses_it(home: EmbeddedHome, tmp_path: Path) -> None:
    task = f"""\
resources: {{image_id: "{TOOLS}", cpus: 1, memory: 1}}
config: {{docker: {{run_options: --frobnicate}}}}
run: echo never
"""
    done = launch(home, tmp_path, task, "-c", "options", code=1)
    assert "--frobnicate" in done.stderr
    assert "Look at config.docker.run_options" in done.stderr
    home.stix("down", "-y", "options")


def test_reason_says_how_to_get_an_engine_when_none_answers(tmp_path: Path, engine: Engine) -> None:
    home = EmbeddedHome(tmp_path / "home", DOCKER_HOST=f"unix://{tmp_path}/nobody")
    try:
        done = home.stix("launch", "-y", "-c", "none", "--image-id", TOOLS, "true", code=1)
        assert "docker does not answer" in done.stderr
        assert "systemctl start docker" in done.stderr
    finally:
        home.finish()


@pytest.fixture
def cloud(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedHome]:
    """A home with AWS, whose machines have a docker of their own in their PATH."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "docker").write_text(f'#!/bin/sh\nexec {shutil.which("docker")} --host {engine.host} "$@"\n')
    (tools / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    ec2 = AwsServer(hosts=tmp_path / "hosts")
    home = aws_home(tmp_path / "home", ec2)
    yield home
    home.finish()
    ec2.close()


def test_cloud_machine_runs_its_jobs_inside_when_an_image_is_named(
    cloud: EmbeddedHome, engine: Engine, tmp_path: Path
) -> None:
    (tmp_path / "one.txt").write_text("from a file mount\n")
    task = f"""\
resources: {{infra: aws, image_id: "{TOOLS}", cpus: 2}}
file_mounts: {{/opt/one.txt: one.txt}}
setup: echo installed > /usr-tool
run: cat /usr-tool /opt/one.txt; echo "$FROM_IMAGE $HOME"
"""
    done = launch(cloud, tmp_path, task, "-c", "cloudy")
    assert done.stdout.splitlines() == ["installed", "from a file mount", "yes /root"]
    assert "Container stix/tools:1 (sha256:" in done.stderr
    assert not os.path.exists("/opt/one.txt")
    (made,) = engine.running()
    cloud.stix("down", "-y", "cloudy")
    await_that("the container ends with its machine", lambda: engine.running() == [])
    # Its machine's disk would be gone as well.
    engine.docker("rm", made)
