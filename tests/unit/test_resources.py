from __future__ import annotations

import pytest
from pydantic import ValidationError

from stix.model.accelerators import Accelerator
from stix.model.autostop import Autostop
from stix.model.infra import CLOUDS, Infra
from stix.model.quantities import Amount, Memory
from stix.model.resources import Resources


@pytest.mark.parametrize(
    ("given", "parsed"),
    [
        (4, Amount(4)),
        ("4", Amount(4)),
        ("4+", Amount(4, True)),
        (0.5, Amount(0.5)),
        (" 2.5 + ", Amount(2.5, True)),
    ],
)
def test_cpus_are_read_when_written_in_an_accepted_form(given: object, parsed: Amount):
    assert Resources(cpus=given).cpus == parsed


@pytest.mark.parametrize(
    ("given", "parsed"),
    [
        (16, Memory(16)),
        ("16+", Memory(16, True)),
        ("16GB", Memory(16)),
        ("16gib+", Memory(16, True)),
        ("512MB", Memory(0.5)),
        ("1TB", Memory(1024)),
        ("4x", Memory(4, False, True)),
        ("4x+", Memory(4, False, True)),
    ],
)
def test_memory_is_read_when_written_in_an_accepted_form(given: object, parsed: Memory):
    assert Resources(memory=given).memory == parsed


@pytest.mark.parametrize(
    ("given", "parsed"),
    [
        ("A100", Accelerator("A100", 1)),
        ("a100:8", Accelerator("A100", 8)),
        ("l4:0.5", Accelerator("L4", 0.5)),
        ({"a100-80gb": 8}, Accelerator("A100-80GB", 8)),
        ({"H100": None}, Accelerator("H100", 1)),
        ({"H100": "2"}, Accelerator("H100", 2)),
        (["T4:2"], Accelerator("T4", 2)),
        ("TPU-v5litepod-4", Accelerator("tpu-v5litepod-4", 1)),
        ("NewChip", Accelerator("NewChip", 1)),
        ({}, None),
        ([], None),
    ],
)
def test_accelerators_are_read_when_written_in_an_accepted_form(given: object, parsed: Accelerator | None):
    assert Resources(accelerators=given).accelerators == parsed
    assert Resources(gpus=given).accelerators == parsed


@pytest.mark.parametrize(
    ("given", "parsed", "written"),
    [
        ("local", Infra("local"), "local"),
        ("AWS", Infra("aws"), "aws"),
        ("aws/us-east-1/us-east-1a", Infra("aws", "us-east-1", "us-east-1a"), "aws/us-east-1/us-east-1a"),
        ("*/us-east-1", Infra(None, "us-east-1"), "*/us-east-1"),
        ("aws/*/us-east-1a", Infra("aws", None, "us-east-1a"), "aws/*/us-east-1a"),
        ("aws/*", Infra("aws"), "aws"),
        ("k8s", Infra("kubernetes"), "kubernetes"),
        ("Kubernetes/arn:aws:eks/x/y", Infra("kubernetes", "arn:aws:eks/x/y"), "kubernetes/arn:aws:eks/x/y"),
        ("ssh/my-pool", Infra("ssh", "my-pool"), "ssh/my-pool"),
    ],
)
def test_infra_is_read_when_written_in_an_accepted_form(given: str, parsed: Infra, written: str):
    resources = Resources(infra=given)
    assert resources.infra == parsed
    assert (resources.cloud, resources.region, resources.zone) == (parsed.cloud, parsed.region, parsed.zone)
    assert str(parsed) == written


def test_infra_is_unset_when_every_part_is_a_wildcard():
    assert Resources(infra="*/*/*") == Resources(infra="*") == Resources()


@pytest.mark.parametrize("cloud", CLOUDS)
def test_every_cloud_is_accepted_when_named_alone(cloud: str):
    assert Resources(infra=cloud).cloud == Resources(cloud=cloud.upper()).cloud == cloud


def test_the_older_trio_means_infra_when_given():
    assert Resources(cloud="AWS", region="us-east-1", zone="us-east-1a") == Resources(
        infra="aws/us-east-1/us-east-1a"
    )
    assert Resources(cloud="k8s", region="a/b") == Resources(infra="k8s/a/b")
    assert Resources(region="us-east-1") == Resources(infra="*/us-east-1")


@pytest.mark.parametrize(
    ("given", "parsed"),
    [
        (8080, ("8080",)),
        ("8080-8090", ("8080-8090",)),
        ("443, 80", ("80", "443")),
        ([80, "90-99", "80,443"], ("80", "90-99", "443")),
        ("80-80", ("80",)),
        (None, ()),
        ([], ()),
    ],
)
def test_ports_are_distinct_and_sorted_when_read(given: object, parsed: tuple[str, ...]):
    assert Resources(ports=given).ports == parsed


@pytest.mark.parametrize(
    ("given", "minutes"),
    [(True, 5), (10, 10), (0, 0), ("7", 7), ("10m", 10), ("2H", 120), ("1d", 1440), ("1w", 10080), ({}, 5)],
)
def test_autostop_has_its_minutes_when_written_in_an_accepted_form(given: object, minutes: int):
    assert Resources(autostop=given).autostop == Autostop(idle_minutes=minutes)


def test_autostop_is_unset_when_false():
    assert Resources(autostop=False).autostop is None


def test_autostop_keeps_its_choices_when_given_as_a_mapping():
    stop = Resources(autostop={"idle_minutes": "1h", "down": True, "wait_for": "JOBS"}).autostop
    assert stop == Autostop(idle_minutes=60, down=True, wait_for="jobs")
    assert stop.to_config() == {"idle_minutes": 60, "down": True, "wait_for": "jobs"}


@pytest.mark.parametrize(
    ("asked", "offered", "allowed"),
    [("4", 4, True), ("4", 8, False), ("4", 2, False), ("4+", 4, True), ("4+", 8, True), ("4+", 3.9, False)],
)
def test_an_amount_allows_a_machine_when_it_satisfies_it(asked: str, offered: float, allowed: bool):
    cpus, memory = Resources(cpus=asked).cpus, Resources(memory=asked).memory
    assert cpus.allows(offered) is allowed
    assert memory.allows(offered, 2) is allowed


def test_memory_per_vcpu_grows_when_the_machine_has_more_of_them():
    memory = Resources(memory="4x").memory
    assert memory.allows(16, 4)
    assert not memory.allows(16, 8)


def test_several_problems_come_at_once_when_constructed_in_python():
    with pytest.raises(ValidationError) as caught:
        Resources(cpus="x", cloud="gpc", colour="red")
    assert {error["loc"] for error in caught.value.errors()} == {("cpus",), ("cloud",), ("colour",)}
