"""Which offers a launch considers: those of the providers, and of the catalog for configured clouds only."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stix.application.planning import plan
from stix.catalog.disks import disk_hourly_price
from stix.catalog.index import compile_index, open_index
from stix.catalog.row import CatalogRow
from stix.model.errors import NoOfferError
from stix.model.offer import Offer
from stix.model.task import Task
from stix.ports.cloud_facts import CloudFacts

ROWS = [
    CatalogRow("aws", "us-1", "us-1a", "m", 4, 16, price=0.2, spot_price=0.05, as_of=5.0),
    CatalogRow("gcp", "us-9", "us-9a", "n", 4, 16, price=0.1, as_of=5.0),
    CatalogRow("aws", "us-1", "us-1a", "g", 8, 64, "A100", 1.0, 40.0, price=2.0, as_of=5.0),
]


class Discovering:
    def __init__(self, *offers: Offer):
        self._offers = list(offers)

    def offers(self) -> list[Offer]:
        return self._offers


LOCAL = Offer(
    cloud="local", region="local", instance_type="this-machine", vcpus=4, memory_gib=8, price=0, elastic=True
)


@pytest.fixture
def catalog(tmp_path: Path) -> Any:
    compile_index(ROWS, tmp_path / "index")
    index = open_index(tmp_path / "index")
    yield index
    index.close()


def world(catalog: Any, **compute: object) -> Any:
    clouds = {name: CloudFacts(name, discovers=isinstance(one, Discovering)) for name, one in compute.items()}
    clock = SimpleNamespace(now=lambda: 10.0)
    return SimpleNamespace(compute=compute, clouds=clouds, unusable={}, catalog=catalog, clock=clock)


def asked(**resources: object) -> Task:
    return Task.from_yaml_config({"resources": resources, "run": "true"})


def kinds(found: list[Any]) -> list[str]:
    return [entry.offer.instance_type for entry in found]


def test_catalog_counts_only_for_configured_clouds(catalog: Any) -> None:
    assert kinds(plan(world(catalog, local=Discovering(LOCAL)), asked(cpus="2+"))) == ["this-machine"]
    both = plan(world(catalog, local=Discovering(LOCAL), aws=object()), asked(cpus="2+"))
    assert kinds(both) == ["this-machine", "m"]
    # With its disk, of the size that a task gets which asks for none.
    assert both[1].offer.price == pytest.approx(0.2 + disk_hourly_price("aws", "medium", 256))
    assert (both[1].offer.price_as_of, both[1].offer.spot) == (5.0, False)
    assert kinds(plan(world(None, local=Discovering(LOCAL), aws=object()), asked(cpus="2+"))) == [
        "this-machine"
    ]


def test_choice_of_accelerators_is_not_met_by_a_machine_without(catalog: Any) -> None:
    wanted = asked(accelerators={"H100": 1, "A100": 1})
    assert kinds(plan(world(catalog, local=Discovering(LOCAL), aws=object()), wanted)) == ["g"]
    with pytest.raises(NoOfferError, match="no accelerator"):
        plan(world(catalog, local=Discovering(LOCAL)), wanted)


def test_options_of_resources_are_each_considered(catalog: Any) -> None:
    big, small = {"cpus": "64+"}, {"cpus": 2}
    assert kinds(plan(world(None, local=Discovering(LOCAL)), asked(any_of=[big, small]))) == ["this-machine"]
    assert (
        plan(world(None, local=Discovering(LOCAL)), asked(ordered=[{"cpus": 3}, small]))[0].offer.vcpus == 3
    )
