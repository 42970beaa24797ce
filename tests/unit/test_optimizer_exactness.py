"""The solvers against brute force over random graphs, and against each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stix.optimizer import milp
from stix.optimizer.elimination import cheapest, cheapest_of_forest
from stix.optimizer.front import choose, pareto
from stix.optimizer.heuristic import good, least_seconds
from stix.optimizer.labels import whole_front
from stix.optimizer.problem import Flow, Matrix, Option, Problem, Solution
from stix.optimizer.solve import front, solve

AREAS = (0, 0, 1, 2, 2, 3)
CLOUDS = (0, 0, 1, 2)
CLOSE = 1e-6
AMOUNTS = st.one_of(st.integers(0, 6).map(float), st.floats(0, 20).map(lambda number: round(number, 2)))


@st.composite
def prices(draw: st.DrawFn) -> Matrix:
    """From area to area: any inside a cloud; to another cloud, sometimes, one price whatever the target."""
    matrix = [[draw(AMOUNTS) for _ in CLOUDS] for _ in CLOUDS]
    if draw(st.booleans()):
        for source, row in enumerate(matrix):
            away = draw(AMOUNTS)
            for target in range(len(CLOUDS)):
                if CLOUDS[source] != CLOUDS[target]:
                    row[target] = away
    return tuple(map(tuple, matrix))


@st.composite
def problems(draw: st.DrawFn, *, chain: bool = False, most_tasks: int = 7) -> Problem:
    count = draw(st.integers(1, most_tasks))
    option = st.builds(Option, st.integers(0, len(AREAS) - 1), AMOUNTS, AMOUNTS)
    options = draw(st.lists(st.lists(option, min_size=1, max_size=6), min_size=count, max_size=count))
    pairs = [(at, at + 1) for at in range(count - 1)]
    if not chain:
        everything = [(parent, child) for child in range(count) for parent in range(child)]
        pairs = draw(st.lists(st.sampled_from(everything), unique=True, max_size=12)) if everything else []
    flows = [Flow(parent, child, draw(prices()), draw(AMOUNTS), draw(AMOUNTS)) for parent, child in pairs]
    order = draw(st.permutations(range(count)))
    # The tasks in any numbering: only ``order`` says which comes first.
    renamed = [replace(flow, parent=order[flow.parent], child=order[flow.child]) for flow in flows]
    placed = [options[order.index(task)] for task in range(count)]
    return Problem(AREAS, CLOUDS, placed, renamed, order)


def every_solution(problem: Problem) -> list[Solution]:
    return [problem.solution(choice) for choice in product(*(range(len(some)) for some in problem.options))]


def by_hand(problem: Problem, choice: Sequence[int]) -> tuple[float, float]:
    """Cost and time as the words say them, to check ``Problem.evaluate`` itself."""
    places = [options[at].location for options, at in zip(problem.options, choice, strict=True)]

    def price(flow: Flow) -> float:
        source, target = places[flow.parent], places[flow.child]
        return 0.0 if source == target else flow.cost[AREAS[source]][AREAS[target]]

    def delay(flow: Flow) -> float:
        source, target = places[flow.parent], places[flow.child]
        if source == target:
            return 0.0
        same_cloud = CLOUDS[AREAS[source]] == CLOUDS[AREAS[target]]
        return flow.between_seconds if same_cloud else flow.across_seconds

    def end(task: int) -> float:
        waits = [end(flow.parent) + delay(flow) for flow in problem.flows if flow.child == task]
        return max(waits, default=0.0) + problem.options[task][choice[task]].seconds

    cost = sum(options[at].cost for options, at in zip(problem.options, choice, strict=True))
    return cost + sum(map(price, problem.flows)), max(map(end, range(len(problem.options))))


relaxed = settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
soaked = settings(relaxed, max_examples=300)


def check_against_brute_force(problem: Problem) -> None:
    everything = every_solution(problem)
    least = min(one.cost for one in everything)
    first = everything[len(everything) // 2]
    assert (first.cost, first.seconds) == pytest.approx(by_hand(problem, first.choice))

    found = cheapest(problem, most_work=10**9)
    assert found is not None
    assert found.cost == pytest.approx(least, abs=CLOSE)
    assert cheapest_of_forest(problem)[1] <= least + CLOSE
    assert least_seconds(problem) <= min(one.seconds for one in everything) + CLOSE

    whole = whole_front(problem)
    expected = pareto(everything)
    assert whole is not None
    for of in (lambda one: one.cost, lambda one: one.seconds):
        assert list(map(of, whole)) == pytest.approx(list(map(of, expected)), abs=CLOSE)

    for objective in ("cost", "time", "balanced"):
        middle = expected[len(expected) // 2]
        for limits in ({}, {"deadline": middle.seconds}, {"max_cost": middle.cost}, {"deadline": -1.0}):
            best = choose(expected, objective, **limits)
            solved = solve(problem, objective, **limits)
            if best is None:
                assert solved is None
                continue
            assert solved is not None
            assert solved.solution.proved
            if objective == "cost":
                assert solved.solution.cost == pytest.approx(best.cost, abs=CLOSE)
            elif objective == "time":
                assert solved.solution.seconds == pytest.approx(best.seconds, abs=CLOSE)
                assert solved.solution.cost == pytest.approx(best.cost, abs=CLOSE)
            else:
                assert (solved.solution.cost, solved.solution.seconds) == pytest.approx(
                    (best.cost, best.seconds), abs=CLOSE
                )


@relaxed
@given(problems())
def test_solution_equals_brute_force_when_graphs_are_random(problem: Problem) -> None:
    check_against_brute_force(problem)


@pytest.mark.soak
@soaked
@given(problems())
def test_solution_equals_brute_force_when_300_graphs_are_random(problem: Problem) -> None:
    check_against_brute_force(problem)


@relaxed
@given(problems(chain=True, most_tasks=10))
def test_chain_by_messages_equals_the_general_solvers(problem: Problem) -> None:
    by_messages = cheapest(problem, most_work=0)
    by_labels = whole_front(problem)
    assert by_messages is not None
    assert by_labels
    assert by_messages.cost == pytest.approx(by_labels[0].cost, abs=CLOSE)


@settings(relaxed, max_examples=40)
@given(problems(most_tasks=6))
def test_integer_program_equals_the_labels_when_graphs_are_random(problem: Problem) -> None:
    pytest.importorskip("highspy", reason="the extra `dag` is not installed")
    expected = whole_front(problem)
    assert expected
    middle = expected[len(expected) // 2]
    for objective, limits in (
        ("cost", {}),
        ("time", {}),
        ("cost", {"deadline": middle.seconds}),
        ("time", {"max_cost": middle.cost}),
    ):
        best = choose(expected, objective, **limits)
        found = milp.solve(problem, objective, **limits)
        assert best is not None
        assert found is not None
        assert found.proved
        reached, least = (found.cost, best.cost) if objective == "cost" else (found.seconds, best.seconds)
        assert reached == pytest.approx(least, rel=1e-5, abs=1e-5)


@settings(relaxed, max_examples=40)
@given(problems(most_tasks=6))
def test_search_is_never_better_than_its_bound_or_than_the_best(problem: Problem) -> None:
    expected = whole_front(problem)
    assert expected
    for objective in ("cost", "time"):
        best = choose(expected, objective)
        found = good(problem, objective)
        assert best is not None
        assert found is not None
        reached, least = (found.cost, best.cost) if objective == "cost" else (found.seconds, best.seconds)
        assert reached >= least - CLOSE
        if found.proved:
            assert reached == pytest.approx(least, abs=CLOSE)
        else:
            assert found.bound is not None
            assert found.bound <= least + CLOSE


def test_front_is_sampled_and_says_so_when_labels_grow_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    options = [[Option(at % 6, 1.0 + at, 9.0 - at) for at in range(6)] for _ in range(5)]
    flat = Flow(0, 1, ((1.0,) * 4,) * 4, 1.0, 2.0)
    problem = Problem(AREAS, CLOUDS, options, [flat], range(5))
    monkeypatch.setattr("stix.optimizer.solve.whole_front", lambda *_, **__: None)
    points, complete = front(problem)
    assert not complete
    exact = whole_front(problem)
    assert exact is not None
    assert points[0].cost == pytest.approx(exact[0].cost)
    assert points[-1].seconds == pytest.approx(exact[-1].seconds)


def test_integer_program_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("highspy", reason="the extra `dag` is not installed")
    problem = Problem(AREAS, CLOUDS, [[Option(0, 1.0, 1.0)], [Option(1, 2.0, 1.0)]], [], range(2))
    assert milp.solve(problem, "cost") is not None
    assert capfd.readouterr() == ("", "")
