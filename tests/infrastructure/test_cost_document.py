"""``docs/costs.md`` says what the command says, and the counts behind it are what the design promises."""

from __future__ import annotations

import pytest

from infra.costs import idle_node_month
from infra.usage import Usage
from tests.costs.document import document, memory_by_function
from tests.costs.scenario import Counted, count
from tests.infrastructure.conftest import ROOT, Synthesized

pytestmark = pytest.mark.xdist_group("template")

_HOURS = 730


@pytest.fixture(scope="module")
def counted(synthesized: Synthesized) -> Counted:
    return count(memory_by_function(synthesized.template))


def test_page_of_costs_is_what_the_command_writes(synthesized: Synthesized, counted: Counted) -> None:
    written = (ROOT / "docs" / "costs.md").read_text(encoding="utf-8")
    assert written == document(synthesized.template, counted), "python -m tests.costs --write docs/costs.md"


def test_node_costs_under_ten_cents_a_month_when_its_calls_are_counted(counted: Counted) -> None:
    wake = idle_node_month()["wake channel"]
    assert counted.hour_more.cost * _HOURS + wake < 0.10


def test_heartbeats_and_looks_write_what_the_price_says(counted: Counted) -> None:
    """Of a node: 20 reports of one unit each, and a look that moves ``due_at``: the item and its two index
    entries. The look of an hour falls into the half that is counted, and so stands for two."""
    assert counted.hour_more.write_units == pytest.approx(20 + 2 * 3)


def test_launch_takes_the_states_of_its_happy_path(counted: Counted) -> None:
    assert counted.launch.transitions == 8
    assert counted.launch_more.transitions == 0


def test_sweep_that_finds_nothing_writes_nothing(counted: Counted) -> None:
    assert counted.sweep.write_units == 0
    assert counted.sweep.transitions == 0


def test_usage_costs_what_the_price_list_says() -> None:
    used = Usage(read_units=8e6, write_units=1.6e6, transitions=40_000, http_requests=0, events=1e6)
    assert used.costs()["DynamoDB"] == pytest.approx(2.00)
    assert used.costs()["Step Functions"] == pytest.approx(1.00)
    assert used.cost == pytest.approx(4.00)
    assert (used + used - used.times(2)).cost == pytest.approx(0)
