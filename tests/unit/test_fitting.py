"""Whether a task fits a cluster that exists."""

from __future__ import annotations

from typing import Any

import pytest

from stix.application.fitting import check_fits
from stix.model.cluster import Cluster
from stix.model.errors import ConflictError
from stix.model.offer import Offer
from stix.model.task import Task

OFFER = Offer(
    cloud="local",
    region="local",
    instance_type="4cpu-8gib",
    vcpus=4,
    memory_gib=8,
    accelerator="L4",
    accelerator_count=2,
    price=0.0,
    as_of=0.0,
)


def cluster(**changes: Any) -> Cluster:
    fields = {
        "workspace": "w",
        "id": "c-1",
        "name": "dev",
        "since": 0.0,
        "created_at": 0.0,
        "num_nodes": 2,
        "requested": {"accelerators": {"L4": 2}},
        "offer": OFFER,
    }
    return Cluster(**fields | changes)


def task(num_nodes: int = 1, **resources: Any) -> Task:
    return Task.from_yaml_config({"num_nodes": num_nodes, "resources": resources, "run": "true"})


@pytest.mark.parametrize(
    "fitting",
    [
        task(),
        task(2, cpus=4, memory=8, accelerators="l4:2", infra="local"),
        task(cpus="0.5+", memory="1+", instance_type="4cpu-8gib"),
        task(cpus=2, memory="4x"),
    ],
)
def test_task_is_let_in_when_it_needs_no_more_than_there_is(fitting: Task) -> None:
    check_fits(cluster(), fitting)


@pytest.mark.parametrize(
    ("field", "greedy"),
    [
        ("num_nodes", task(3)),
        ("cpus", task(cpus="5+")),
        ("memory", task(memory=9)),
        ("memory", task(memory="4x")),
        ("accelerators", task(accelerators="L4:3")),
        ("accelerators", task(accelerators="H100")),
        ("instance_type", task(instance_type="m7i.large")),
        ("infra", task(infra="aws")),
    ],
)
def test_task_is_refused_naming_the_field_when_it_needs_more(field: str, greedy: Task) -> None:
    with pytest.raises(ConflictError) as refused:
        check_fits(cluster(), greedy)
    assert field in refused.value.message
    assert "dev" in refused.value.message


def test_what_was_requested_counts_when_machines_are_still_sought() -> None:
    sought = cluster(offer=None)
    check_fits(sought, task(accelerators="L4:2", cpus=64))
    with pytest.raises(ConflictError):
        check_fits(sought, task(accelerators="L4:4"))
