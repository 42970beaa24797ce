"""A deployment that uses every cloud: a function, a role and a layer for each, blind to the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from layers.build import LAYERS, download
from stix.clouds.registry import PROVIDERS
from tests.infrastructure.conftest import short, synthesize

# One process: another one would synthesize it again.
pytestmark = pytest.mark.xdist_group("template-of-clouds")

CLOUDS: dict[str, dict[str, Any]] = {cloud: {} for cloud in PROVIDERS} | {
    "azure": {"subscription_id": "00000000-0000-0000-0000-000000000000", "public_addresses": False},
    "gcp": {"project": "my-project"},
}


@pytest.fixture(scope="module")
def resources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Of the template, by logical id; the rule packs are content with it."""
    from aws_cdk import App

    from infra.app import build
    from infra.assets import Assets

    for layer in LAYERS:
        download(layer, "arm64")
    folder: Path = tmp_path_factory.mktemp("clouds") / "out"
    context = {"deployment": "stix", "clouds": CLOUDS}
    app = App(analytics_reporting=False, outdir=str(folder), context=context)
    build(app, Assets())
    assert synthesize(app, folder) == {}
    found: dict[str, dict[str, Any]] = json.loads((folder / "ControlPlane.template.json").read_text())[
        "Resources"
    ]
    return found


def _function(resources: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    [found] = [
        one["Properties"]
        for one in resources.values()
        if one["Type"] == "AWS::Lambda::Function" and one["Properties"].get("FunctionName") == f"stix-{name}"
    ]
    return found


def _statements(resources: dict[str, dict[str, Any]], function: dict[str, Any]) -> list[dict[str, Any]]:
    role = function["Role"]["Fn::GetAtt"][0]
    return [
        statement
        for one in resources.values()
        if one["Type"] == "AWS::IAM::Policy" and {"Ref": role} in one["Properties"]["Roles"]
        for statement in one["Properties"]["PolicyDocument"]["Statement"]
    ]


@pytest.mark.parametrize("cloud", sorted(set(PROVIDERS) & set(LAYERS)))
def test_function_of_a_cloud_mounts_its_sdk_which_no_other_does(
    resources: dict[str, dict[str, Any]], cloud: str
) -> None:
    functions = {
        one["Properties"]["FunctionName"]: [short(layer["Ref"]) for layer in one["Properties"]["Layers"]]
        for one in resources.values()
        if one["Type"] == "AWS::Lambda::Function" and "Layers" in one["Properties"]
    }
    [sdk] = {
        short(name)
        for name, one in resources.items()
        if one["Type"] == "AWS::Lambda::LayerVersion"
        and one["Properties"]["Description"] == f"Stix: the SDK of {cloud}"
    }
    assert [name for name, layers in functions.items() if sdk in layers] == [f"stix-cloud-{cloud}"]
    assert len(functions[f"stix-cloud-{cloud}"]) == 2


@pytest.mark.parametrize("cloud", PROVIDERS)
def test_function_of_a_cloud_has_its_settings(resources: dict[str, dict[str, Any]], cloud: str) -> None:
    environment = _function(resources, f"cloud-{cloud}")["Environment"]["Variables"]
    assert environment["STIX_CLOUD"] == cloud
    assert json.loads(environment["STIX_CLOUD_CONFIG"]) == CLOUDS[cloud]
    clouds = _function(resources, "provision")["Environment"]["Variables"]["STIX_CLOUDS"]
    assert clouds == ",".join(sorted(PROVIDERS))


@pytest.mark.parametrize("cloud", sorted(set(PROVIDERS) - {"aws"}))
def test_function_of_another_cloud_reads_its_own_key_and_has_no_rights_on_machines_of_aws(
    resources: dict[str, dict[str, Any]], cloud: str
) -> None:
    statements = _statements(resources, _function(resources, f"cloud-{cloud}"))
    text = json.dumps(statements)
    assert "ec2:" not in text
    assert "dynamodb:" not in text
    read = [json.dumps(one["Resource"]) for one in statements if "s3:GetObject" in one["Action"]]
    assert len(read) == 1
    assert f"/clouds/{cloud}.json" in read[0]
    assert not any(f"/clouds/{other}.json" in text for other in PROVIDERS if other != cloud)


@pytest.mark.parametrize("caller", ["optimize", "provision", "monitor", "recover", "autoscale"])
def test_who_decides_about_machines_may_call_every_cloud(
    resources: dict[str, dict[str, Any]], caller: str
) -> None:
    statements = _statements(resources, _function(resources, caller))
    [called] = [one["Resource"] for one in statements if one["Action"] == "lambda:InvokeFunction"]
    for cloud in PROVIDERS:
        assert any(f":function:stix-cloud-{cloud}:live" in json.dumps(one) for one in called)
