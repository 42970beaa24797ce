"""Random graphs of tasks over 40 regions of the generated catalog, from a seed."""

from __future__ import annotations

import random
from collections.abc import Sequence

from stix.optimizer.rates import HOURS_PER_MONTH, Place, Rates, Tiers
from stix.optimizer.request import Alternative, Block, Link, Machine, Request, TaskRequest

__all__ = ["generate_dag", "generated_rates"]

_END = float("inf")
_AWAY = {
    "aws": ((10240.0, 0.09), (_END, 0.085)),
    "gcp": ((1024.0, 0.12), (_END, 0.11)),
    "azure": ((_END, 0.087),),
}
_DISKS = {"aws": 0.08, "gcp": 0.1, "azure": 0.075}


def _area(place: Place) -> int:
    """Each cloud's regions lie in four parts of the world."""
    return int(place[1].rpartition("-")[2]) % 4


def _egress(source: Place, target: Place) -> Tiers:
    """As the large clouds charge: little on one's own continent, more between, most from the last one."""
    if source[0] != target[0]:
        dearer = 0.03 if _area(source) == 3 else 0.0
        return tuple((upto, price + dearer) for upto, price in _AWAY[source[0]])
    if 3 in (_area(source), _area(target)):
        return ((_END, 0.1),)
    return ((_END, 0.02 if _area(source) == _area(target) else 0.05),)


def generated_rates() -> Rates:
    return Rates(_egress, _area, lambda cloud, _tier, gb: _DISKS[cloud] * gb / HOURS_PER_MONTH)


def generate_dag(
    seed: int,
    places: Sequence[tuple[str, str, str]],
    mean_gb: float,
    *,
    tasks: int = 100,
    parents: int = 3,
    regions: int = 40,
) -> Request:
    """Up to ``parents`` earlier tasks before each; edge data log-normal with the median ``mean_gb``."""
    rng = random.Random(seed)
    everywhere = sorted({(cloud, region) for cloud, region, _ in places})
    allowed = set(rng.sample(everywhere, regions))
    blocked = tuple(Block(cloud, region) for cloud, region in everywhere if (cloud, region) not in allowed)
    links = [
        Link(parent, child, mean_gb * rng.lognormvariate(0, 1))
        for child in range(1, tasks)
        for parent in rng.sample(range(child), min(child, rng.randint(0, parents)))
    ]
    found = tuple(
        TaskRequest(f"t{number}", _alternatives(rng), seconds=3600 * rng.lognormvariate(0, 1))
        for number in range(tasks)
    )
    return Request(found, tuple(links), blocked=blocked)


def _alternatives(rng: random.Random) -> tuple[Alternative, ...]:
    spot = rng.random() < 0.5
    if rng.random() < 0.5:
        vcpus = rng.choice((4, 8, 16, 32))
        machines = [
            Machine(vcpus=vcpus, vcpus_at_least=True, memory_gib=vcpus * 4, memory_at_least=True),
        ]
    else:
        count = float(rng.choice((1, 4, 8)))
        names = rng.sample(("A100", "H100", "L4", "T4", "V100", "A10G"), rng.randint(1, 3))
        # Some of these are rare: any machine will do for the rest.
        machines = [Machine(accelerator=name, accelerator_count=count) for name in (*names, "L4")]
    return tuple(Alternative(one, spot, disk_gb=256, disk_tier="medium") for one in dict.fromkeys(machines))
