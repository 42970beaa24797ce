"""Services on recorded spot availability: the published SpotHedge study beside ours, and the replay's speed.

``python -m tests.benchmarks.serving --write docs/serving.md`` makes the tables of that page anew.
The study is SkyServe's (EuroSys 2025). Two of its four traces are looked for; see ``FOLDER``.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from stix.autoscaling.decide import decide
from stix.autoscaling.situation import Metrics, Replica, Terms
from stix.model.service import ReplicaPolicy
from stix.model.status import ReplicaStatus
from stix.recovery.situation import Candidate
from stix.simulate.replay import Zone, zone_of
from stix.simulate.service import World
from stix.simulate.service_study import (
    PlacementName,
    ServiceKind,
    ServiceResult,
    ServiceScenario,
    run_least,
    run_service,
)
from stix.simulate.traces import even_starts, find_traces, read_traces

from .figures import Record, median
from .pages import write_or_print
from .spot_replays import FOLDER as TRACES

FOLDER = TRACES / "serve"
EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "serving" / "traces"
TRACE_SETS = ("AWS1", "GCP1")
TICK, DAY_TICKS, STARTS, REPLICAS, PRICE_RATIO = 30.0, 2880, 40, 3, 3.0
_MARKS = ("<!-- replays: begin -->", "<!-- replays: end -->")

HEDGE, PLAIN, NOTICED = (
    PlacementName(ServiceKind.SPOTHEDGE, 1),
    PlacementName(ServiceKind.SPOTHEDGE),
    PlacementName(ServiceKind.NOTICE),
)
# Availability and cost in % of on-demand: of each trace set, as published (figures of the study, rounded
# there), and as a replay of the study's settings gave before (40 even starts); None where there is none.
PUBLISHED: dict[str, dict[str, tuple[float, float]]] = {
    "AWS1": {
        "even-spread:1": (52, 29),
        "round-robin:1": (93, 39),
        "spothedge:1": (100, 45),
        "least": (100, 40),
    },
    "GCP1": {
        "even-spread:1": (63, 25),
        "round-robin:1": (99, 39),
        "spothedge:1": (100, 46),
        "least": (100, 34),
    },
}
REFERENCE = {"AWS1": (99.37, 51.0), "GCP1": (99.83, 46.2)}
_ROWS: tuple[tuple[str, PlacementName | None, float], ...] = (
    ("on-demand alone", PlacementName(ServiceKind.ON_DEMAND), 0),
    ("spot, best zone (in hindsight)", PlacementName(ServiceKind.BEST_ZONE), 0),
    ("spot, one zone (mean)", PlacementName(ServiceKind.SINGLE_ZONE), 0),
    ("even spread, no spare", PlacementName(ServiceKind.EVEN_SPREAD), 0),
    ("even spread, 1 spare", PlacementName(ServiceKind.EVEN_SPREAD, 1), 0),
    ("round robin, no spare", PlacementName(ServiceKind.ROUND_ROBIN), 0),
    ("round robin, 1 spare", PlacementName(ServiceKind.ROUND_ROBIN, 1), 0),
    ("**SpotHedge, 1 spare** (the study's setting)", HEDGE, 0),
    ("SpotHedge, no spare", PLAIN, 0),
    ("SpotHedge, 2 spares", PlacementName(ServiceKind.SPOTHEDGE, 2), 0),
    ("notice of 30 s, no spare", NOTICED, 30),
    ("**notice of 120 s, no spare**", NOTICED, 120),
    ("notice of 120 s, 1 spare", PlacementName(ServiceKind.NOTICE, 1), 120),
    ("least (needs only)", None, 0),
)
_REPRODUCED = "SpotHedge with 1, over an independent replay of the same 40 starts"
COLD_STARTS = (120.0, 240.0, 480.0)


@dataclass(frozen=True)
class Row:
    """In % : of time, and of on-demand's cost."""

    available: float
    cost: float


def present() -> bool:
    """The study's traces are there."""
    return all((FOLDER / name).is_dir() for name in TRACE_SETS)


@cache
def zones_of(folder: Path) -> tuple[Zone, ...]:
    """Its traces in ticks of the study, at a spot price of 1."""
    traces = [trace.every(TICK) for trace in read_traces(find_traces([folder]))]
    return tuple(zone_of(trace.name, trace.counts, 1.0) for trace in traces)


def scenario(
    zones: tuple[Zone, ...], *, notice: float = 0.0, cold_start: float = 120.0, starts: int = STARTS
) -> ServiceScenario:
    """The study's: three replicas for a day, from each of ``starts`` even starts."""
    offer = zones[0].offer.model_copy(update={"spot": False, "price": PRICE_RATIO, "zone": "on-demand"})
    world = World(zones, replace(zones[0], offer=offer), TICK, cold_start, notice)
    length = min(len(zone.up) for zone in zones)
    return ServiceScenario(
        ReplicaPolicy(REPLICAS), world, tuple(even_starts(length, DAY_TICKS, starts)), DAY_TICKS
    )


def row(given: ServiceScenario, name: PlacementName | None) -> Row:
    full = REPLICAS * PRICE_RATIO * given.ticks * TICK / 3600.0
    if name is None:
        return Row(100.0, 100 * run_least(given, [REPLICAS] * given.ticks).cost / full)
    result: ServiceResult = run_service(given, name)[0]
    return Row(100 * result.availability, 100 * result.cost / full)


def measure(record: Record) -> None:
    """Needs nothing but the example's traces."""
    given = scenario(zones_of(EXAMPLE), notice=120.0, starts=4)
    began = time.process_time()
    run_service(given, NOTICED)
    record.add("day", (time.process_time() - began) / len(given.starts))
    record.add("decision", _decision_ms())


def measure_published(record: Record) -> None:
    """Needs the study's traces."""
    rows = {
        name: {
            key: row(scenario(zones_of(FOLDER / name), notice=notice), policy)
            for key, policy, notice in (("hedge", HEDGE, 0), ("plain", PLAIN, 0), ("notice", NOTICED, 120))
        }
        for name in TRACE_SETS
    }
    hedge = {name: rows[name]["hedge"] for name in rows}
    record.add(
        "availability_difference",
        max(abs(hedge[name].available - REFERENCE[name][0]) for name in rows),
    )
    record.add("cost_difference", max(abs(hedge[name].cost - REFERENCE[name][1]) for name in rows))
    for key in ("notice", "plain"):
        behind = [hedge[name].available - rows[name][key].available for name in rows]
        saved = [hedge[name].cost - rows[name][key].cost for name in rows]
        record.add(f"{key}_behind", max(0.0, *behind))
        record.add(f"{key}_saves", min(saved))


def _decision_ms() -> float:
    """A decision about 10 replicas over 30 places, by three targets."""
    zones = [zone_of(f"us-west-{at}a_m_1", (9,), 1.0 + at / 100).offer for at in range(1, 16)]
    offers = [Candidate(one, lost_at=1.0 if at % 4 == 0 else None) for at, one in enumerate(zones)]
    offers += [Candidate(one.model_copy(update={"spot": False, "price": 3.0})) for one in zones]
    replicas = [Replica(at, zones[at], ReplicaStatus.READY, 0.0, 0.0) for at in range(10)]
    policy = ReplicaPolicy(
        1,
        20,
        num_overprovision=1,
        target_qps_per_replica=2.0,
        target_queue_length=5.0,
        target_latency_p95=1.0,
        dynamic_ondemand_fallback=True,
        spot_placer="dynamic_fallback",
    )
    terms, spent = Terms(policy, spot=True), []
    for at in range(60):
        began = time.process_time()
        metrics = Metrics(at * 30.0, request_rate=20.0 + at % 5, queue_length=30, latency_p95=0.9)
        decision = decide(terms, metrics, replicas, offers, at * 30.0)
        spent.append((time.process_time() - began) * 1000)
        terms = replace(terms, memory=decision.memory)
    return median(spent)


def tables() -> str:
    lines = [
        "| % available / cost | " + " | ".join(f"{name}: published | ours" for name in TRACE_SETS) + " |",
        "|---|" + "---|---|" * len(TRACE_SETS),
    ]
    known: dict[tuple[str, str, float], Row] = {}
    for label, policy, notice in _ROWS:
        cells = []
        for name in TRACE_SETS:
            found = row(scenario(zones_of(FOLDER / name), notice=notice), policy)
            known[name, str(policy), notice] = found
            theirs = PUBLISHED[name].get(str(policy) if policy is not None else "least")
            cells += [
                f"{theirs[0]:g} / {theirs[1]:g}" if theirs else "",
                f"{found.available:.2f} / {found.cost:.1f}",
            ]
        lines.append(f"| {label} | {' | '.join(cells)} |")
        print(lines[-1], file=sys.stderr, flush=True)
    lines += [
        "",
        "| What | " + " | ".join(TRACE_SETS) + " | Target |",
        "|---|" + "---|" * len(TRACE_SETS) + "---|",
    ]
    hedge = {name: known[name, str(HEDGE), 0] for name in TRACE_SETS}
    for label, policy, notice, target in (
        ("a notice of 120 s and no spare, over SpotHedge with 1", NOTICED, 120, ">= 0 / <= -8"),
        ("no notice and no spare, over SpotHedge with 1", PLAIN, 0, ">= -0.6 / <= -9"),
    ):
        points = [
            f"{known[name, str(policy), notice].available - hedge[name].available:+.2f} / "
            f"{known[name, str(policy), notice].cost - hedge[name].cost:+.1f}"
            for name in TRACE_SETS
        ]
        lines.append(f"| {label} | {' | '.join(points)} | {target} |")
    points = [
        f"{hedge[name].available - REFERENCE[name][0]:+.2f} / {hedge[name].cost - REFERENCE[name][1]:+.1f}"
        for name in TRACE_SETS
    ]
    lines.append(f"| {_REPRODUCED} | {' | '.join(points)} | within 0.5 / within 1.5 |")
    lines += ["", "Longer cold starts, with a notice of 120 s where there is any:", ""]
    settings = (("SpotHedge, 1 spare", HEDGE), ("notice, no spare", NOTICED))
    settings += (("notice, 1 spare", PlacementName(ServiceKind.NOTICE, 1)),)
    lines += [
        "| cold start | "
        + " | ".join(f"{name}: {label}" for name in TRACE_SETS for label, _ in settings)
        + " |",
        "|---|" + "---|" * len(settings) * len(TRACE_SETS),
    ]
    for cold_start in COLD_STARTS:
        found_rows = [
            row(scenario(zones_of(FOLDER / name), notice=120, cold_start=cold_start), policy)
            for name in TRACE_SETS
            for _, policy in settings
        ]
        cells = [f"{one.available:.2f} / {one.cost:.1f}" for one in found_rows]
        lines.append(f"| {cold_start:g} s | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.serving", description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables into this page")
    options = parser.parse_args()
    if not present():
        parser.error(f"there are no traces in {FOLDER}: name the folder above it in STIX_TRACES")
    write_or_print(parser, options.write, _MARKS, tables())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
