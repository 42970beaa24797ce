"""Autostop is enforced where the agent that should have asked for it is dead."""

from __future__ import annotations

import pytest

from stix.application.sweep import sweep
from stix.model.status import ClusterStatus, Wanted

MINUTE = 60.0


def sweep_for(plane, minutes):
    """Sweep every minute without any heartbeat, until the cluster is wanted otherwise."""
    for _ in range(int(minutes)):
        plane.pass_time(MINUTE)
        sweep(plane.world)
        if plane.cluster().wanted is not Wanted.UP:
            break
    return plane.cluster()


@pytest.mark.parametrize("down", [False, True])
def test_cluster_stops_when_it_was_idle_before_its_agent_died(plane, down):
    cluster = plane.bring_up(autostop={"idle_minutes": 30, "down": down})
    plane.report(cluster, idle_since=plane.clock.now(), jobs=[{"id": 1, "status": "SUCCEEDED"}])
    stopped = sweep_for(plane, 90)
    assert stopped.status is ClusterStatus.AUTOSTOPPING
    assert stopped.wanted is (Wanted.ABSENT if down else Wanted.STOPPED)
    assert "idle when its head was last heard of" in stopped.reason
    # Not before its autostop and the time after which a silent node counts as lost.
    assert plane.clock.now() - cluster.since >= 30 * MINUTE + plane.world.limits.lost_seconds


def test_cluster_stops_an_hour_late_when_its_agent_died_at_work(plane):
    cluster = plane.bring_up(autostop={"idle_minutes": 10})
    plane.report(cluster, idle_since=None, jobs=[{"id": 1, "status": "RUNNING"}])
    assert sweep_for(plane, 65).wanted is Wanted.UP
    stopped = sweep_for(plane, 45)
    assert stopped.wanted is Wanted.STOPPED
    assert "not heard of for" in stopped.reason


def test_cluster_runs_on_when_its_agent_is_heard_again(plane):
    cluster = plane.bring_up(autostop={"idle_minutes": 10})
    plane.report(cluster, idle_since=None, jobs=[{"id": 1, "status": "RUNNING"}])
    assert sweep_for(plane, 60).wanted is Wanted.UP
    plane.report(cluster, idle_since=None)
    assert sweep_for(plane, 60).wanted is Wanted.UP


def test_cluster_runs_on_when_it_has_no_autostop(plane):
    cluster = plane.bring_up()
    plane.report(cluster, idle_since=plane.clock.now(), jobs=[{"id": 1, "status": "SUCCEEDED"}])
    assert sweep_for(plane, 240).wanted is Wanted.UP
