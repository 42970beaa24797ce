"""Azure's own words, read without asking it: errors, sizes, settings, credentials."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from stix.adapters.system import SystemClock
from stix.clouds.azure.compute import connect
from stix.clouds.azure.errors import REFUSALS, leaf_of, refusal
from stix.clouds.azure.facts import (
    FACTS,
    family_key,
    family_of,
    has_premium_disks,
    is_arm,
    is_confidential,
    is_first_generation,
)
from stix.clouds.azure.settings import AzureCloud
from stix.clouds.registry import check_config
from stix.model.errors import (
    Blocks,
    CredentialsError,
    InvalidInputError,
    InvalidRequestError,
    NoCapacityError,
    ProviderError,
    QuotaExceededError,
    ThrottledError,
    UnavailableError,
)

ROOT = Path(__file__).parents[2]

# --- errors ---


def test_innermost_error_is_told() -> None:
    inner = json.dumps({"error": {"code": "ZonalAllocationFailed", "message": "no room"}})
    wrapped = {"code": "DeploymentFailed", "details": [{"code": "Conflict", "message": inner}]}
    assert leaf_of(wrapped) == ("ZonalAllocationFailed", "no room")
    assert leaf_of({"code": "A", "message": "{not JSON"}) == ("A", "{not JSON")
    assert leaf_of({}) == ("Unknown", "")


def test_error_that_is_known_is_told_of_several() -> None:
    details = [{"code": "Strange", "message": "x"}, {"code": "SkuNotAvailable", "message": "y"}]
    assert leaf_of({"code": "DeploymentFailed", "details": details}) == ("SkuNotAvailable", "y")


@pytest.mark.parametrize(
    ("code", "words", "status", "expected"),
    [
        ("OperationNotAllowed", "exceeding approved standardDSv5Family Cores quota", 409, QuotaExceededError),
        ("OperationNotAllowed", "the machine is stopped", 409, InvalidRequestError),
        ("OperationNotAllowed", "too many requests", 429, ThrottledError),
        ("BadRequest", "'Standard_A1_v2' cannot boot Hypervisor Generation '2'.", 400, NoCapacityError),
        ("BadRequest", "not supported with '<NULL>' security type.", 400, NoCapacityError),
        ("BadRequest", "the name is wrong", 400, InvalidRequestError),
        ("SomethingNew", "", 400, InvalidRequestError),
        ("SomethingNew", "", 403, CredentialsError),
        ("SomethingNew", "", 500, UnavailableError),
    ],
)
def test_words_and_status_decide_where_the_code_does_not(
    code: str, words: str, status: int, expected: type[Exception]
) -> None:
    assert type(refusal(code, words, status)) is expected


@pytest.mark.parametrize(
    ("code", "blocks"),
    [
        ("AllocationFailed", Blocks.OFFER),
        ("QuotaExceeded", Blocks.FAMILY),
        ("SubnetIsFull", Blocks.REGION),
        ("RequestDisallowedByPolicy", Blocks.REGION),
        ("LocationNotAvailableForResourceGroup", Blocks.REGION),
        ("AuthorizationFailed", Blocks.CLOUD),
        ("ResourceGroupBeingDeleted", Blocks.NOTHING),
    ],
)
def test_refusal_reaches_as_far_as_its_cause(code: str, blocks: Blocks) -> None:
    error = refusal(code, "no")
    assert isinstance(error, ProviderError)
    assert isinstance(error, REFUSALS[code])
    assert (error.blocks, error.provider_code) == (blocks, code)


# --- sizes ---


@pytest.mark.parametrize(
    ("size", "family"),
    [
        ("Standard_D2s_v5", "standardDSv5Family"),
        ("Standard_B2s", "standardBSFamily"),
        ("Standard_E4-2ds_v5", "standardEDSv5Family"),
        ("Standard_D2ads_v6", "standardDadv6Family"),
        ("Standard_E2as_v6", "standardEav6Family"),
        ("Standard_D2ds_v6", "StandardDdsv6Family"),
        ("Standard_F2as_v6", "StandardFasv6Family"),
        ("Standard_NC24ads_A100_v4", "StandardNCADSA100v4Family"),
        ("Standard_NC4as_T4_v3", "Standard NCASv3_T4 Family"),
        ("Standard_NC6s_v3", "standardNCSv3Family"),
        ("Standard_NC24rs_v3", "standardNCSv3Family"),
        ("Standard_NC40ads_H100_v5", "StandardNCadsH100v5Family"),
        ("Standard_NC80adis_H100_v5", "StandardNCadsH100v5Family"),
        ("Standard_ND96asr_v4", "Standard NDASv4_A100 Family"),
        ("Standard_ND96amsr_A100_v4", "Standard NDAMSv4_A100Family"),
        ("Standard_ND96isr_H100_v5", "standardNDSH100v5Family"),
        ("Standard_ND96isr_H200_v5", "standardNDISRH200V5Family"),
        ("Standard_NV36adms_A10_v5", "StandardNVADSA10v5Family"),
    ],
)
def test_family_of_a_size_is_the_one_that_azure_counts_it_to(size: str, family: str) -> None:
    assert family_of(size) == family_key(family)


def test_family_of_a_name_that_is_no_size_is_itself() -> None:
    assert family_of("mine") == "mine"


@pytest.mark.parametrize(
    ("size", "features"),
    [
        ("Standard_D4ps_v5", {"arm", "premium"}),
        ("Standard_D4s_v5", {"premium"}),
        ("Standard_D4_v5", set()),
        ("Standard_D2_v3", {"first generation"}),
        ("Standard_A1_v2", {"first generation"}),
        ("Standard_NC24ads_A100_v4", {"premium"}),
        ("Standard_DC4as_v5", {"premium", "confidential"}),
        ("Standard_EC4es_v6", {"premium", "confidential"}),
        ("Standard_DC4s_v3", {"premium"}),
        ("Standard_NCC40ads_H100_v5", {"premium", "confidential"}),
    ],
)
def test_features_are_read_from_the_size(size: str, features: set[str]) -> None:
    tests = {
        "arm": is_arm,
        "premium": has_premium_disks,
        "first generation": is_first_generation,
        "confidential": is_confidential,
    }
    assert {name for name, holds in tests.items() if holds(size)} == features


# --- settings and credentials ---


@pytest.mark.parametrize(
    ("config", "field", "fix"),
    [
        ({"subscription": "x"}, "clouds.azure.subscription", "Known settings are: subscription_id"),
        ({"client_id": "x"}, "clouds.azure.tenant_id", "or none of them"),
        ({"public_addresses": "many"}, "clouds.azure.public_addresses", ""),
        ({"image": "ubuntu"}, "clouds.azure.image", "publisher:offer:sku:version"),
        ({"accelerated_image": "a:b:c:"}, "clouds.azure.accelerated_image", "publisher:offer:sku:version"),
        ({"subnet_ids": {"eastus": "mine"}}, "clouds.azure.subnet_ids.eastus", "from /subscriptions/ on"),
        ({"endpoint_url": "http://x"}, "clouds.azure.endpoint_url", "https://"),
    ],
)
def test_wrong_setting_is_named_with_its_value_and_the_fix(
    config: dict[str, Any], field: str, fix: str
) -> None:
    with pytest.raises(InvalidInputError) as refused:
        check_config("azure", config)
    assert refused.value.message.startswith(f"{field}: ")
    assert refused.value.details["field"] == field
    assert fix in refused.value.message + refused.value.hint


def test_secret_is_not_repeated_when_it_is_wrong() -> None:
    with pytest.raises(InvalidInputError, match=r"clouds\.azure\.client_secret") as refused:
        check_config("azure", {"client_secret": 31337})
    assert "31337" not in f"{refused.value.message} {refused.value.hint} {refused.value.details}"


def test_settings_that_are_right_are_taken() -> None:
    principal = {"tenant_id": "t", "client_id": "c", "client_secret": "s"}
    check_config("azure", {**principal, "image": "/subscriptions/s/images/i", "subscription_id": "x"})
    check_config("azure", {})


def test_every_setting_is_documented() -> None:
    page = (ROOT / "docs" / "clouds" / "azure.md").read_text(encoding="utf-8")
    table = page[page.index("## Settings") : page.index("## Permissions")]
    named = set(
        re.findall(r"`([a-z_]+)`", "".join(line.split("|")[1] for line in table.splitlines() if "|" in line))
    )
    assert named == set(AzureCloud.model_fields)


def test_credentials_are_found_where_azures_tools_find_them(tmp_path: Path) -> None:
    assert FACTS.find_credentials({}, str(tmp_path)) == ""
    principal = {"AZURE_CLIENT_ID": "a", "AZURE_TENANT_ID": "b"}
    assert "AZURE_CLIENT_ID" in FACTS.find_credentials(principal, str(tmp_path))
    assert "IDENTITY_ENDPOINT" in FACTS.find_credentials({"IDENTITY_ENDPOINT": "x"}, str(tmp_path))
    (tmp_path / ".azure").mkdir()
    (tmp_path / ".azure" / "azureProfile.json").write_text("{}")
    assert FACTS.find_credentials({}, str(tmp_path)).endswith("azureProfile.json")


def test_subscription_is_the_one_that_az_uses_unless_another_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AZURE_SUBSCRIPTION_ID", raising=False)
    monkeypatch.setenv("AZURE_CONFIG_DIR", str(tmp_path))
    known = [{"id": "other", "isDefault": False}, {"id": "mine", "isDefault": True}]
    # As `az` writes it: with a byte order mark.
    (tmp_path / "azureProfile.json").write_text(json.dumps({"subscriptions": known}), encoding="utf-8-sig")
    assert _subscription({}) == "mine"
    monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", "of-the-environment")
    assert _subscription({}) == "of-the-environment"
    assert _subscription({"subscription_id": "of-the-settings"}) == "of-the-settings"


@pytest.mark.parametrize("profile", [None, "", "{}", "[]", '{"subscriptions": []}', '{"subscriptions": [1]}'])
def test_subscription_is_asked_for_when_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: str | None
) -> None:
    monkeypatch.delenv("AZURE_SUBSCRIPTION_ID", raising=False)
    monkeypatch.setenv("AZURE_CONFIG_DIR", str(tmp_path))
    if profile is not None:
        (tmp_path / "azureProfile.json").write_text(profile)
    with pytest.raises(CredentialsError, match="subscription") as refused:
        _subscription({})
    assert "clouds.azure.subscription_id" in refused.value.hint


def _subscription(config: dict[str, Any]) -> str:
    return connect(config, deployment="dep", clock=SystemClock())._to.subscription_id
