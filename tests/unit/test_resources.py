from __future__ import annotations

import pytest

from stix.model.accelerators import Accelerator, AcceleratorChoice
from stix.model.autostop import Autostop
from stix.model.errors import TaskError
from stix.model.infra import CLOUDS, Infra
from stix.model.quantities import Amount, Memory
from stix.model.resource_fields import AttachedDisk, JobRecovery, LocalDisk
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
    with pytest.raises(TaskError) as caught:
        Resources(cpus="x", cloud="gpc", colour="red")
    assert {one["field"] for one in caught.value.details["problems"]} == {"cpus", "cloud", "colour"}


@pytest.mark.parametrize(
    ("given", "parsed"),
    [
        ("80GB", Accelerator("", 1, 80)),
        ("80GB+", Accelerator("", 1, 80, True)),
        ("80gib:2", Accelerator("", 2, 80)),
        ("nvidia:80GB+", Accelerator("", 1, 80, True, "NVIDIA")),
        ("NVIDIA:80GB:8", Accelerator("", 8, 80, False, "NVIDIA")),
        ({"AMD:192GB+": 8}, Accelerator("", 8, 192, True, "AMD")),
    ],
)
def test_accelerators_are_read_by_memory_when_no_name_is_given(given: object, parsed: Accelerator):
    resources = Resources(accelerators=given)
    assert resources.accelerators == parsed
    assert Resources(**resources.to_config()) == resources


@pytest.mark.parametrize(
    ("given", "names", "ordered"),
    [
        ({"A100": 8, "h100": None}, ["A100:8", "H100:1"], False),
        ({"A100:8": None, "h100:4": None}, ["A100:8", "H100:4"], False),
        (["H100:8", "A100:8", "A100:4", "A100:8"], ["H100:8", "A100:8", "A100:4"], True),
        ({"L4", "T4:2"}, ["L4:1", "T4:2"], False),
        ({"80GB+": 2, "NVIDIA:40GB": 4}, ["80GB+:2", "NVIDIA:40GB:4"], False),
    ],
)
def test_each_accelerator_is_an_alternative_when_several_are_given(given, names, ordered):
    resources = Resources(accelerators=given, cpus=4)
    assert isinstance(resources.accelerators, AcceleratorChoice)
    assert resources.accelerator is None
    assert resources.is_ordered is ordered
    assert [str(one.accelerator) for one in resources.alternatives()] == names
    assert all(one.cpus == Amount(4) and not one.is_choice for one in resources.alternatives())
    assert Resources(**resources.to_config()) == resources


def test_nothing_passes_between_options_when_they_are_flattened():
    resources = Resources(
        infra="aws",
        labels={"team": "a"},
        autostop=10,
        any_of=[
            {"labels": {"only": "first"}, "ports": 80},
            {"use_spot": True, "labels": {"team": "b"}},
            {"infra": "gcp", "autostop": None},
        ],
    )
    first, second, third = resources.alternatives()
    assert first.labels == {"team": "a", "only": "first"}
    assert second.labels == {"team": "b"}
    assert third.labels == resources.labels == {"team": "a"}
    assert (first.ports, second.ports) == (("80",), ())
    assert (first.use_spot, second.use_spot, third.use_spot) == (False, True, False)
    assert (first.cloud, third.cloud) == ("aws", "gcp")
    assert first.autostop is not None
    assert third.autostop is None
    again = Resources(**resources.to_config())
    assert again.alternatives() == resources.alternatives()
    assert again.to_config() == resources.to_config()


def test_options_and_accelerators_multiply_when_both_are_choices():
    resources = Resources(accelerators={"A100": 1, "L4": 1}, any_of=[{"infra": "aws"}, {"infra": "gcp"}])
    flat = [(one.cloud, str(one.accelerators)) for one in resources.alternatives()]
    assert flat == [("aws", "A100:1"), ("aws", "L4:1"), ("gcp", "A100:1"), ("gcp", "L4:1")]
    assert not resources.is_ordered


def test_the_order_counts_when_options_are_ordered():
    resources = Resources(ordered=[{"use_spot": True}, {"use_spot": False}, {"use_spot": True}])
    assert resources.is_ordered
    assert [one.use_spot for one in resources.alternatives()] == [True, False]


@pytest.mark.parametrize(
    ("base", "option", "place"),
    [
        ({"cloud": "aws"}, {"region": "us-west-2"}, "aws/us-west-2"),
        ({"infra": "aws/us-east-1"}, {"region": "us-west-2"}, "aws/us-west-2"),
        ({"infra": "aws/us-east-1"}, {"zone": "us-east-1b"}, "aws/us-east-1/us-east-1b"),
        ({"infra": "aws/us-east-1"}, {"cloud": "gcp"}, "gcp"),
        ({"infra": "aws/us-east-1"}, {"infra": "*/eu-west-1"}, "*/eu-west-1"),
        ({"infra": "aws"}, {"infra": None}, "None"),
    ],
)
def test_an_option_fills_in_its_place_when_it_names_a_part_of_it(base: dict, option: dict, place: str):
    assert str(Resources(**base, any_of=[option]).alternatives()[0].infra) == place


def test_an_override_reaches_every_option_when_given():
    from stix.model.task import Task

    task = Task(resources={"any_of": [{"infra": "aws", "gpus": "A100"}, {"infra": "gcp", "gpus": "L4"}]})
    options = task.with_overrides(resources={"gpus": "H100"}).resources.alternatives()
    assert [(one.cloud, str(one.accelerators)) for one in options] == [("aws", "H100:1"), ("gcp", "H100:1")]
    assert [
        str(one.infra) for one in task.with_overrides(resources={"infra": "aws/*"}).resources.alternatives()
    ] == [
        "aws",
        "aws",
    ]


def test_there_is_one_alternative_when_nothing_is_a_choice():
    resources = Resources(cpus=4)
    assert resources.alternatives() == (resources,)
    assert Resources(any_of=[], ordered=None).alternatives() == (Resources(),)


@pytest.mark.parametrize(
    ("field", "given", "parsed"),
    [
        ("disk_size", 100, 100),
        ("disk_size", "100GB", 100),
        ("disk_size", "1TB", 1024),
        ("disk_size", "256", 256),
        ("disk_size", "1500MB", 2),
        ("disk_tier", "HIGH", "high"),
        ("disk_tier", "none", "none"),
        ("network_tier", "Best", "best"),
        ("local_disk", "nvme", LocalDisk("nvme")),
        ("local_disk", "NVMe:1000+", LocalDisk("nvme", 1000, True)),
        ("local_disk", "ssd:300", LocalDisk("ssd", 300)),
        ("max_hourly_cost", 2, 2.0),
        ("priority", -1000, -1000),
        ("priority", 0, 0),
        ("priority_class", "gold", "gold"),
        ("image_id", "ami-1", "ami-1"),
        ("image_id", "docker:ubuntu:24.04", "docker:ubuntu:24.04"),
        ("image_id", {"us-east-1": "ami-1", "docker": "x"}, {"us-east-1": "ami-1", "docker": "x"}),
        ("job_recovery", "failover", JobRecovery("FAILOVER")),
        ("job_recovery", "none", JobRecovery("none")),
        (
            "job_recovery",
            {"strategy": None, "max_restarts_on_errors": 3, "recover_on_exit_codes": 33},
            JobRecovery(None, 3, (33,)),
        ),
        ("job_recovery", {"recover_on_exit_codes": [1, 2], "zz": 1}, JobRecovery(None, 0, (1, 2), {"zz": 1})),
        ("spot_recovery", "EAGER_NEXT_REGION", JobRecovery("EAGER_NEXT_REGION")),
        ("accelerator_args", {"tpu_vm": True, "tpu_name": "t"}, {"tpu_vm": True, "tpu_name": "t"}),
        ("volumes", [{"path": "/d", "disk_size": "1TB"}], (AttachedDisk("/d", disk_size=1024),)),
        ("_cluster_config_overrides", {"a": {"b": [1]}}, {"a": {"b": [1]}}),
        ("autostop", {"hook": "x", "hook_timeout": 5}, Autostop(hook="x", hook_timeout=5)),
    ],
)
def test_a_field_is_read_and_written_again_when_in_an_accepted_form(field, given, parsed):
    resources = Resources(**{field: given})
    name = {"spot_recovery": "job_recovery"}.get(field, field).lstrip("_")
    assert getattr(resources, name) == parsed
    assert Resources(**resources.to_config()) == resources
    assert resources.to_config()


def test_fields_that_tools_write_are_left_out_when_read():
    given = {"ephemeral_storage": "10GB", "_is_image_managed": True, "_requires_fuse": None}
    assert Resources(**given) == Resources()


def test_equal_resources_are_one_when_put_in_a_set():
    assert len({Resources(cpus=4, labels={"a": "b"}), Resources(cpus="4", labels={"a": "b"})}) == 1


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({}, ""),
        (
            {"infra": "gcp", "cpus": "8+", "use_spot": True, "ports": [80, "90-99"]},
            "infra gcp, cpus 8+, use_spot yes, ports 80 90-99",
        ),
        ({"accelerators": {"A100": 8, "H100": 4}}, "accelerators A100:8 H100:4"),
        (
            {"any_of": [{"infra": "aws/us-east-1", "use_spot": True}, {"accelerators": "T4"}]},
            "any_of infra:aws/us-east-1 use_spot:yes or accelerators:T4:1",
        ),
    ],
)
def test_text_for_people_says_what_was_given(config: dict, text: str):
    assert Resources.model_validate(config).to_text() == text
