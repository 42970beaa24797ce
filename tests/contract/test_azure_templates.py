"""Templates and replies against Azure's own description: every offer of the catalog, and what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import azure.mgmt.compute.models as models
import pytest

from stix.catalog.snapshot import snapshot_rows
from stix.clouds.azure import template
from stix.clouds.azure.facts import is_arm
from stix.clouds.azure.settings import from_config
from tests.contract.world_azure import World
from tests.providers.azure.shapes import violations
from tests.providers.azure.template import refused, schema_violations


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


def test_every_offer_of_the_catalog_can_be_created(world: World) -> None:
    rows = [row for row in snapshot_rows() if row.cloud == "azure"]
    assert len({row.instance_type for row in rows}) > 50
    assert {row.zone for row in rows} == {""}
    assert all(row.region.isalnum() and row.region.islower() for row in rows)
    settings = from_config({})
    for row in {row.instance_type: row for row in rows}.values():
        assert is_arm(row.instance_type) == (row.arch == "arm64")
        offer = {"instance_type": row.instance_type, "region": row.region, "accelerator": row.accelerator}
        made = template.gang_template(world.request("a", **offer), settings)
        assert refused(made) is None, row.instance_type
        assert schema_violations(made) == [], row.instance_type


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"properties": {"hardwareProfile": {"vmsize": "x"}}}, ".properties.hardwareProfile.vmsize: unknown"),
        ({"properties": {"storageProfile": {"osDisk": {"createOption": 5}}}}, "createOption: 5 is none of"),
        ({"properties": {"priority": "Cheap"}}, ".properties.priority: 'Cheap' is none of"),
        ({"properties": {"billingProfile": {"maxPrice": "1"}}}, "maxPrice: '1' is no float"),
        ({"properties": {"vmId": "x"}}, ".properties.vmId: only Azure writes it"),
        ({"zones": "1"}, ".zones: '1' is no list"),
        ({"tags": {"a": 1}}, ".tags.a: 1 is no str"),
        ({"location": None}, ".location: None is no str"),
    ],
)
def test_shapes_find_what_azure_would_not_take(change: dict[str, Any], expected: str) -> None:
    [found] = violations(models.VirtualMachine, {"location": "eastus", **change}, sent=True)
    assert expected in found


def test_shapes_find_what_is_missing() -> None:
    assert violations(models.VirtualMachine, {}) == [".location: required"]


def test_wrong_template_and_wrong_reply_are_noticed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(template._DISKS, "", "Fancy_LRS")
    compute = world.compute()
    ids = compute.create(world.request("a"))
    assert any("'Fancy_LRS' is none of" in one for one in world.server.violations)
    world.server.violations.clear()
    world.settle()
    world.server.violations.clear()
    [group] = world.server.cloud.groups.values()
    group.vms["node-0"]["properties"]["vmId"] = 5
    compute.describe(world.place, ids)
    assert any(".properties.vmId: 5 is no str" in one for one in world.server.violations)
    world.server.violations.clear()
