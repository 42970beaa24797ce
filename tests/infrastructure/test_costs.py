from __future__ import annotations

import copy

import pytest

from infra.costs import (
    SWEEP_READS,
    NodeTalk,
    UnpricedResourceError,
    cloudwatch_allowance,
    idle_month,
    idle_node_month,
    wake_candidates,
)
from stix.agent.tunables import Tunables
from stix.application import sweep
from stix.application.world import Limits
from stix.ports.state_store import SHARDS
from tests.infrastructure.conftest import Synthesized


def test_deployment_costs_under_a_dollar_a_month_when_idle(synthesized: Synthesized) -> None:
    lines = idle_month(synthesized.template)
    assert {"alarms", "scheduled functions", "table reads of sweeps", "log lines of sweeps"} <= lines.keys()
    assert all(cost > 0 for cost in lines.values())
    assert sum(lines.values()) - cloudwatch_allowance(synthesized.template) < 1.00


def test_deployment_costs_under_a_dollar_a_month_when_a_place_was_used_lately(
    synthesized: Synthesized,
) -> None:
    """The first month after something ran: two days of frequent orphan sweeps, then hourly ones."""
    busy, quiet = (
        sum(idle_month(synthesized.template, orphan_sweep_seconds=seconds).values())
        for seconds in (sweep.ORPHANS_EVERY_SECONDS, sweep.ORPHANS_QUIET_SECONDS)
    )
    days = sweep.BUSY_SECONDS / 86400
    assert busy > quiet
    mean = (busy * days + quiet * (30 - days)) / 30
    assert mean - cloudwatch_allowance(synthesized.template) < 1.00


def test_alarms_watch_one_metric_each(synthesized: Synthesized) -> None:
    assert idle_month(synthesized.template)["alarms"] == pytest.approx(0.70)


def test_allowance_ends_when_there_are_more_alarms_and_dashboards(synthesized: Synthesized) -> None:
    template = copy.deepcopy(synthesized.template)
    assert cloudwatch_allowance(template) == pytest.approx(0.70 + 3.00)
    for number in range(4):
        template["Resources"][f"Alarm{number}"] = {"Type": "AWS::CloudWatch::Alarm", "Properties": {}}
        template["Resources"][f"Dashboard{number}"] = {"Type": "AWS::CloudWatch::Dashboard"}
    assert cloudwatch_allowance(template) == pytest.approx(1.00 + 9.00)


def test_idle_cost_is_refused_when_a_resource_has_no_price(synthesized: Synthesized) -> None:
    template = copy.deepcopy(synthesized.template)
    template["Resources"]["Gateway"] = {"Type": "AWS::EC2::NatGateway"}
    with pytest.raises(UnpricedResourceError, match="NatGateway"):
        idle_month(template)


@pytest.mark.parametrize(
    ("resource", "price"),
    [
        ({"Type": "AWS::KMS::Key"}, 1.00),
        ({"Type": "AWS::SecretsManager::Secret"}, 0.40),
        ({"Type": "AWS::CloudWatch::Dashboard"}, 3.00),
        ({"Type": "AWS::CloudWatch::Alarm", "Properties": {"MetricName": "Errors"}}, 0.10),
        (
            {
                "Type": "AWS::CloudWatch::Alarm",
                "Properties": {"Metrics": [{"MetricStat": {}}, {"MetricStat": {}}, {"Expression": "a+b"}]},
            },
            0.20,
        ),
    ],
)
def test_idle_cost_grows_when_a_paid_resource_is_added(
    synthesized: Synthesized, resource: dict[str, object], price: float
) -> None:
    template = copy.deepcopy(synthesized.template)
    template["Resources"]["Added"] = resource
    grown = sum(idle_month(template).values()) - sum(idle_month(synthesized.template).values())
    assert grown == pytest.approx(price)


def test_idle_cost_grows_when_the_sweep_needs_more_memory(synthesized: Synthesized) -> None:
    template = copy.deepcopy(synthesized.template)
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Lambda::Function":
            resource["Properties"]["MemorySize"] *= 4
    before, after = idle_month(synthesized.template), idle_month(template)
    assert after["scheduled functions"] > 3 * before["scheduled functions"]


def test_node_costs_under_ten_cents_a_month_when_idle() -> None:
    assert sum(idle_node_month().values()) < 0.10


def test_node_talks_no_more_often_than_its_price_says() -> None:
    priced, limits, agent = NodeTalk(), Limits(), Tunables()
    assert priced.report <= limits.report_seconds
    assert priced.poll <= limits.woken_poll_seconds
    assert priced.cluster_check <= limits.lost_seconds
    assert priced.ping <= agent.wake_ping_seconds
    assert priced.reconnect <= agent.wake_reconnect_seconds
    assert priced.node_check <= sweep._NODE_CHECK_SECONDS


def test_sweep_reads_what_its_price_says() -> None:
    rarely = len(sweep.RARE_KINDS) * SHARDS / 2 * sweep._RARE_WINDOW / sweep._RARELY
    assert len(sweep.KINDS) * SHARDS / 2 + rarely + 1.5 == SWEEP_READS


def test_node_costs_more_than_ten_cents_when_it_reports_every_minute() -> None:
    # Why the control plane asks idle nodes to report less often than busy ones.
    assert sum(idle_node_month(NodeTalk(report=60)).values()) > 0.10


def test_wake_channel_fits_beside_the_heartbeat_when_it_is_a_websocket() -> None:
    prices = wake_candidates()
    others = sum(idle_node_month().values()) - idle_node_month()["wake channel"]
    fitting = {name for name, price in prices.items() if others + price < 0.10}
    assert fitting == {"WebSocket", "IoT Core MQTT"}
