"""Plans over a small catalog whose answers are worked out by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from stix.catalog.index import CatalogIndex, compile_index, open_index
from stix.catalog.row import CatalogRow
from stix.model.errors import InvalidInputError, NoOfferError
from stix.optimizer.catalog import AcceleratorFacts
from stix.optimizer.estimate import seconds_on
from stix.optimizer.held import Held
from stix.optimizer.optimize import optimize
from stix.optimizer.plan import Plan
from stix.optimizer.rates import Rates, tiered_cost
from stix.optimizer.request import (
    Alternative,
    Block,
    DataSource,
    Limits,
    Link,
    Machine,
    Request,
    TaskRequest,
)

NOW = 10_000.0
HOUR = 3600.0


def row(cloud: str, region: str, kind: str, price: float, **more: object) -> CatalogRow:
    zone = f"{region}a"
    base = CatalogRow(cloud, region, zone, kind, 8, 32, price=price, spot_price=price / 4, as_of=4000.0)
    return replace(base, **more)  # type: ignore[arg-type]


def gpu(cloud: str, region: str, name: str, price: float, **more: object) -> CatalogRow:
    memory = {"A100": 40.0, "A100-80GB": 80.0, "H100": 80.0, "MI300X": 192.0, "T4": 16.0}[name]
    return row(
        cloud,
        region,
        f"{name}-box",
        price,
        accelerator=name,
        accelerator_count=more.pop("count", 8.0),
        accelerator_memory_gib=memory,
        **more,
    )


ROWS = [
    row("aws", "us-1", "small", 0.40),
    row("aws", "us-1", "arm", 0.30, arch="arm64"),
    row("aws", "us-1", "large", 0.60, vcpus=16, memory_gib=64),
    row("aws", "eu-1", "small", 0.50),
    row("gcp", "us-9", "small", 0.45),
    gpu("aws", "us-1", "A100", 20.0),
    gpu("gcp", "us-9", "A100", 18.0),
    gpu("gcp", "us-9", "A100-80GB", 24.0),
    gpu("aws", "eu-1", "H100", 50.0),
    gpu("gcp", "us-9", "MI300X", 40.0),
    gpu("aws", "us-1", "T4", 2.0, count=0.5),
]
FACTS = {
    "A100": AcceleratorFacts(40, "NVIDIA", 300),
    "A100-80GB": AcceleratorFacts(80, "NVIDIA", 300),
    "H100": AcceleratorFacts(80, "NVIDIA", 900),
    "MI300X": AcceleratorFacts(192, "AMD", 1200),
    "T4": AcceleratorFacts(16, "NVIDIA", 60),
}
# Between regions 0.02 a GB, to another cloud 0.1; a GB of disk is 0.0001 an hour on aws, free elsewhere.
RATES = Rates(
    egress=lambda source, target: ((float("inf"), 0.02 if source[0] == target[0] else 0.1),),
    disk_hour=lambda cloud, _tier, gb: gb * 0.0001 if cloud == "aws" else 0.0,
)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CatalogIndex]:
    path: Path = tmp_path_factory.mktemp("catalog") / "index"
    compile_index(ROWS, path)
    opened = open_index(path)
    yield opened
    opened.close()


def machine(accelerator: str = "", count: float = 8, **more: object) -> Machine:
    base = Machine(accelerator=accelerator, accelerator_count=count if accelerator else 0)
    return replace(base, **more)  # type: ignore[arg-type]


def task(*machines: Machine, name: str = "t", **more: object) -> TaskRequest:
    return TaskRequest(name, tuple(Alternative(one) for one in machines), **more)  # type: ignore[arg-type]


def plan_of(index: CatalogIndex, *tasks: TaskRequest, held: tuple[Held, ...] = (), **more: object) -> Plan:
    request = Request(tuple(tasks), **more)  # type: ignore[arg-type]
    return optimize(request, index, now=NOW, rates=RATES, facts=FACTS, held=held)


def where(plan: Plan) -> list[str]:
    return [
        f"{one.chosen.offer.cloud}/{one.chosen.offer.region} {one.chosen.offer.instance_type}"
        for one in plan.tasks
    ]


def ranked(plan: Plan) -> list[str]:
    return [
        f"{one.placement.offer.cloud}/{one.placement.offer.region} {one.placement.offer.instance_type}"
        for one in plan.tasks[0].ranking.head
    ]


# -- one task ------------------------------------------------------------------------------------------------


def test_best_of_every_place_is_ranked_with_reasons_when_cost_counts(index: CatalogIndex) -> None:
    plan = plan_of(index, task(machine(vcpus=8, vcpus_at_least=True)))
    assert [one.placement.offer.price for one in plan.tasks[0].ranking.head] == [0.3, 0.45, 0.5]
    assert ranked(plan) == ["aws/us-1 arm", "gcp/us-9 small", "aws/eu-1 small"]
    assert [one.reason for one in plan.tasks[0].ranking.head] == ["cheapest that fits", "+50%", "+67%"]
    assert [one.rank for one in plan.tasks[0].ranking.head] == [1, 2, 3]
    assert plan.cost == pytest.approx(0.3)
    assert plan.age_seconds == 6000
    assert plan.proved


def test_rest_of_the_ranking_goes_on_with_every_other_machine(index: CatalogIndex) -> None:
    ranking = plan_of(index, task(machine(vcpus=8, vcpus_at_least=True, cloud="aws"))).tasks[0].ranking
    rest = [one.placement.offer.instance_type for one in ranking.rest()]
    assert rest == ["small", "large", "T4-box", "A100-box", "H100-box"]
    prices = [one.placement.offer.price for one in ranking.rest()]
    assert prices == sorted(prices)
    assert [one.rank for one in ranking.rest()] == list(range(3, 3 + len(prices)))


def test_architecture_leaves_other_machines_out(index: CatalogIndex) -> None:
    assert where(plan_of(index, task(machine(vcpus=8, arch="x86_64")))) == ["aws/us-1 small"]


def test_disk_and_nodes_are_in_the_cost(index: CatalogIndex) -> None:
    request = TaskRequest("t", (Alternative(machine(vcpus=8, arch="x86_64"), disk_gb=1000),), num_nodes=3)
    plan = plan_of(index, replace(request, seconds=2 * HOUR))
    # aws: (0.40 + 0.10 for the disk), gcp: 0.45 and the disk is in its price.
    assert where(plan) == ["gcp/us-9 small"]
    assert plan.cost == pytest.approx(3 * 2 * 0.45)
    assert plan.tasks[0].ranking.head[1].placement.cost == pytest.approx(3 * 2 * 0.50)


def test_spot_is_ranked_by_spot_prices(index: CatalogIndex) -> None:
    spot = TaskRequest("t", (Alternative(machine("A100"), spot=True),))
    plan = plan_of(index, spot)
    assert plan.cost == pytest.approx(4.5)
    assert plan.tasks[0].chosen.offer.spot


def test_part_of_an_accelerator_is_met_by_a_larger_part_when_no_equal_one_is_there(
    index: CatalogIndex,
) -> None:
    assert where(plan_of(index, task(machine("T4", 0.25)))) == ["aws/us-1 T4-box"]
    with pytest.raises(NoOfferError) as refused:
        plan_of(index, task(machine("T4", 1)))
    assert "0.5 of T4" in refused.value.hint


def test_accelerator_by_memory_means_every_one_that_has_it(index: CatalogIndex) -> None:
    by_memory = Machine(accelerator_count=8, accelerator_by_memory=80, accelerator_memory_at_least=True)
    assert {one.split()[1] for one in ranked(plan_of(index, task(by_memory)))} == {
        "A100-80GB-box",
        "H100-box",
        "MI300X-box",
    }
    nvidia = replace(by_memory, manufacturer="nvidia")
    assert {one.split()[1] for one in ranked(plan_of(index, task(nvidia)))} == {"A100-80GB-box", "H100-box"}
    exactly = replace(by_memory, accelerator_memory_at_least=False, accelerator_by_memory=192)
    assert ranked(plan_of(index, task(exactly))) == ["gcp/us-9 MI300X-box"]


def test_ordered_alternatives_keep_their_order_whatever_they_cost(index: CatalogIndex) -> None:
    both = task(machine("H100"), machine("A100"), ordered=True)
    assert [one.split()[1] for one in ranked(plan_of(index, both))] == ["H100-box", "A100-box", "A100-box"]
    assert "choice 2" in plan_of(index, both).tasks[0].ranking.head[1].reason
    assert ranked(plan_of(index, replace(both, ordered=False)))[0] == "gcp/us-9 A100-box"


def test_time_and_balance_follow_the_accelerators_speed(index: CatalogIndex) -> None:
    # Ten hours on 8 A100; a third of that on 8 H100 (three times the peak).
    both = task(machine("A100"), machine("H100"), seconds_by_accelerator={"A100:8": 10 * HOUR})
    fastest = plan_of(index, both, objective="time")
    assert where(fastest) == ["aws/eu-1 H100-box"]
    assert fastest.seconds == pytest.approx(10 * HOUR / 3)
    cheapest = plan_of(index, both)
    assert cheapest.cost == pytest.approx(50 * 10 / 3), "166.67 on the H100 beats 180 on the A100"
    assert len(cheapest.front) == 1

    dearer = replace(both, seconds_by_accelerator={"A100": 10 * HOUR, "H100": 5 * HOUR})
    front = plan_of(index, dearer).front
    assert [(one.cost, one.seconds) for one in front] == [
        (pytest.approx(180), 10 * HOUR),
        (pytest.approx(250), 5 * HOUR),
    ]
    assert where(plan_of(index, dearer, limits=Limits(deadline_seconds=6 * HOUR))) == ["aws/eu-1 H100-box"]
    assert where(plan_of(index, dearer, objective="time", limits=Limits(max_cost=200))) == [
        "gcp/us-9 A100-box"
    ]


def test_balanced_takes_the_knee_of_the_front(index: CatalogIndex) -> None:
    three = task(
        machine("A100"),
        machine("MI300X"),
        machine("H100"),
        seconds_by_accelerator={"A100": 10 * HOUR, "MI300X": 5 * HOUR, "H100": 4.9 * HOUR},
    )
    plan = plan_of(index, three, objective="balanced")
    # 180 in 10 h, 200 in 5 h, 245 in 4.9 h: most of the time is won for a third of the money.
    assert where(plan) == ["gcp/us-9 MI300X-box"]
    assert plan.tasks[0].ranking.head[0].reason == "best balance of cost and time"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"H100:8": 100.0, "H100": 200.0, "default": 300.0}, 100.0),
        ({"H100": 200.0, "default": 300.0}, 200.0),
        ({"A100": 900.0, "default": 300.0}, 300.0),
        ({"A100": 900.0}, 300.0),
        ({"A100:4": 900.0}, 150.0),
        ({"X1": 900.0}, 3600.0),
    ],
)
def test_estimate_is_taken_or_scaled(said: dict[str, float], expected: float) -> None:
    one = Alternative(machine("H100"))
    found = seconds_on(task(machine("H100"), seconds_by_accelerator=said), one, one, FACTS, by_speed=False)
    assert found == pytest.approx(expected)


def test_inputs_draw_the_task_to_their_cloud(index: CatalogIndex) -> None:
    one = task(machine("A100"), inputs=(DataSource("aws", 30),))
    assert where(plan_of(index, one)) == ["aws/us-1 A100-box"]
    assert plan_of(index, one).cost == pytest.approx(20.0)
    assert where(plan_of(index, replace(one, inputs=(DataSource("aws", 10),)))) == ["gcp/us-9 A100-box"]


def test_blocked_places_and_machines_are_left_out(index: CatalogIndex) -> None:
    wanted = task(machine(vcpus=8, arch="x86_64"))
    assert where(plan_of(index, wanted, blocked=(Block("aws", "us-1"),))) == ["gcp/us-9 small"]
    assert where(plan_of(index, wanted, blocked=(Block("aws", "us-1", "us-1b"),))) == ["aws/us-1 small"]
    blocked = (Block(instance_type="small"), Block(instance_type="T4-box"))
    assert ranked(plan_of(index, wanted, blocked=blocked))[0] == "gcp/us-9 A100-box"
    assert where(plan_of(index, wanted, clouds=frozenset({"gcp"}))) == ["gcp/us-9 small"]
    assert where(plan_of(index, wanted, blocked=(Block(spot=True),))) == ["aws/us-1 small"]


def test_held_capacity_comes_first_when_it_is_large_enough(index: CatalogIndex) -> None:
    held = Held("cluster dev", 2, "aws", "eu-1", "", "small", 8, 32)
    wanted = task(machine(vcpus=8), num_nodes=2)
    plan = plan_of(index, wanted, held=(held,))
    assert plan.cost == 0
    assert plan.tasks[0].ranking.head[0].reason == "already paid for: cluster dev"
    assert plan_of(index, replace(wanted, num_nodes=3), held=(held,)).cost > 0
    assert plan_of(index, task(machine("A100")), held=(held,)).cost > 0


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        (machine("H10O"), "no accelerator H10O. Did you mean H100"),
        (machine("A100", 3), "Machines have 8 of A100"),
        (machine(region="us1"), "no region us1. Did you mean us-1"),
        (machine(cloud="azure"), "no cloud azure"),
        (machine("A100", vcpus=64, vcpus_at_least=True), "Without its `accelerators` it would"),
        (machine("H100", cloud="gcp"), "Without its `accelerators` it would"),
        (machine("A100", memory_gib=512, memory_at_least=True), "Without its `memory`"),
        (machine(vcpus=7), "Without its `cpus`"),
    ],
)
def test_refusal_names_what_stands_in_the_way(index: CatalogIndex, asked: Machine, hint: str) -> None:
    with pytest.raises(NoOfferError) as refused:
        plan_of(index, task(asked))
    if "accelerators" not in hint:
        assert hint in refused.value.hint
    assert refused.value.message.startswith("resources of task t: no offer in the catalog fits ")
    assert len(refused.value.message) < 300


def test_refusal_names_the_price_when_only_it_is_in_the_way(index: CatalogIndex) -> None:
    wanted = TaskRequest("", (Alternative(machine("A100"), max_hourly_cost=10),))
    with pytest.raises(NoOfferError) as refused:
        plan_of(index, wanted)
    assert "$18" in refused.value.hint


def test_refusal_names_what_the_limits_would_have_to_be(index: CatalogIndex) -> None:
    with pytest.raises(NoOfferError) as refused:
        plan_of(index, task(machine("A100")), limits=Limits(max_cost=5, deadline_seconds=60))
    assert "max_cost $5" in refused.value.message
    assert "$18" in refused.value.hint
    assert "1 h" in refused.value.hint


# -- several tasks -------------------------------------------------------------------------------------------


def test_tasks_stay_together_when_their_data_is_dear(index: CatalogIndex) -> None:
    prep = task(machine(vcpus=8, arch="x86_64"), name="prep")
    train = task(machine("A100"), name="train")
    little = plan_of(index, prep, train, links=(Link(0, 1, 0.1),))
    assert where(little) == ["aws/us-1 small", "gcp/us-9 A100-box"]
    assert little.data_cost == pytest.approx(0.01)
    much = plan_of(index, prep, train, links=(Link(0, 1, 10),))
    assert where(much) == ["gcp/us-9 small", "gcp/us-9 A100-box"]
    assert much.cost == pytest.approx(18.45)
    assert much.data_cost == 0
    assert much.seconds == pytest.approx(2 * HOUR)
    assert [one.placement.offer.cloud for one in much.tasks[0].ranking.head] == ["gcp", "aws", "aws"]
    assert much.tasks[0].ranking.head[1].placement.cost == pytest.approx(0.40 + 10 * 0.1)


def test_transport_takes_time_between_places(index: CatalogIndex) -> None:
    first = task(machine(vcpus=8, cloud="aws", region="us-1"), name="a")
    second = task(machine(vcpus=8, cloud="gcp"), name="b")
    plan = plan_of(index, first, second, links=(Link(0, 1, 100),))
    assert plan.seconds == pytest.approx(2 * HOUR + 100 * 8 / RATES.across_gbps)


def test_group_runs_in_one_region_when_it_must_be_together(index: CatalogIndex) -> None:
    cheap, train = task(machine(vcpus=8), name="a"), task(machine("A100"), name="b")
    assert where(plan_of(index, cheap, train, together=True)) == ["gcp/us-9 small", "gcp/us-9 A100-box"]
    with pytest.raises(NoOfferError, match="No region has an offer for each of a, b"):
        plan_of(index, task(machine("H100"), name="a"), train, together=True)


def test_links_in_a_circle_are_refused(index: CatalogIndex) -> None:
    tasks = [task(machine(vcpus=8), name=name) for name in "ab"]
    with pytest.raises(InvalidInputError, match="circle"):
        plan_of(index, *tasks, links=(Link(0, 1), Link(1, 0)))


def test_missing_offer_of_one_task_names_it(index: CatalogIndex) -> None:
    with pytest.raises(NoOfferError, match="task second"):
        plan_of(index, task(machine(vcpus=8)), task(machine("A100", 3), name="second"))


def test_limits_of_a_graph_are_refused_with_what_is_possible(index: CatalogIndex) -> None:
    tasks = [task(machine(vcpus=8, arch="x86_64"), name=name) for name in "ab"]
    with pytest.raises(NoOfferError) as refused:
        plan_of(index, *tasks, links=(Link(0, 1, 5),), limits=Limits(max_cost=0.5))
    assert "$0.8" in refused.value.hint


def test_tiers_are_charged_from_the_first_on() -> None:
    tiers = ((10.0, 0.1), (50.0, 0.05), (float("inf"), 0.01))
    assert tiered_cost(tiers, 5) == pytest.approx(0.5)
    assert tiered_cost(tiers, 60) == pytest.approx(1 + 2 + 0.1)
    assert tiered_cost((), 60) == 0
