"""What a month may cost: nothing new is started once the ledger says that it is spent."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from stix.application import want
from stix.application.budgets import budget_view, set_budget
from stix.application.settle_cluster import confirm, settle
from stix.model.errors import ForbiddenError
from tests.unit.world import ANN, WORKSPACE

HOUR = 3600.0


@pytest.fixture
def month(plane):
    """The clock stands at the first second of a month."""
    plane.clock.moment = datetime(2027, 3, 1, tzinfo=UTC).timestamp()
    return plane


def end(plane, name="train"):
    cluster = plane.cluster(name)
    want.take_down(plane.world, ANN, name, purge=False, key=None)
    plane.run_terminate(cluster)


def test_launch_is_refused_when_the_budget_is_spent(month):
    set_budget(month.world, WORKSPACE, 2.0)
    month.bring_up("one")
    month.pass_time(2.5 * HOUR)
    with pytest.raises(ForbiddenError, match=r"2\.50 of 2\.00 USD") as refused:
        month.launch("two")
    assert refused.value.code == "budget_exceeded"
    month.launch("one")  # more work for what runs anyway
    end(month, "one")
    with pytest.raises(ForbiddenError):
        month.launch("two")


def test_stopped_cluster_stays_stopped_when_the_budget_is_spent(month):
    cluster = month.bring_up("one")
    month.pass_time(3 * HOUR)
    want.stop_cluster(month.world, ANN, "one", key=None)
    settle(month.world, WORKSPACE, cluster.id)
    confirm(month.world, WORKSPACE, cluster.id)
    set_budget(month.world, WORKSPACE, 2.0)
    with pytest.raises(ForbiddenError):
        want.start_cluster(month.world, ANN, "one", None, key=None)
    with pytest.raises(ForbiddenError):
        month.launch("one")
    set_budget(month.world, WORKSPACE, None)
    want.start_cluster(month.world, ANN, "one", None, key=None)


def test_budget_is_whole_again_when_a_month_begins(month):
    set_budget(month.world, WORKSPACE, 2.0)
    month.bring_up("one")
    month.pass_time(3 * HOUR)
    end(month, "one")
    month.clock.moment = datetime(2027, 4, 1, tzinfo=UTC).timestamp()
    assert budget_view(month.world, WORKSPACE)["spent"] == 0
    month.launch("two")


def test_only_the_months_part_counts_when_a_cluster_ran_over_its_beginning(month):
    month.clock.moment -= 90 * 86400
    month.bring_up("one")
    month.clock.moment = datetime(2027, 3, 1, tzinfo=UTC).timestamp() + 5 * HOUR
    view = budget_view(month.world, WORKSPACE)
    assert view["spent"] == pytest.approx(5.0)
    assert view["rate"] == pytest.approx(1.0)
    end(month, "one")
    # It began long before the month, and it ended within: it still counts.
    assert budget_view(month.world, WORKSPACE)["spent"] == pytest.approx(5.0)


def test_month_ends_with_the_year(month):
    month.clock.moment = datetime(2027, 12, 31, 23, 59, tzinfo=UTC).timestamp()
    view = budget_view(month.world, WORKSPACE)
    assert datetime.fromtimestamp(view["since"], UTC) == datetime(2027, 12, 1, tzinfo=UTC)
    assert datetime.fromtimestamp(view["until"], UTC) == datetime(2028, 1, 1, tzinfo=UTC)
