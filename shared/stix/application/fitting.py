"""Whether a task can run on a cluster that exists."""

from __future__ import annotations

from stix.model.cluster import Cluster
from stix.model.container import container_image, machine_image
from stix.model.errors import ConflictError
from stix.model.offer import Offer
from stix.model.resources import Resources
from stix.model.task import Task

__all__ = ["check_fits"]


def check_fits(cluster: Cluster, task: Task) -> None:
    """A task may not need more than the cluster has. Raises ``ConflictError``.

    While its machines are still sought, only the number of nodes and the accelerators are known.
    """
    if task.num_nodes > cluster.num_nodes:
        raise ConflictError(
            f"num_nodes: {task.num_nodes} were asked, cluster {cluster.name!r} has {cluster.num_nodes}.",
            hint="Use fewer nodes, or launch under another name.",
            code="does_not_fit",
        )
    _check_accelerators(cluster, task.resources)
    if cluster.offer is None:
        return
    _check_image(cluster, cluster.offer, task.resources)
    _check_size(cluster, cluster.offer, task.resources)
    _check_place(cluster, cluster.offer, task.resources)


def _check_accelerators(cluster: Cluster, resources: Resources) -> None:
    asked = resources.accelerator
    if asked is None:
        return
    if cluster.offer is not None:
        name, count = cluster.offer.accelerator, float(cluster.offer.accelerator_count)
    else:
        requested = Resources.model_validate(cluster.requested).accelerator
        name, count = (requested.name, requested.count) if requested is not None else ("", 0.0)
    if asked.name.upper() != name.upper() or asked.count > count:
        raise _less(cluster, "accelerators", asked, f"{name}:{count:g}" if name else "no accelerator")


def _check_image(cluster: Cluster, offer: Offer, resources: Resources) -> None:
    """As in SkyPilot, a cluster keeps the image that it was made with; a task that names none takes it."""
    if resources.image_id is None:
        return
    there = Resources.model_validate(cluster.requested).image_id
    asked, have = (_images(one, offer.region) for one in (resources.image_id, there))
    if asked != have:
        raise _less(cluster, "image_id", asked or "another region's image", have or "its cloud's own image")


def _images(image_id: str | dict[str, str] | None, region: str) -> str:
    container = container_image(image_id, region)
    found = [f"docker:{container}" if container else "", machine_image(image_id, region)]
    return " on ".join(dict.fromkeys(filter(None, found)))


def _check_size(cluster: Cluster, offer: Offer, resources: Resources) -> None:
    cpus, memory = resources.cpus, resources.memory
    if cpus is not None and cpus.value > offer.vcpus:
        raise _less(cluster, "cpus", cpus, f"{offer.vcpus:g}")
    if memory is not None:
        vcpus = cpus.value if cpus is not None else offer.vcpus
        if memory.gib * (vcpus if memory.per_vcpu else 1) > offer.memory_gib:
            raise _less(cluster, "memory", f"{memory} GiB", f"{offer.memory_gib:.1f} GiB")
    if resources.instance_type and resources.instance_type != offer.instance_type:
        raise _less(cluster, "instance_type", resources.instance_type, offer.instance_type)


def _check_place(cluster: Cluster, offer: Offer, resources: Resources) -> None:
    pairs = (
        (resources.cloud, offer.cloud),
        (resources.region, offer.region),
        (resources.zone, offer.zone),
    )
    if any(asked and there and asked != there for asked, there in pairs):
        raise ConflictError(
            f"resources.infra: {resources.infra} was asked, cluster {cluster.name!r} is on {offer.place}.",
            hint="Leave `infra` out, or launch under another name.",
            code="does_not_fit",
        )


def _less(cluster: Cluster, field: str, asked: object, there: str) -> ConflictError:
    return ConflictError(
        f"resources.{field}: {asked} was asked, each node of {cluster.name!r} has {there}.",
        hint="Ask for what it has, or launch under another name.",
        code="does_not_fit",
    )
