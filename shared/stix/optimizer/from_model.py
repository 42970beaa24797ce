"""What a ``Task`` or a ``Dag`` asks, in the optimizer's terms. The only module here that knows the model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from stix.model.accelerators import Accelerator
from stix.model.durations import Deadline, DurationByAccelerator
from stix.optimizer.request import (
    Alternative,
    DataSource,
    Limits,
    Link,
    Machine,
    Objective,
    Request,
    TaskRequest,
)

if TYPE_CHECKING:
    from stix.model.dag import Dag
    from stix.model.resources import Resources
    from stix.model.task import Task

__all__ = ["DEFAULT_DISK_GB", "request_of_dag", "request_of_task", "task_request"]

DEFAULT_DISK_GB = 256.0
# Schemes of data that lies in one cloud; of any other we do not know where it is, and charge nothing.
_SCHEMES = {"s3": "aws", "gs": "gcp", "oci": "oci", "cos": "ibm"}
_AZURE = re.compile(r"https://[^/]+\.blob\.core\.windows\.net(/|$)")


def request_of_task(
    task: Task, *, now: float, arch: str = "", objective: Objective | None = None, name: str = ""
) -> Request:
    """``arch`` and ``objective`` override what the task says; a relative deadline counts from ``now``."""
    return Request(
        tasks=(task_request(task, name=name, arch=arch),),
        objective=objective or task.optimize,
        limits=_limits(task.max_cost, task.deadline, now),
    )


def request_of_dag(dag: Dag, *, now: float, arch: str = "", objective: Objective | None = None) -> Request:
    """A job group's tasks run in one region."""
    names = [task.name or f"task-{number}" for number, task in enumerate(dag.tasks, 1)]
    links = [
        Link(
            edge.parent,
            edge.child,
            sum(dag.tasks[edge.parent].outputs.values()) if edge.gb is None else edge.gb,
        )
        for edge in dag.edges
    ]
    return Request(
        tasks=tuple(
            task_request(task, name=name, arch=arch, feeds=any(link.parent == at for link in links))
            for at, (task, name) in enumerate(zip(dag.tasks, names, strict=True))
        ),
        links=tuple(links),
        objective=objective or dag.optimize,
        limits=_limits(dag.max_cost, dag.deadline, now),
        together=dag.execution == "parallel",
    )


def _limits(max_cost: float | None, deadline: Deadline | None, now: float) -> Limits:
    return Limits(max_cost, None if deadline is None else deadline.epoch(now) - now)


def task_request(task: Task, *, name: str = "", arch: str = "", feeds: bool = False) -> TaskRequest:
    """``feeds``: what the task writes goes to its children, where it is counted."""
    estimate = task.estimated_duration
    by_accelerator = dict(estimate.seconds) if isinstance(estimate, DurationByAccelerator) else {}
    return TaskRequest(
        name=name or task.name or "",
        alternatives=tuple(_alternative(one, arch) for one in task.resources.alternatives()),
        ordered=task.resources.is_ordered,
        num_nodes=task.num_nodes,
        inputs=_sources(task.inputs),
        outputs=() if feeds else _sources(task.outputs),
        seconds=None if estimate is None or by_accelerator else float(estimate),  # type: ignore[arg-type]
        seconds_by_accelerator=by_accelerator,
    )


def _alternative(resources: Resources, arch: str) -> Alternative:
    infra, cpus, memory = resources.infra, resources.cpus, resources.memory
    accelerator = resources.accelerator
    if accelerator is None:
        accelerator = Accelerator("", 0)
    disk = resources.local_disk
    return Alternative(
        machine=Machine(
            vcpus=cpus.value if cpus else None,
            vcpus_at_least=bool(cpus and cpus.at_least),
            memory_gib=memory.gib if memory else None,
            memory_at_least=bool(memory and memory.at_least),
            memory_per_vcpu=bool(memory and memory.per_vcpu),
            accelerator=accelerator.name,
            accelerator_count=accelerator.count,
            accelerator_by_memory=accelerator.memory_gib or None,
            accelerator_memory_at_least=accelerator.memory_at_least,
            manufacturer=accelerator.manufacturer,
            instance_type=resources.instance_type or "",
            cloud=(infra and infra.cloud) or "",
            region=(infra and infra.region) or "",
            zone=(infra and infra.zone) or "",
            arch=arch,
            local_disk_gib=0.0 if disk is None else (disk.size_gb or 1.0),
        ),
        spot=resources.use_spot,
        disk_gb=0.0 if resources.disk_tier == "none" else float(resources.disk_size or DEFAULT_DISK_GB),
        disk_tier={None: "medium", "best": "ultra"}.get(resources.disk_tier, resources.disk_tier or "medium"),
        max_hourly_cost=resources.max_hourly_cost,
    )


def _sources(data: Mapping[str, float]) -> tuple[DataSource, ...]:
    found = []
    for uri, gb in data.items():
        cloud = "azure" if _AZURE.match(uri) else _SCHEMES.get(uri.partition("://")[0].lower(), "")
        if cloud:
            found.append(DataSource(cloud, gb))
    return tuple(found)
