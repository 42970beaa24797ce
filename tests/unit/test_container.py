"""Container images as a task names them, and as its cluster hands them to the agents."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stix.application.fitting import check_fits
from stix.model.container import container_image, container_problems, machine_image, run_options
from stix.model.errors import ConflictError
from stix.model.problems import field_name
from stix.model.task import Task
from tests.unit.test_fitting import cluster
from tests.unit.world import ControlPlane, offer

BY_REGION = {"us-east-1": "ami-1", "eu-west-1": "docker:other:2", "docker": "docker:tool:1"}


@pytest.mark.parametrize(
    ("image_id", "region", "container", "machine"),
    [
        (None, "r", "", ""),
        ("ami-1", "r", "", "ami-1"),
        ("docker:tool:1", "r", "tool:1", "docker:tool:1"),
        (BY_REGION, "us-east-1", "tool:1", "ami-1"),
        (BY_REGION, "eu-west-1", "other:2", "docker:other:2"),
        (BY_REGION, "elsewhere", "tool:1", "docker:tool:1"),
        ({"docker": "tool:1"}, "r", "tool:1", "docker:tool:1"),
        ({"us-east-1": "ami-1"}, "elsewhere", "", ""),
    ],
)
def test_container_and_machine_image_are_told_apart_when_both_are_given(image_id, region, container, machine):
    assert container_image(image_id, region) == container
    assert machine_image(image_id, region) == machine


def task(**config: Any) -> Task:
    return Task.from_yaml_config({"run": "true", **config})


def docker(options: Any) -> dict[str, Any]:
    return {"config": {"docker": {"run_options": options}}}


@pytest.mark.parametrize(
    ("given", "field", "words"),
    [
        (docker("-v /a:/b --name mine"), "config.docker.run_options", "finds its container"),
        (docker(["--gpus all", "-it"]), "config.docker.run_options", "no terminal"),
        (docker("--user=1000"), "config.docker.run_options", "own user"),
        (docker("-v 'open"), "config.docker.run_options", "Close the quotes"),
        (
            {"resources": {"any_of": [{"infra": "aws", "image_id": "docker:x"}, {"infra": "gcp"}]}},
            "resources.any_of[0].image_id",
            "around the options",
        ),
        ({"secrets": {"SKYPILOT_DOCKER_PASSWORD": "p"}}, "secrets.SKYPILOT_DOCKER_PASSWORD", "all three"),
        ({"envs": {"SKYPILOT_DOCKER_USERNAME": "u"}}, "envs.SKYPILOT_DOCKER_USERNAME", "docker.io"),
    ],
)
def test_problem_names_the_field_and_the_fix_when_it_cannot_work(given, field, words):
    (problem,) = container_problems(task(**given))
    assert field_name(problem.path) == field
    assert words in problem.hint
    assert problem.value != "p"


@pytest.mark.parametrize(
    "given",
    [
        {},
        docker(["-v /a:/b", "--shm-size=8g", "--network=bridge"]),
        docker("--env=A=1"),
        {
            "envs": {"SKYPILOT_DOCKER_USERNAME": "u", "SKYPILOT_DOCKER_SERVER": "s"},
            "secrets": {"SKYPILOT_DOCKER_PASSWORD": None},
        },
        {"resources": {"image_id": "docker:x", "any_of": [{"infra": "aws"}, {"infra": "gcp"}]}},
    ],
)
def test_no_problem_is_seen_when_it_can_work(given):
    assert container_problems(task(**given)) == []


def test_run_options_are_a_list_when_they_are_written_as_text():
    assert run_options(task(**docker("--env=A=1 -v /a:/b"))) == ["--env=A=1 -v /a:/b"]
    assert run_options(task()) == []


@pytest.mark.parametrize(
    ("made_with", "asked", "fits"),
    [
        ("docker:a:1", None, True),
        ("docker:a:1", "docker:a:1", True),
        ("docker:a:1", {"docker": "a:1"}, True),
        ("docker:a:1", "docker:b:1", False),
        (None, "docker:a:1", False),
        ("ami-1", "docker:a:1", False),
        ("ami-1", {"local": "ami-1", "elsewhere": "ami-2"}, True),
    ],
)
def test_cluster_keeps_its_image_when_a_task_names_another(made_with, asked, fits):
    resources = {} if asked is None else {"image_id": asked}
    wanted = task(resources=resources)
    there = cluster(requested={} if made_with is None else {"image_id": made_with})
    if fits:
        check_fits(there, wanted)
        return
    with pytest.raises(ConflictError, match="image_id: docker:") as caught:
        check_fits(there, wanted)
    assert "another name" in caught.value.hint


@pytest.mark.parametrize(("runs_images", "expected"), [(False, {"image": "tool:1"}), (True, None)])
def test_agent_is_told_the_image_when_its_machine_is_not_made_from_it(tmp_path: Path, runs_images, expected):
    plane = ControlPlane(tmp_path, [offer()])
    try:
        facts = replace(plane.world.clouds["fake"], runs_images=runs_images)
        plane.world = replace(plane.world, clouds={"fake": facts})
        config = {"run": "true", "resources": {"image_id": "docker:tool:1"}, **docker(["--env=A=1"])}
        made = plane.bring_up(task=config)
        plane.execute(task={"run": "echo again"})
        first, second = (one["job"]["container"] for one in plane.commands(made)["commands"])
        if expected is None:
            assert (first, second) == (None, None)
        else:
            assert first == {**expected, "run_options": ["--env=A=1"]}
            assert second == {**expected, "run_options": []}
    finally:
        plane.close()
