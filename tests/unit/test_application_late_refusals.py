"""A provider that accepts first and refuses later is believed as if it had refused at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stix.application import want
from stix.application.costs import cost_report
from stix.application.create_machines import create
from stix.application.lost_machines import NodeLostError, look
from stix.application.undo_attempt import give_up, undo
from stix.model.errors import Blocks
from stix.model.status import ClusterStatus, IntentStatus
from stix.ports.compute import MachineState, Refusal
from tests.unit.fake_compute import FakeCompute
from tests.unit.world import ANN, FAKE_FACTS, WORKSPACE, ControlPlane, offer


class LateCompute(FakeCompute):
    """Its machines say of which refusal they died, until they are looked for in vain."""

    told: Refusal | None = None

    def _seen(self, machine_id):
        seen = super()._seen(machine_id)
        if self.told is None or seen.state is MachineState.TERMINATED:
            return seen
        return replace(seen, refusal=self.told, reason="no more of them (Code)")


@pytest.fixture
def plane(tmp_path):
    offers = [offer("a", 1.0), offer("b", 2.0), offer("c", 3.0, instance_type="other")]
    made = ControlPlane(tmp_path, offers)
    made.compute = LateCompute(made.clock, offers)
    made.world = replace(made.world, compute={"fake": made.compute})
    yield made
    made.close()


def refuse(plane, cluster, code, blocks):
    plane.compute.told = Refusal(code, blocks)
    plane.pass_time(60)
    undo(
        plane.world, WORKSPACE, cluster.id, {"Error": "NodeLostError", "Cause": "x"}, attempt=cluster.attempt
    )
    plane.compute.told = None


def test_family_is_blocked_when_the_late_refusal_was_a_quota(plane):
    cluster = plane.boot("one")
    refuse(plane, cluster, "quota_exceeded", Blocks.FAMILY)
    attempt = plane.by_id(cluster).attempts[-1]
    assert (attempt.outcome, attempt.reason) == ("quota_exceeded", "no more of them (Code)")
    assert plane.create(plane.by_id(cluster)) == "CREATED"
    # Both zones of the type are of the family that the quota bounds.
    assert plane.compute.requests[-1].offer.zone == "c"
    assert plane.boot("two").offer.zone == "c"


def test_only_the_offer_is_blocked_when_there_was_no_capacity(plane):
    cluster = plane.boot("one")
    refuse(plane, cluster, "no_capacity", Blocks.OFFER)
    assert plane.create(plane.by_id(cluster)) == "CREATED"
    assert plane.compute.requests[-1].offer.zone == "b"


def test_attempt_costs_nothing_when_no_machine_was(plane):
    cluster = plane.boot("one")
    refuse(plane, cluster, "no_capacity", Blocks.OFFER)
    (line,) = cost_report(plane.world, WORKSPACE, days=1)["lines"]
    assert (line["seconds"], line["cost"]) == (0, 0)


def test_launch_ends_when_the_late_refusal_says_that_the_request_is_wrong(plane):
    cluster = plane.boot("one", retry_until_up=True)
    refuse(plane, cluster, "invalid_request", Blocks.NOTHING)
    assert plane.create(plane.by_id(cluster)) == "EXHAUSTED"
    give_up(plane.world, WORKSPACE, cluster.id)
    ended = plane.by_id(cluster)
    assert ended.status is ClusterStatus.TERMINATED
    assert "no more of them" in ended.reason
    assert len(plane.compute.requests) == 1


def test_refusal_is_remembered_when_the_step_dies_before_it_ended_the_machines(plane, monkeypatch):
    cluster = plane.boot("one")
    plane.compute.told = Refusal("quota_exceeded", Blocks.FAMILY)

    def away(place, machine_ids):
        raise TimeoutError

    with monkeypatch.context() as patch:
        patch.setattr(plane.compute, "terminate", away)
        with pytest.raises(TimeoutError):
            undo(plane.world, WORKSPACE, cluster.id, {"Error": "NodeLostError"}, attempt=0)
    plane.compute.told = None
    undo(plane.world, WORKSPACE, cluster.id, {"Error": "NodeLostError"}, attempt=0)
    assert plane.by_id(cluster).attempts[-1].outcome == "quota_exceeded"
    assert plane.intents(cluster)[0].status is IntentStatus.ENDED


def test_run_looks_soon_when_the_cloud_refuses_late(plane):
    late = replace(FAKE_FACTS, refuses_late=True)
    plane.world = replace(plane.world, clouds={"fake": late})
    plane.launch("one")
    cluster = plane.cluster("one")
    plane.rank(cluster)
    assert create(plane.world, WORKSPACE, cluster.id)["refuses_late"] is True
    assert look(plane.world, WORKSPACE, cluster.id) == {"outcome": "BOOTS"}
    (machine,) = plane.compute.alive()
    plane.compute.become(machine, MachineState.TERMINATED, "no more of them")
    with pytest.raises(NodeLostError, match="no more of them"):
        look(plane.world, WORKSPACE, cluster.id)
    undo(plane.world, WORKSPACE, cluster.id, {"Error": "NodeLostError"}, attempt=0)
    plane.world = replace(plane.world, clouds={"fake": FAKE_FACTS})
    assert create(plane.world, WORKSPACE, cluster.id)["refuses_late"] is False


def test_run_does_not_look_when_the_cluster_is_wanted_otherwise(plane):
    cluster = plane.boot("one")
    plane.compute.become(plane.compute.alive()[0], MachineState.TERMINATED)
    want.take_down(plane.world, ANN, "one", purge=False, key=None)
    assert look(plane.world, WORKSPACE, cluster.id) == {"outcome": "MOVED"}
