"""``stix simulate serve``: the autoscaler and the placement of services on recorded spot availability."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stix.cli.amounts import plural
from stix.cli.session import Session
from stix.cli.tables import Column, output_option, print_json, say_folded, table
from stix.cli.trace_options import (
    Hours,
    market_prices,
    named_policies,
    price_options,
    start_options,
    start_ticks,
    traces_options,
    write_plot,
)
from stix.model.errors import InvalidInputError

if TYPE_CHECKING:
    from stix.model.service import ReplicaPolicy
    from stix.simulate.requests import Requests
    from stix.simulate.service import ServiceStep
    from stix.simulate.service_study import PlacementName, ServiceResult, ServiceScenario

__all__ = ["serve_command"]

_POLICIES = "single-zone,even-spread,round-robin,spothedge:1,notice"
_COLUMNS = [
    Column("POLICY"),
    Column("COST", right=True),
    Column("AVAIL %", right=True),
    Column("SPOT H", right=True),
    Column("ON-DEM H", right=True),
    Column("LOST", right=True),
]
_LATENCIES = [Column("P50 S", right=True), Column("P90 S", right=True), Column("P99 S", right=True)]


@click.command("serve", short_help="A service on spot machines: cost, availability, latency.")
@traces_options
@click.option(
    "--load",
    type=click.Path(path_type=Path),
    help="Requests: a line each that begins with its time, or JSON as the traces are, with requests a tick.",
)
@click.option(
    "--task", type=click.Path(path_type=Path), help="Take the replica policy of this task's service."
)
@click.option("--replicas", type=click.IntRange(1, 1000), help="A fixed number of replicas.  [default: 3]")
@click.option("--min-replicas", type=click.IntRange(0, 1000), help="With --target-qps.")
@click.option("--max-replicas", type=click.IntRange(1, 1000), help="With --target-qps.")
@click.option("--target-qps", type=click.FloatRange(0, min_open=True), help="Requests/s for each replica.")
@click.option(
    "--replica-qps",
    type=click.FloatRange(0, min_open=True),
    help="Requests/s that a replica can answer.  [default: a quarter more than its target]",
)
@click.option(
    "--request-seconds",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    show_default=True,
    help="How long a request takes alone.",
)
@click.option(
    "--policy",
    help="Policies, by commas, with :N for N spare spot replicas: single-zone, best-zone, even-spread, "
    f"round-robin, spothedge, notice; service: as --task says.  [default: {_POLICIES}]",
)
@click.option(
    "--hours", type=Hours(), help="How long each run is.  [default: 24, or as long as the requests]"
)
@click.option("--tick", type=Hours(), default="30s", show_default=True, help="Time between two looks.")
@click.option("--cold-start", type=Hours(0.0), default="2m", show_default=True, help="From launch to ready.")
@click.option(
    "--notice", type=Hours(0.0), default="2m", show_default=True, help="How long before a loss it is told."
)
@click.option("--unlimited", is_flag=True, help="Where a trace has any machine, there are as many as wanted.")
@price_options
@start_options
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Draw the first start as SVG.")
@output_option
@click.pass_obj
def serve_command(
    session: Session,
    /,
    given: tuple[Path, ...],
    more: tuple[Path, ...],
    load: Path | None,
    policy: str | None,
    output: str,
    plot: Path | None,
    **flags: Any,
) -> None:
    """What a service on spot machines costs, and how available it is, by each placement.

    COST is relative to on-demand alone. AVAIL is the share of time with as many ready replicas as wanted.
    notice is what the product does: stand-ins start when a loss is announced; spothedge is the same without
    announcements. A trace is a JSON file {"metadata": {"gap_seconds": 300}, "data": [1, 0, 4]}: machines to
    be had in each tick.
    """
    if not (given or more):
        raise click.UsageError("Give --traces: a trace file, or a folder of them.")
    from stix.simulate.service_study import PlacementName, ServiceKind, run_least, run_service

    names = _names(policy, flags["task"])
    scenario = _scenario(session, [*given, *more], load, flags)
    reference, reference_steps = run_service(scenario, PlacementName(ServiceKind.ON_DEMAND))
    runs: list[tuple[ServiceResult, list[ServiceStep]]] = [run_service(scenario, name) for name in names]
    least = run_least(scenario, [step.target for step in reference_steps])
    results = [*(result for result, _ in runs), reference, least]
    if plot is not None:
        from stix.simulate.plot import draw_service

        drawn = [(result.policy, steps) for result, steps in [*runs, (reference, reference_steps)]]
        write_plot(plot, draw_service(drawn, tick=scenario.world.tick))
    if output == "json":
        print_json(session, _document(scenario, results, reference))
    else:
        _show(session, scenario, results, reference)
        if plot is not None:
            session.note(f"Drawn: {plot}")


def _names(text: str | None, task: Path | None) -> list[PlacementName]:
    from stix.simulate.service_study import PlacementName, ServiceKind

    kinds = {one.value: one for one in ServiceKind if one is not ServiceKind.ON_DEMAND}
    if task is None:
        del kinds[ServiceKind.SERVICE]
    spares = {name for name, kind in kinds.items() if kind.takes_spares}
    chosen = text if text is not None else f"{_POLICIES},service" if task is not None else _POLICIES
    found = named_policies(chosen, kinds, spares, example="spothedge:1 for one spare replica", always=False)
    return [PlacementName(kinds[name], number) for name, number in found]


def _scenario(
    session: Session, places: list[Path], load: Path | None, flags: dict[str, Any]
) -> ServiceScenario:
    from stix.simulate.replay import zone_of
    from stix.simulate.requests import read_requests
    from stix.simulate.service import World
    from stix.simulate.service_study import ServiceScenario
    from stix.simulate.traces import find_traces, read_traces

    tick = flags["tick"]
    for name in ("cold_start", "notice"):
        if flags[name] % tick > 1e-6:
            raise InvalidInputError(
                f"--{name.replace('_', '-')}: {flags[name]:g} s are no whole number of ticks of {tick:g} s.",
                hint="Give --tick a length that divides it.",
            )
    policy = _policy(flags)
    if policy.targets and load is None:
        raise InvalidInputError(
            f"{policy.targets[0]} needs requests.", hint="Give --load, or --replicas for a fixed number."
        )
    requests = read_requests(load, tick) if load is not None else None
    traces = [trace.every(tick) for trace in read_traces(find_traces(places))]
    spot, on_demand = market_prices(session, flags, traces)
    zones = tuple(
        zone_of(
            trace.name,
            tuple(100_000 if count and flags["unlimited"] else count for count in trace.counts),
            spot,
            trace.prices if flags["trace_prices"] else None,
        )
        for trace in traces
    )
    paid = replace(
        zones[0],
        prices=None,
        offer=zones[0].offer.model_copy(update={"spot": False, "price": on_demand, "zone": "on-demand"}),
    )
    world = World(
        zones,
        paid,
        tick,
        flags["cold_start"],
        flags["notice"],
        replica_rate=_replica_rate(policy, flags) if requests is not None else 1.0,
        request_seconds=flags["request_seconds"],
    )
    ticks = _ticks(requests, flags)
    length = min(len(zone.up) for zone in zones)
    starts = start_ticks(flags, length, ticks, tick, f"A run of {ticks * tick / 3600:g} h")
    return ServiceScenario(policy, world, starts, ticks, requests)


def _policy(flags: dict[str, Any]) -> ReplicaPolicy:
    from stix.model.service import ReplicaPolicy
    from stix.model.task import Task

    bounds = ("min_replicas", "max_replicas", "target_qps")
    scaled = [f"--{name.replace('_', '-')}" for name in bounds if flags[name] is not None]
    ways = [name for name in ("task", "replicas") if flags[name] is not None] + (
        ["target-qps"] if scaled else []
    )
    if len(ways) > 1:
        raise click.UsageError(f"--{ways[0]} and --{ways[1]} both say how many replicas: leave one out.")
    if flags["task"] is not None:
        service = Task.from_yaml(flags["task"]).service
        if service is None:
            raise InvalidInputError(f"--task: {flags['task']} has no service.", hint="Add service: to it.")
        return service.replica_policy
    if not scaled:
        return ReplicaPolicy(flags["replicas"] or 3)
    if flags["target_qps"] is None or flags["max_replicas"] is None:
        raise click.UsageError(f"{scaled[0]} needs both --target-qps and --max-replicas.")
    least, most = flags["min_replicas"] or 0, flags["max_replicas"]
    if least > most:
        raise InvalidInputError(f"--max-replicas: {most} is below --min-replicas, {least}.")
    return ReplicaPolicy(least, most, target_qps_per_replica=flags["target_qps"])


def _replica_rate(policy: ReplicaPolicy, flags: dict[str, Any]) -> float:
    if flags["replica_qps"] is not None:
        return float(flags["replica_qps"])
    target = policy.target_qps_per_replica
    if isinstance(target, float):
        return target * 1.25
    raise InvalidInputError(
        "--load: nothing says how many requests/s a replica can answer.", hint="Give --replica-qps."
    )


def _ticks(requests: Requests | None, flags: dict[str, Any]) -> int:
    hours: float | None = flags["hours"]
    tick: float = flags["tick"]
    if hours is None:
        return len(requests.counts) if requests is not None else max(round(86400.0 / tick), 1)
    ticks = max(round(hours / tick), 1)
    if requests is not None and ticks > len(requests.counts):
        known = len(requests.counts) * tick / 3600
        raise InvalidInputError(
            f"--hours: {hours / 3600:g} h are longer than the requests, {known:.4g} h.",
            hint="Leave it out to take all of them.",
        )
    return ticks


def _show(
    session: Session, scenario: ServiceScenario, results: list[ServiceResult], reference: ServiceResult
) -> None:
    world, policy = scenario.world, scenario.policy
    wanted = plural(policy.min_replicas, "replica")
    if policy.targets:
        wanted = f"{policy.min_replicas} to {plural(policy.max_replicas or 0, 'replica')}"
    ratio = world.paid.offer.price / world.zones[0].offer.price
    say_folded(
        session,
        f"{plural(len(scenario.starts), 'run')} of {scenario.ticks * world.tick / 3600:.4g} h over "
        f"{plural(len(world.zones), 'zone')}: {wanted}, {world.cold_start:g} s a cold start, "
        f"{world.notice:g} s of notice; on-demand {world.paid.offer.price:.4g} USD/h, "
        f"{ratio:.4g} times spot.",
    )
    rows = []
    for one in results:
        known = bool(one.available)
        row = [
            one.policy,
            f"{one.cost / reference.cost:.4f}" if reference.cost else "-",
            f"{100 * one.availability:.2f}" if known else "-",
            f"{one.spot_hours:.1f}" if known else "-",
            f"{one.on_demand_hours:.1f}" if known else "-",
            str(one.preemptions) if known else "-",
        ]
        if scenario.requests is not None:
            row += [_seconds(value) for value in one.latencies or (None,) * 3]
        rows.append(row)
    table(session, [*_COLUMNS, *(_LATENCIES if scenario.requests is not None else [])], rows)
    waiting = [one.policy for one in results if one.unanswered >= 1]
    if waiting:
        session.note(f"Requests still waited at the end: {', '.join(waiting)}.")


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}" if value < 100 else f"{value:.0f}"


def _document(
    scenario: ServiceScenario, results: list[ServiceResult], reference: ServiceResult
) -> dict[str, Any]:
    world = scenario.world
    return {
        "zones": [zone.offer.zone for zone in world.zones],
        "tick_seconds": world.tick,
        "ticks": scenario.ticks,
        "cold_start_seconds": world.cold_start,
        "notice_seconds": world.notice,
        "starts": list(scenario.starts),
        "requests": scenario.requests.total if scenario.requests is not None else None,
        "policies": [
            {
                "policy": one.policy,
                "cost": one.cost / reference.cost if reference.cost else None,
                "usd": list(one.costs),
                "availability": list(one.available) or None,
                "spot_hours": one.spot_hours if one.available else None,
                "on_demand_hours": one.on_demand_hours if one.available else None,
                "preemptions": one.preemptions if one.available else None,
                "launches": one.launches if one.available else None,
                "latency_seconds": dict(zip(("p50", "p90", "p99"), one.latencies, strict=False)) or None,
                "unanswered": one.unanswered if one.latencies else None,
            }
            for one in results
        ],
    }
