"""The memory of offerings: its rules, and what it saves over a thousand launches."""

from __future__ import annotations

import heapq
import itertools
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stix.application import create_machines, next_offer, undo_attempt
from stix.application.next_offer import Choice
from stix.application.offering_health import record_failure
from stix.application.places import SYSTEM
from stix.application.world import World
from stix.lifecycle.offering_health import (
    CLAIM_SECONDS,
    Health,
    Verdict,
    after_failure,
    after_success,
    claimed,
    judge,
    released,
)
from stix.model.cluster import Cluster
from stix.model.errors import (
    Blocks,
    CredentialsError,
    NoCapacityError,
    ProviderError,
    QuotaExceededError,
    ThrottledError,
)
from stix.model.offer import Offer
from stix.model.status import ClusterStatus, OperationStatus
from stix.optimizer.rank import RankedOffer
from stix.ports.compute import GangRequest
from stix.ports.state_store import Put
from tests.unit.world import WORKSPACE, ControlPlane, offer

NOW = 1000.0


# --- the rules ---


def test_refusal_blocks_longer_each_time_and_never_beyond_an_hour() -> None:
    health, now, blocks = Health(), NOW, []
    for _ in range(6):
        health = after_failure(health, "t", now, "no_capacity", "full", 0.5)
        blocks.append(health.blocked_until - now)
        assert judge(health, "u", now).verdict is Verdict.BLOCKED
        now = health.blocked_until
    assert blocks == [180.0, 540.0, 1620.0, 3600.0, 3600.0, 3600.0]


def test_one_launch_probes_when_a_block_has_ended() -> None:
    health = after_failure(Health(), "a", NOW, "no_capacity", "full", 0.5)
    later = health.blocked_until
    assert judge(health, "b", later).verdict is Verdict.PROBE
    health = claimed(health, "b", later)
    assert judge(health, "c", later).verdict is Verdict.BUSY
    assert judge(health, "b", later).verdict is Verdict.PROBE
    assert judge(after_success(health, "b", later), "c", later).verdict is Verdict.TRY


def test_budget_halves_on_failure_and_grows_on_success() -> None:
    health = Health()
    for _ in range(3):
        health = after_success(health, "t", NOW)
    assert health.budget == 16
    assert after_failure(health, "t", NOW, "no_capacity", "full", 0.0).budget == 8
    for _ in range(20):
        health = after_success(health, "t", NOW)
    assert health.budget == 64


def test_late_refusals_of_one_moment_block_once() -> None:
    health = Health()
    for token in "abcdef":
        health = claimed(health, token, NOW)
    for token in "abcdef":
        health = after_failure(health, token, NOW + 1, "no_capacity", "full", 0.5)
    assert health.failures == 1
    assert health.blocked_until == NOW + 181


def test_slot_of_a_launch_that_died_is_free_again_later() -> None:
    health = claimed(claimed(Health(), "a", NOW), "b", NOW)
    assert judge(health, "c", NOW).verdict is Verdict.BUSY
    assert judge(health, "c", NOW + CLAIM_SECONDS).verdict is Verdict.TRY
    assert released(health, "a", NOW).claims.keys() == {"b"}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["claim", "success", "failure", "release"]),
            st.sampled_from("abcdefgh"),
            st.floats(0, 2000),
            st.sampled_from(["no_capacity", "quota_exceeded", "credentials", "unavailable", "strange"]),
        ),
        max_size=60,
    )
)
def test_health_stays_within_its_bounds_whatever_happens(steps: list[tuple[str, str, float, str]]) -> None:
    health, now = Health(), NOW
    for step, token, wait, kind in steps:
        now += wait
        verdict = judge(health, token, now).verdict
        match step:
            case "claim" if verdict in (Verdict.TRY, Verdict.PROBE):
                health = claimed(health, token, now)
            case "success":
                health = after_success(health, token, now)
                assert judge(health, "new", now).verdict in (Verdict.TRY, Verdict.BUSY)
            case "failure":
                health = after_failure(health, token, now, kind, "words", 0.999)
            case "release":
                health = released(health, token, now)
        live = [claim for claim, expires in health.claims.items() if expires > now]
        assert len(live) <= 64
        assert 1 <= health.budget <= 64
        assert health.blocked_until <= now + 3600 * 1.1
        # Nothing is blocked for ever: within two hours somebody may ask.
        assert judge(health, "later", now + 7200).verdict in (Verdict.TRY, Verdict.PROBE)


# --- what launches make of it ---


def create(plane: ControlPlane, name: str) -> str:
    cluster = plane.cluster(name)
    plane.rank(cluster)
    return plane.create(cluster)


@pytest.fixture
def plane(tmp_path: Path):
    made = ControlPlane(
        tmp_path, [offer(zone, price) for zone, price in zip("abc", (1.0, 2.0, 3.0), strict=True)]
    )
    yield made
    made.close()


def test_next_launch_passes_over_the_place_where_the_last_was_refused(plane: ControlPlane) -> None:
    plane.compute.full = {"a"}
    plane.launch("one")
    assert create(plane, "one") == "REFUSED"
    plane.launch("two")
    assert create(plane, "two") == "CREATED"
    cluster = plane.cluster("two")
    assert cluster.offer.zone == "b"
    (skip,) = cluster.attempts
    assert (skip.outcome, skip.place, skip.reason) == ("skipped", "fake/north/a", "full")
    assert skip.until > plane.clock.now()


def test_cheapest_place_is_asked_again_when_its_block_has_ended(plane: ControlPlane) -> None:
    plane.compute.full = {"a"}
    plane.launch("one")
    assert create(plane, "one") == "REFUSED"
    plane.compute.full = set()
    plane.pass_time(200)
    plane.launch("two")
    assert create(plane, "two") == "CREATED"
    assert plane.cluster("two").offer.zone == "a"


@pytest.mark.parametrize(
    ("error", "blocks", "free"),
    [
        (NoCapacityError("full"), {"a"}, "b"),
        (QuotaExceededError("no quota"), {"a", "b", "c"}, ""),
        (NoCapacityError("no region", blocks=Blocks.REGION), {"a", "b", "c"}, ""),
        (CredentialsError("expired"), {"a", "b", "c"}, ""),
    ],
)
def test_refusal_reaches_as_far_as_it_says(
    plane: ControlPlane, error: Exception, blocks: set[str], free: str
) -> None:
    plane.compute.refusals.append(error)
    plane.launch("one")
    assert create(plane, "one") == "REFUSED"
    plane.launch("two")
    assert create(plane, "two") == "CREATED"
    skipped = {attempt.place[-1] for attempt in plane.cluster("two").attempts if attempt.outcome == "skipped"}
    if free:
        assert (skipped, plane.cluster("two").offer.zone) == (blocks, free)
    else:
        # All is blocked: the one that is free first is asked all the same, once.
        assert len(skipped) == len(blocks) - 1
        assert plane.cluster("two").insisted


def test_launch_waits_for_the_outcome_of_others_when_they_ask_for_the_same(plane: ControlPlane) -> None:
    for name in ("one", "two", "three"):
        plane.launch(name)
        plane.rank(plane.cluster(name))
    ranked = create_machines.read_plan(plane.world, plane.cluster("one").plan_key)
    for name in ("one", "two"):
        choice = next_offer.choose(plane.world, plane.cluster(name), ranked)
        assert choice.index == 0
        assert choice.slot is not None
        plane.store.transact([choice.slot])
    with pytest.raises(ThrottledError, match="Other launches"):
        plane.create(plane.cluster("three"))
    # The first two are heard of no more; their slots are not waited for longer than half a minute.
    plane.pass_time(31)
    assert plane.create(plane.cluster("three")) == "CREATED"
    assert plane.cluster("three").offer.zone == "b"


def test_slot_is_taken_once_when_launches_ask_at_the_same_moment(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others take theirs between this launch's look and its write, until the budget is used up."""
    for name in ("one", "two", "three"):
        plane.launch(name)
        plane.rank(plane.cluster(name))
    look = create_machines.choose
    choices = []

    def interleaved(world: World, cluster: Cluster, ranked: Sequence[RankedOffer]) -> Choice:
        choice = look(world, cluster, ranked)
        choices.append(choice)
        if len(choices) < 3:
            with pytest.raises(ThrottledError, match="slow down"):
                plane.create(plane.cluster(("two", "three")[len(choices) - 1]))
        return choice

    monkeypatch.setattr(create_machines, "choose", interleaved)
    plane.compute.create, made = _unanswered(plane), plane.compute.create
    with pytest.raises(ThrottledError, match="Other launches"):
        plane.create(plane.cluster("one"))
    assert [choice.index for choice in choices] == [0, 0, 0]
    assert not plane.intents(plane.cluster("one"))
    assert len(plane.secrets.kept) == 2
    plane.compute.create = made
    plane.pass_time(151)  # nothing is heard of them
    assert plane.create(plane.cluster("one")) == "CREATED"


def _unanswered(plane: ControlPlane) -> Callable[[GangRequest], list[str]]:
    def create(request: GangRequest) -> list[str]:
        raise ThrottledError("slow down", retry_after=1)

    return create


def test_refusal_is_written_when_others_keep_changing_what_is_remembered(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane.compute.full = {"a"}
    plane.launch("one")
    plane.rank(plane.cluster("one"))
    read = create_machines.refusal_writes
    calls = []

    def outdated(world: World, offer: Offer, token: str, error: ProviderError) -> list[Put]:
        calls.append(offer.zone)
        writes = read(world, offer, token, error)
        record_failure(world, offer, "another", "no_capacity", "none left")
        return writes

    monkeypatch.setattr(create_machines, "refusal_writes", outdated)
    assert plane.create(plane.cluster("one")) == "REFUSED"
    assert calls == ["a"] * 4
    cluster = plane.cluster("one")
    assert (cluster.cursor, cluster.attempt) == (1, 1)
    assert [one.outcome for one in cluster.attempts] == ["no_capacity"]
    [health] = plane.store.children(SYSTEM, "offering", "fake.north").items
    assert health.body["claims"] == {}
    assert health.body["kind"] == "no_capacity"


def test_memory_is_of_no_team(plane: ControlPlane) -> None:
    plane.compute.full = {"a"}
    plane.launch("one")
    create(plane, "one")
    kept = plane.store.children(SYSTEM, "offering", "fake.north").items
    assert [item.body["kind"] for item in kept] == ["no_capacity"]


def test_all_is_tried_again_later_when_the_launch_asks_for_it(plane: ControlPlane) -> None:
    plane.compute.full = {"a", "b", "c"}
    answer = plane.launch("one", retry_until_up=True)
    cluster = plane.cluster("one")
    waits = []
    for _ in range(3):
        plane.rank(plane.cluster("one"))
        while plane.create(plane.cluster("one")) != "EXHAUSTED":
            pass
        assert undo_attempt.give_up(plane.world, WORKSPACE, cluster.id)["outcome"] == "LATER"
        waits.append(plane.cluster("one").due_at - plane.clock.now())
        plane.pass_time(waits[-1])
    assert waits == [30.0, 60.0, 120.0]
    assert (
        plane.operation(answer["operation_id"]).status is OperationStatus.PENDING
        or not plane.operation(answer["operation_id"]).status.terminal
    )
    plane.compute.full = set()
    plane.pass_time(4000)
    plane.rank(plane.cluster("one"))
    assert plane.create(plane.cluster("one")) == "CREATED"


def test_verdict_names_what_was_tried_and_how_to_go_on(plane: ControlPlane) -> None:
    plane.compute.full = {"a", "b", "c"}
    answer = plane.launch("one")
    plane.rank(plane.cluster("one"))
    while plane.create(plane.cluster("one")) != "EXHAUSTED":
        pass
    undo_attempt.give_up(plane.world, WORKSPACE, plane.cluster("one").id)
    error = plane.operation(answer["operation_id"]).error
    assert "3 attempts failed" in error["message"]
    assert "fake/north/c m4: full" in error["message"]
    assert "--retry-until-up" in error["hint"]


# --- a thousand launches ---

PLACES, DOOMED = 40, 30


@dataclass
class Outcome:
    doomed: int
    doomed_after_first_hundred: int
    launches: int
    seconds: float


def run_launches(folder: Path, *, seed: int, launches: int, at_once: int, memory: bool) -> Outcome:
    """Launches one after the other, ``at_once`` under way; a create call takes 3 s, a boot 30 to 90 s."""
    draw = random.Random(seed)
    prices = sorted(draw.uniform(1, 2) for _ in range(PLACES))
    zones = [f"{number:02d}" for number in range(PLACES)]
    plane = ControlPlane(folder, [offer(zone, price) for zone, price in zip(zones, prices, strict=True)])
    plane.compute.full = set(zones[:DOOMED])
    refused: list[str] = []
    asked = plane.compute.create

    def counting(request):
        if request.offer.zone in plane.compute.full:
            refused.append(request.tags["stix-name"])
        return asked(request)

    plane.compute.create = counting
    started = time.process_time()
    waiting = [f"job-{number:04d}" for number in range(launches)]
    first_hundred = set(waiting[:100])
    moments: list[tuple[float, int, str]] = []
    order = itertools.count()

    def again(seconds: float, name: str) -> None:
        heapq.heappush(moments, (plane.clock.now() + seconds, next(order), name))

    def begin(seconds: float) -> None:
        if waiting:
            again(seconds, waiting.pop(0))

    for _ in range(at_once):
        begin(0.0)
    up = 0
    with pytest.MonkeyPatch.context() as patch:
        if not memory:
            patch.setattr(
                create_machines,
                "choose",
                lambda world, cluster, ranked: Choice(
                    cluster.cursor if cluster.cursor < len(ranked) else None
                ),
            )
        while moments:
            plane.clock.moment, _, name = heapq.heappop(moments)
            cluster = join_nodes_cluster(plane, name)
            try:
                outcome = plane.create(cluster)
            except ThrottledError as busy:
                again(busy.retry_after, name)
                continue
            if outcome == "REFUSED":
                again(3.0, name)
            else:
                assert outcome == "CREATED", outcome
                up += 1
                begin(draw.uniform(30, 90))
    plane.close()
    later = sum(name not in first_hundred for name in refused)
    return Outcome(len(refused), later, up, time.process_time() - started)


def join_nodes_cluster(plane: ControlPlane, name: str):
    """The cluster of that name, launched and ranked when it is first asked for."""
    try:
        return plane.cluster(name)
    except AssertionError:
        plane.launch(name, task={"run": None, "name": None})
        plane.rank(plane.cluster(name))
        return plane.cluster(name)


@pytest.mark.parametrize("launches", [300, pytest.param(1000, marks=pytest.mark.soak)])
def test_doomed_places_are_asked_seldom_over_many_launches(tmp_path: Path, launches: int) -> None:
    seed = random.SystemRandom().randrange(10**6)
    with_memory = run_launches(tmp_path / "a", seed=seed, launches=launches, at_once=50, memory=True)
    without = run_launches(tmp_path / "b", seed=seed, launches=20, at_once=10, memory=False)
    print(
        f"seed {seed}: {launches:,} launches, 50 at once, {DOOMED} of {PLACES} places, the cheapest, without"
        f" capacity: {with_memory.doomed} doomed calls, {with_memory.doomed_after_first_hundred} after the"
        f" first 100 launches; without memory {without.doomed // without.launches * 1000}"
        f" ({without.doomed} in {without.launches} launches)"
    )
    assert with_memory.launches == launches
    assert without.doomed == DOOMED * without.launches
    assert with_memory.doomed <= 200
    assert with_memory.doomed_after_first_hundred <= 60


def test_walk_over_every_place_costs_one_ranking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zones = [f"{number:03d}" for number in range(150)]
    plane = ControlPlane(tmp_path, [offer(zone, 1 + number / 1000) for number, zone in enumerate(zones)])
    plane.compute.full = set(zones)
    rankings = []
    ranked = create_machines.plan
    monkeypatch.setattr(create_machines, "plan", lambda *a: rankings.append(1) or ranked(*a))
    plane.launch("one")
    plane.rank(plane.cluster("one"))
    while plane.create(plane.cluster("one")) != "EXHAUSTED":
        pass
    assert plane.compute.calls.count("create") == 150
    assert len(rankings) == 1
    assert plane.cluster("one").status is ClusterStatus.INIT
    plane.close()
