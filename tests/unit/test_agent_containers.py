"""How a container is asked for, what an engine's complaints become, and how one gets onto a machine."""

from __future__ import annotations

import os
import subprocess
from contextlib import nullcontext
from pathlib import Path

import pytest

from stix.agent.config import AgentConfig
from stix.agent.container_errors import login_words, pull_words, start_words
from stix.agent.container_images import Images, find_account
from stix.agent.container_options import (
    FIND_PROCESSES,
    Gpus,
    Login,
    container_name,
    create_arguments,
    entry_script,
    exec_arguments,
    image_name,
    login_from,
    node_gpus,
)
from stix.agent.engine import ContainerError, Engine, complaint, engine_environment, ready_engine
from stix.agent.inside import Inside

FACTS = {"cpus": 2.0, "memory_gib": 8.0, "gpus": []}


def config(**values: object) -> AgentConfig:
    return AgentConfig(join_token="t", machine_id="m", state_dir="/state", home_dir="/home/n", **values)


def created(settings: AgentConfig | None = None, *, facts=FACTS, engine="docker", options=(), with_init=True):
    return create_arguments(
        settings or config(gpus=()),
        facts,
        engine=engine,
        name="c",
        image="img",
        home="/root",
        wanted={"image": "img", "run_options": list(options)},
        with_init=with_init,
    )


def value_of(arguments: list[str], option: str) -> str:
    return arguments[arguments.index(option) + 1]


def test_container_shares_the_nodes_network_and_folders_when_nothing_else_is_asked():
    words = created()
    assert value_of(words, "--network") == "host"
    assert value_of(words, "--shm-size") == "4096m"
    assert value_of(words, "--ulimit").startswith("nofile=")
    volumes = [words[i + 1] for i, word in enumerate(words) if word == "--volume"]
    assert volumes == ["/state/jobs:/stix/jobs", "/home/n/sky_workdir:/root/sky_workdir"]
    assert words[-4:-2] == ["img", "-c"]
    assert "--init" in words
    assert "--init" not in created(with_init=False)
    assert not {"--gpus", "--cpus", "--memory"} & set(words)


def test_run_options_replace_ours_when_they_say_the_same():
    words = created(options=["--network=bridge", "--shm-size 1g -v '/a b:/b'", "--ulimit=core=0"])
    assert "host" not in words
    assert words.count("--shm-size") == 1
    assert not any(word.startswith("nofile=") for word in words)
    at = words.index("img")
    assert words[at - 6 : at] == ["--network=bridge", "--shm-size", "1g", "-v", "/a b:/b", "--ulimit=core=0"]


def test_limits_are_the_nodes_when_its_control_group_has_them():
    words = created(config(gpus=(), limits={"cpu": "cgroup", "memory": "cgroup"}))
    assert value_of(words, "--cpus") == "2"
    assert value_of(words, "--memory") == value_of(words, "--memory-swap") == "8192m"
    assert "--cpus" not in created(config(gpus=(), limits={"cpu": "none", "memory": "none"}))


@pytest.mark.parametrize(
    ("granted", "engine", "expected"),
    [
        (None, "docker", ["--gpus", "all"]),
        (None, "podman", ["--device", "nvidia.com/gpu=all"]),
        (({"index": 6}, {"index": 4}), "docker", ["--gpus", '"device=4,6"']),
        (
            ({"index": 4}, {"index": 6}),
            "podman",
            ["--device", "nvidia.com/gpu=4", "--device", "nvidia.com/gpu=6"],
        ),
    ],
)
def test_gpus_are_those_of_the_node_when_it_has_some(granted, engine, expected):
    facts = {**FACTS, "gpus": list(granted or [{"index": 0}, {"index": 1}])}
    words = created(config(gpus=granted), facts=facts, engine=engine)
    assert [words[i : i + len(expected)] for i in range(len(words))].count(expected) == 1
    assert expected[0] not in created(config(gpus=granted), facts=facts, options=["--gpus=0", "--device=x"])


def test_granted_gpus_are_counted_by_the_container_when_it_has_a_part_of_them():
    facts = {"gpus": [{"index": 6}, {"index": 4}, {"index": 9}]}
    assert node_gpus(config(gpus=tuple(facts["gpus"])), facts).inside([6, 9]) == [1, 2]
    assert node_gpus(config(), facts).inside([6, 9]) == [6, 9]
    assert Gpus(0).inside([]) == []


def test_no_value_of_the_job_is_on_a_command_line_when_it_starts():
    words = exec_arguments("c", "app", "/w", ["STIX_JOB_KEY=c/1", "STIX_CONTAINER_JOB=[c/1]"])
    assert words[-2:] == ["c", "/bin/sh"]
    assert [word for word in words if "=" in word] == ["STIX_JOB_KEY=c/1", "STIX_CONTAINER_JOB=[c/1]"]


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
def test_entry_script_hands_over_every_value_when_it_is_read_from_the_input(tmp_path: Path, shell: str):
    values = {"HOME": str(tmp_path), "A": 'it\'s "a" $HOME `x` \\ value', "B": "two\nlines", "C": ""}
    (tmp_path / "run.sh").write_text('printf "%s|" "$A" "$B" "${C-unset}"; cat; exit 3\n')
    script = entry_script(values, str(tmp_path), "run")
    done = subprocess.run([shell], input=script.encode(), env={"PATH": os.environ["PATH"]}, check=False)
    assert done.returncode == 3
    assert (tmp_path / "run.out").read_text() == f"{values['A']}|two\nlines||"
    assert (tmp_path / "run.inside").read_text().strip().isdigit()
    # A cut-off script is no script: nothing of it runs.
    (tmp_path / "run.out").unlink()
    done = subprocess.run(
        [shell],
        input=script.encode()[:-3],
        env={"PATH": os.environ["PATH"]},
        check=False,
        capture_output=True,
    )
    assert done.returncode != 0
    assert not (tmp_path / "run.out").exists()


def test_processes_of_another_job_are_left_alone_when_its_number_begins_alike():
    marks = {
        number: {"PATH": os.environ["PATH"], "STIX_CONTAINER_JOB": f"[unit-{os.getpid()}/{number}]"}
        for number in (1, 12)
    }
    started = {
        n: subprocess.Popen(["sleep", "60"], env=env, start_new_session=True) for n, env in marks.items()
    }
    try:
        words = ["/bin/sh", "-c", FIND_PROCESSES, "stix", marks[1]["STIX_CONTAINER_JOB"], "", "all", "KILL"]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        assert done.stdout == "1\n"
        assert started[1].wait(30) == -9
        assert started[12].poll() is None
    finally:
        for process in started.values():
            process.kill()
            process.wait()


@pytest.mark.parametrize(
    ("image", "login", "engine", "expected"),
    [
        ("team/tool:1", Login("u", "p", "host.test"), "docker", "host.test/team/tool:1"),
        ("host.test/tool", Login("u", "p", "host.test"), "docker", "host.test/tool"),
        ("other.test/tool", Login("u", "p", "host.test"), "docker", "other.test/tool"),
        ("ubuntu:24.04", None, "docker", "ubuntu:24.04"),
        ("ubuntu:24.04", None, "podman", "docker.io/library/ubuntu:24.04"),
        ("team/tool", None, "podman", "docker.io/team/tool"),
        ("localhost/mine", None, "podman", "localhost/mine"),
        ("127.0.0.1:5000/x:1", None, "podman", "127.0.0.1:5000/x:1"),
    ],
)
def test_image_is_asked_for_at_its_registry_when_the_login_names_one(image, login, engine, expected):
    assert image_name(image, login, engine) == expected


def test_login_is_skypilots_three_variables_when_they_are_given():
    values = {
        "SKYPILOT_DOCKER_USERNAME": "u",
        "SKYPILOT_DOCKER_PASSWORD": "p",
        "SKYPILOT_DOCKER_SERVER": "s/",
    }
    assert login_from(values) == Login("u", "p", "s")
    assert login_from({**values, "SKYPILOT_DOCKER_PASSWORD": ""}) is None
    assert login_from({}) is None


def test_container_is_found_again_when_only_the_options_differ():
    first = container_name(config(), {"image": "a", "run_options": []})
    assert first == container_name(config(), {"image": "a", "run_options": ["-v /a:/a"]})
    assert first != container_name(config(), {"image": "b"})


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", (0, 0, "/root")),
        ("app", (1000, 1001, "/home/app")),
        ("1000", (1000, 1001, "/home/app")),
        ("app:50", (1000, 50, "/home/app")),
        ("4242", (4242, 0, "/")),
    ],
)
def test_account_is_the_images_user_when_it_names_one(user, expected):
    passwd = ["root:x:0:0:root:/root:/bin/sh", "app:x:1000:1001::/home/app:", "broken"]
    assert find_account(user, passwd) == expected
    assert find_account("", []) == (0, 0, "/root")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("Error response from daemon: manifest for x:9 not found: manifest unknown", "There is no image x:9"),
        ("Error response from daemon: pull access denied for x, repository does not exist", "does not exist"),
        ('Error: Get "https://h/v2/": unauthorized: authentication required', "SKYPILOT_DOCKER_PASSWORD"),
        ('Error: Get "https://h/v2/": dial tcp: lookup h: no such host', "cannot be reached"),
        ("Error: no matching manifest for linux/arm64/v8 in the manifest list entries", "not made for"),
        ("invalid reference format: repository name must be lowercase", "docker:NAME:TAG"),
        ("write /var/lib/docker/tmp/x: no space left on device", "disk_size"),
        ("Error: something new", "something new"),
    ],
)
def test_pull_error_names_the_fix_when_the_engine_complains(said, words):
    assert words in pull_words("x:9", said)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ('Error: could not select device driver "" with capabilities: [[gpu]]', "container toolkit"),
        ("Error: setting up CDI devices: unresolvable CDI devices nvidia.com/gpu=all", "container toolkit"),
        ('exec: "/bin/sh": stat /bin/sh: no such file or directory: unknown', "no /bin/sh"),
        (
            "unknown flag: --frobnicate\n\nUsage: docker create",
            "--frobnicate). Look at config.docker.run_options",
        ),
        ("exec /bin/sh: exec format error", "not made for"),
        ("Error: something new", "something new"),
    ],
)
def test_start_error_names_the_fix_when_the_engine_complains(said, words):
    assert words in start_words("x:9", said)


def test_login_error_tells_a_refusal_from_a_registry_that_is_not_there():
    assert "Docker Hub refuses the login" in login_words("", "Error: unauthorized: incorrect username")
    assert "Look at SKYPILOT_DOCKER_SERVER" in login_words("h", "Error: dial tcp: no such host")


def test_complaint_is_the_line_that_says_what_is_wrong():
    assert complaint("WARNING: kernel\nCannot connect to it.\nSee --help") == "Cannot connect to it"
    assert complaint("pulling\nError response: no.\nmore") == "Error response: no"
    assert complaint("\n") == "it says nothing"


def tool(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def machine(folder: Path, **tools: str) -> dict[str, str]:
    """An environment whose PATH has these tools and no others, but for what scripts need."""
    folder.mkdir()
    for name in ("sh", "chmod", "cat", "mv"):
        (folder / name).symlink_to(f"/bin/{name}")
    for name, script in tools.items():
        tool(folder, name.replace("_", "-"), script)
    return {"PATH": str(folder)}


DOCKER = 'case "$1" in version) [ -e "{up}" ] && echo 20.10 || { echo "Cannot connect" >&2; exit 1; };; esac'


@pytest.mark.skipif(os.geteuid() != 0, reason="an engine is installed by root alone")
@pytest.mark.parametrize("manager", ["apt_get", "dnf", "yum", "zypper", "apk"])
def test_engine_is_installed_and_started_when_the_machine_has_none(tmp_path: Path, manager: str):
    up, ready = tmp_path / "up", tmp_path / "docker"
    tool(tmp_path, "docker", DOCKER.replace("{up}", str(up)))
    install = f'case "$*" in *install*|*add*) mv {ready} {tmp_path}/bin/docker;; esac; echo "said $*"'
    environment = machine(tmp_path / "bin", **{manager: install}, systemctl=f'cat /dev/null >"{up}"')
    notes: list[str] = []
    engine, version = ready_engine(environment, True, str(tmp_path / "log"), notes.append)
    assert (engine.name, version) == ("docker", "20.10")
    assert notes == [f"Installing a container engine with {manager.replace('_', '-')}.", "Starting docker."]
    assert "said" in (tmp_path / "log").read_text()
    # It is there now: nothing is installed again.
    ready_engine(environment, True, str(tmp_path / "log"), notes.append)
    assert len(notes) == 2


@pytest.mark.parametrize(
    ("whole_machine", "tools", "words"),
    [
        (False, {"apt_get": "exit 99"}, "apt-get install docker.io"),
        (False, {"docker": "echo 'Cannot connect to the daemon' >&2; exit 1"}, "systemctl start docker"),
        (False, {"docker": "echo 'permission denied while' >&2; exit 1"}, "group docker"),
    ],
)
def test_reason_says_what_to_install_or_start_when_the_computer_is_a_persons(
    tmp_path: Path, whole_machine, tools, words
):
    with pytest.raises(ContainerError, match=words):
        ready_engine(machine(tmp_path / "bin", **tools), whole_machine, str(tmp_path / "log"), print)
    assert not (tmp_path / "log").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="an engine is installed by root alone")
@pytest.mark.parametrize(
    ("tools", "words"),
    [({"apt_get": "exit 9"}, r"apt-get could not .*exit code 9"), ({}, "no package manager")],
)
def test_reason_names_the_log_when_nothing_could_be_installed(tmp_path: Path, tools, words):
    with pytest.raises(ContainerError, match=words):
        ready_engine(machine(tmp_path / "bin", **tools), True, str(tmp_path / "log"), lambda text: None)


def test_podman_is_taken_when_there_is_no_docker(tmp_path: Path):
    environment = machine(tmp_path / "bin", podman='[ "$1" = version ] && echo 4.3.1')
    engine, version = ready_engine(environment, False, str(tmp_path / "log"), print)
    assert (engine.name, version) == ("podman", "4.3.1")


def test_podman_is_taken_when_docker_does_not_answer(tmp_path: Path):
    environment = machine(tmp_path / "bin", docker="exit 1", podman="echo 4.3.1")
    assert ready_engine(environment, False, str(tmp_path / "log"), print)[0].name == "podman"


def test_engine_sees_the_home_of_its_person_when_the_node_has_another():
    assert engine_environment({"HOME": "/node", "STIX_ENGINE_HOME": "/home/me"}) == {"HOME": "/home/me"}
    assert engine_environment({"HOME": "/root"}) == {"HOME": "/root"}


LOGIN_ENGINE = """\
case "$1" in
  login) echo "$*" >>{said}; cat >"$DOCKER_CONFIG/config.json"; cat "$DOCKER_CONFIG/config.json" >>{fed};;
  pull) ls "$DOCKER_CONFIG" >>{said}; echo "$DOCKER_CONFIG" >{said}-folder; exit {code};;
  image) exit 1;;
esac
"""


@pytest.mark.parametrize("code", [0, 7])
def test_password_is_on_no_command_line_and_gone_when_the_pull_has_ended(tmp_path: Path, code: int):
    said, fed = tmp_path / "said", tmp_path / "fed"
    script = LOGIN_ENGINE.replace("{said}", str(said)).replace("{fed}", str(fed)).replace("{code}", str(code))
    environment = machine(tmp_path / "bin", docker=script)
    (tmp_path / "bin" / "ls").symlink_to("/bin/ls")
    images = Images(str(tmp_path), environment)
    engine = Engine(str(tmp_path / "bin" / "docker"), environment)
    with nullcontext() if code == 0 else pytest.raises(ContainerError, match=r"^((?!hush).)*$"):
        images.fetch(engine, "h/x:1", Login("me", "hush", "h"), lambda text: None, lambda: False)
    assert said.read_text().splitlines() == ["login --username me --password-stdin h", "config.json"]
    assert fed.read_text() == "hush"
    folder = Path((tmp_path / "said-folder").read_text().strip())
    assert folder.name.startswith("stix-login-")
    assert not folder.exists()
    assert not (tmp_path / "login.json").exists()


def inside(folder: Path, **values: object) -> Inside:
    engine = Engine(
        str(folder / "bin" / "docker"), machine(folder / "bin", docker=f'echo "$*" >>{folder}/said')
    )
    known = {
        "id": "i",
        "name": "c",
        "user": "app",
        "uid": 1000,
        "gid": 1001,
        "home": "/home/app",
        "gpus": Gpus(0),
    }
    return Inside(engine=engine, **{**known, **values})


def test_work_directory_is_given_back_when_the_agent_is_not_root(tmp_path: Path, monkeypatch):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "made.txt").write_text("x")
    place = inside(tmp_path)
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    place.give_back(str(tmp_path / "work"))
    owner = f"{other}:{os.getegid()}"
    assert (tmp_path / "said").read_text() == f"exec --user 0:0 c chown -R {owner} /home/app/sky_workdir\n"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    place.give_back(str(tmp_path / "work"))
    assert len((tmp_path / "said").read_text().splitlines()) == 1


@pytest.mark.parametrize(("uid", "given"), [(1000, {"work", "made.txt"}), (0, set())])
def test_work_directory_is_the_images_users_when_the_agent_is_root(tmp_path: Path, monkeypatch, uid, given):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "made.txt").write_text("x")
    owned: dict[str, tuple[int, int]] = {}
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "lchown", lambda path, *owner: owned.update({Path(path).name: owner}))
    inside(tmp_path, uid=uid).own_files(str(tmp_path / "work"))
    assert owned == dict.fromkeys(given, (1000, 1001))
