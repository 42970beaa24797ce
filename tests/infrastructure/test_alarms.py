"""Alarms have a page that says what to do, and watch metrics that something writes."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from stix.runtime import metrics
from tests.infrastructure.conftest import ROOT, Synthesized

OWN = "our own"


def _namespace(alarm: dict[str, Any]) -> str:
    """Ours holds the stack's id, which the template cannot spell out."""
    given = alarm["Namespace"]
    return given if isinstance(given, str) else OWN if "Stix/" in json.dumps(given) else "unknown"


def test_every_alarm_links_its_page_when_it_mails(synthesized: Synthesized) -> None:
    pages = set()
    for alarm in synthesized.properties("AWS::CloudWatch::Alarm"):
        found = re.search(r"Runbook: (docs/operations/alarm-[a-z-]+\.md)$", alarm["AlarmDescription"])
        assert found, alarm["AlarmDescription"]
        text = (ROOT / found[1]).read_text(encoding="utf-8")
        assert {"## It means", "## Look", "## Do"} <= set(re.findall(r"^## .*", text, re.MULTILINE)), found[1]
        pages.add(ROOT / found[1])
        assert alarm["AlarmActions"]
    assert pages == set((ROOT / "docs" / "operations").glob("alarm-*.md"))


def test_alarms_cover_errors_lateness_orphans_and_throttles(synthesized: Synthesized) -> None:
    alarms = synthesized.properties("AWS::CloudWatch::Alarm")
    watched = {(_namespace(alarm), alarm["MetricName"], alarm["Statistic"]) for alarm in alarms}
    assert {
        ("AWS/ApiGateway", "5xx", "Average"),
        (OWN, metrics.OVERDUE_SECONDS, "Maximum"),
        (OWN, metrics.ORPHAN_SECONDS, "Maximum"),
        ("AWS/Lambda", "Throttles", "Sum"),
    } <= watched


def test_own_metrics_are_written_by_a_filter_or_a_function(synthesized: Synthesized) -> None:
    filtered = {
        one["MetricName"]
        for each in synthesized.properties("AWS::Logs::MetricFilter")
        for one in each["MetricTransformations"]
    }
    alarms = synthesized.properties("AWS::CloudWatch::Alarm")
    watched = {alarm["MetricName"] for alarm in alarms if _namespace(alarm) == OWN}
    assert watched == filtered | {metrics.OVERDUE_SECONDS, metrics.ORPHAN_SECONDS}


def _dashboard(synthesized: Synthesized) -> str:
    [board] = synthesized.properties("AWS::CloudWatch::Dashboard")
    body = board["DashboardBody"]
    return body if isinstance(body, str) else json.dumps(body)


def test_dashboard_is_free_of_charge(synthesized: Synthesized) -> None:
    """Up to 50 metrics; each of a graph's lines is one."""
    body = synthesized.text(synthesized.properties("AWS::CloudWatch::Dashboard")[0]["DashboardBody"])
    widgets = json.loads(body)["widgets"]
    lines = [line for widget in widgets for line in widget["properties"].get("metrics", ())]
    assert 20 < len(lines) <= 50


@pytest.mark.parametrize(
    "name", ["5xx", "Latency", "OrphanSeconds", "oldest_due_seconds", "Throttles", "WriteThrottleEvents"]
)
def test_dashboard_shows_what_explains_an_alarm(synthesized: Synthesized, name: str) -> None:
    assert name in _dashboard(synthesized)


def test_dashboard_is_left_out_when_asked(tmp_path) -> None:
    from aws_cdk import App

    from infra.app import build
    from infra.assets import Assets

    for given in (False, "false"):
        app = App(analytics_reporting=False, outdir=str(tmp_path / str(given)), context={"dashboard": given})
        stack = build(app, Assets())
        assert stack.node.try_find_child("Dashboard") is None
