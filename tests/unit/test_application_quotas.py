"""Quotas are read before anybody is asked in vain, seldom, and never believed against the provider's word."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stix.model.errors import QuotaExceededError, UnavailableError
from stix.ports.compute import Quota
from tests.unit.fake_compute import FakeCompute
from tests.unit.world import ControlPlane, offer


class CountedCompute(FakeCompute):
    """Says how many vCPUs each instance type may have, and counts who asks."""

    limits: dict[tuple[str, bool], float]
    asked = 0
    fails = False

    def quotas(self, place):
        self.asked += 1
        if self.fails:
            raise UnavailableError("Service Quotas is away.")
        return [Quota(family, spot, limit, 0.0, "vcpus") for (family, spot), limit in self.limits.items()]


@pytest.fixture
def plane(tmp_path):
    offers = [offer("a", 1.0, instance_type="small"), offer("b", 2.0, instance_type="big")]
    made = ControlPlane(tmp_path, offers)
    made.compute = CountedCompute(made.clock, offers)
    made.compute.limits = {("small", False): 7.0, ("small", True): 1000.0, ("big", False): 1000.0}
    made.world = replace(made.world, compute={"fake": made.compute})
    yield made
    made.close()


def test_offer_is_passed_over_when_the_quota_is_too_small_for_the_gang(plane):
    cluster = plane.boot("two", task={"num_nodes": 2})
    assert cluster.offer.instance_type == "big"
    assert [request.offer.instance_type for request in plane.compute.requests] == ["big"]
    (skipped,) = cluster.attempts
    assert skipped.outcome == "skipped"
    assert "8 vcpus are more than the account's quota for small: 7 of 7 are free" in skipped.reason


def test_offer_is_taken_when_the_quota_is_enough(plane):
    assert plane.boot("one").offer.instance_type == "small"


def test_provider_is_asked_once_in_a_quarter_of_an_hour(plane):
    for number in range(5):
        plane.boot(f"n{number}")
    assert plane.compute.asked == 1
    plane.pass_time(901)
    plane.boot("later")
    assert plane.compute.asked == 2


def test_quotas_are_read_again_when_the_provider_refuses_by_one(plane):
    plane.compute.refusals = [QuotaExceededError("no more of them")]
    plane.launch("one")
    plane.rank(plane.cluster("one"))
    assert plane.create(plane.cluster("one")) == "REFUSED"
    assert plane.create(plane.cluster("one")) == "CREATED"
    assert plane.compute.asked == 2


def test_launch_goes_on_when_the_quotas_cannot_be_read(plane):
    plane.compute.fails = True
    assert plane.boot("two", task={"num_nodes": 2}).offer.instance_type == "small"
    plane.boot("three", task={"num_nodes": 2})
    assert plane.compute.asked == 1


def test_cheapest_is_asked_all_the_same_when_every_quota_is_too_small(plane):
    plane.compute.limits = {("small", False): 0.0, ("big", False): 0.0}
    assert plane.boot("one").offer.instance_type in ("small", "big")
