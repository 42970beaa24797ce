"""Which clouds the embedded control plane drives, and how it says what the others need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infra.app import CloudsError
from infra.app import read_clouds as clouds_of_deployment
from stix.adapters.system import SystemClock
from stix.local.clouds import connect_clouds, read_clouds
from stix.model.errors import InvalidInputError


def connected(folder: Path, *, public: bool = True, **environ: str) -> Any:
    return connect_clouds(
        folder / "config.yaml",
        deployment="dep",
        clock=SystemClock(),
        public=public,
        environ={"HOME": str(folder)} | environ,
    )


def test_cloud_is_used_when_its_credentials_are_found(tmp_path: Path) -> None:
    found = connected(tmp_path, AWS_PROFILE="x")
    assert list(found.computes) == list(found.facts) == ["aws"]
    assert "aws" not in found.problems


def test_cloud_is_used_when_it_is_configured(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("clouds:\n  aws:\n")
    assert list(connected(tmp_path).computes) == ["aws"]


def test_problem_says_how_to_get_credentials_when_there_are_none(tmp_path: Path) -> None:
    found = connected(tmp_path)
    assert found.computes == {}
    assert "credentials" in found.problems["aws"].reason
    assert "aws configure" in found.problems["aws"].hint


def test_problem_names_both_ways_when_machines_cannot_call_here(tmp_path: Path) -> None:
    problem = connected(tmp_path, public=False, AWS_PROFILE="x").problems["aws"]
    assert "--public-url" in problem.hint
    assert "stix deploy" in problem.hint


def test_problem_names_the_extra_when_the_sdk_is_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stix.local.clouds.find_spec", lambda name: None)
    assert "stix-cloud[aws]" in connected(tmp_path, AWS_PROFILE="x").problems["aws"].hint


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("clouds: [aws]", "clouds"),
        ("clouds: {asw: {}}", r"clouds\.asw"),
        ("clouds: {aws: 5}", r"clouds\.aws"),
        ("regions: [a]", "section `clouds`"),
        ("clouds: {", "cannot be read"),
    ],
)
def test_configuration_is_refused_by_its_field_when_it_is_wrong(
    tmp_path: Path, text: str, field: str
) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(InvalidInputError, match=field) as wrong:
        read_clouds(tmp_path / "config.yaml")
    assert str(tmp_path) in str(wrong.value)
    assert wrong.value.hint


def test_setting_of_a_cloud_is_refused_when_it_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("clouds: {aws: {vpc: x}}")
    with pytest.raises(InvalidInputError, match=r"clouds\.aws\.vpc"):
        connected(tmp_path)


def test_deployment_uses_aws_when_nothing_is_said() -> None:
    assert clouds_of_deployment(None) == {"aws": {}}
    assert clouds_of_deployment('{"aws": {"instance_profile": "p"}}') == {"aws": {"instance_profile": "p"}}
    assert clouds_of_deployment({}) == {}


@pytest.mark.parametrize("given", ["{", "[]", '{"aws": 5}', '{"asw": {}}'])
def test_clouds_of_a_deployment_are_refused_when_they_are_wrong(given: str) -> None:
    with pytest.raises(CloudsError, match="clouds"):
        clouds_of_deployment(given)
    with pytest.raises(InvalidInputError, match=r"clouds\.aws\.vpc"):
        clouds_of_deployment({"aws": {"vpc": 1}})
