"""budget, admin rebuild."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from stix.api import v1_admin
from tests.unit.scripted_api import Cli, ScriptedApi

MARCH = datetime(2027, 3, 1, tzinfo=UTC).timestamp()


@pytest.fixture
def api() -> ScriptedApi:
    return ScriptedApi()


@pytest.fixture
def cli(api, capsys, monkeypatch, tmp_path) -> Cli:
    return Cli(api, capsys, monkeypatch, str(tmp_path / "home"))


def budget(**fields: Any) -> httpx.Response:
    given = {"monthly": None, "spent": 12.5, "rate": 0.0, "since": MARCH, "until": MARCH + 31 * 86400}
    return httpx.Response(200, json=v1_admin.Budget(**{**given, **fields}).model_dump())


def rebuild(armed: bool, **fields: Any) -> httpx.Response:
    return httpx.Response(202, json=v1_admin.Rebuild(armed=armed, **fields).model_dump(mode="json"))


def test_budget_is_shown_with_what_the_month_has_cost(cli: Cli, api: ScriptedApi) -> None:
    api.scripted["GET", "/v1/budget"] = [budget(), budget(monthly=100, rate=2.5)]
    assert cli("budget").out == "March 2027: $12.50 spent, no budget.\n"
    shown = cli("budget").out.splitlines()
    assert shown == ["March 2027: $12.50 spent, of $100.00.", "What runs now costs $2.50 an hour."]


def test_budget_is_set_and_taken_away(cli: Cli, api: ScriptedApi) -> None:
    api.scripted["PUT", "/v1/budget"] = [budget(monthly=50), budget()]
    assert cli("budget", "set", "50").code == 0
    assert cli("budget", "clear").code == 0
    assert [call.body for call in api.asked("PUT", "/v1/budget")] == [{"monthly": 50}, {"monthly": None}]


@pytest.mark.parametrize("usd", ["0", "-1", "much"])
def test_budget_is_refused_when_it_is_no_amount(cli: Cli, api: ScriptedApi, usd: str) -> None:
    result = cli("budget", "set", "--", usd)
    assert result.code == 2
    assert usd in result.err
    assert api.calls == []


def test_rebuild_ends_when_every_place_was_visited(cli: Cli, api: ScriptedApi) -> None:
    api.scripted["POST", "/v1/admin/rebuild"] = [rebuild(False, waiting=("aws/a", "aws/b"))]
    api.scripted["GET", "/v1/admin/rebuild"] = [
        rebuild(False, waiting=("aws/b",), visited=("aws/a",)),
        rebuild(True, visited=("aws/a", "aws/b"), clusters=("train",)),
    ]
    result = cli("admin", "rebuild", "--place", "aws/b")
    assert result.code == 0
    assert "aws/a: visited." in result.err
    assert "Found 1 cluster: train." in result.out
    assert api.asked("POST", "/v1/admin/rebuild")[0].body == {"places": ["aws/b"]}


def test_rebuild_fails_when_a_place_cannot_be_visited(cli: Cli, api: ScriptedApi) -> None:
    api.scripted["POST", "/v1/admin/rebuild"] = [rebuild(False, waiting=("aws/a",))]
    api.scripted["GET", "/v1/admin/rebuild"] = [rebuild(False, waiting=("aws/a",)) for _ in range(20)]
    result = cli("admin", "rebuild", "--timeout", "10", "-o", "json")
    assert result.code == 1
    assert json.loads(result.out)["waiting"] == ["aws/a"]
