"""``stix simulate``: recovery policies and services on recorded spot availability. Needs no account and no
control plane."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stix.cli.amounts import plural
from stix.cli.session import Session
from stix.cli.simulate_serve import serve_command
from stix.cli.tables import Column, output_option, print_json, say_folded, table
from stix.cli.trace_options import (
    Hours,
    market_prices,
    named_policies,
    one_tick,
    price_options,
    start_options,
    start_ticks,
    traces_options,
    write_plot,
)
from stix.model.errors import InvalidInputError

if TYPE_CHECKING:
    from stix.simulate.replay import Step
    from stix.simulate.settings import PolicyName
    from stix.simulate.study import Result, Scenario

__all__ = ["simulate_command"]

_POLICIES = "late-uniform,uniform,greedy"
_COLUMNS = [
    Column("POLICY"),
    Column("COST", right=True),
    Column("WORST", right=True),
    Column("SPOT H", right=True),
    Column("ON-DEM H", right=True),
    Column("PREEMPTED", right=True),
    Column("MISSED", right=True),
]


@click.group("simulate", short_help="Try spot policies on recorded availability.")
@click.pass_obj
def simulate_command(session: Session) -> None:
    """Replay recorded spot availability through the policies that managed jobs and services use."""
    from stix.control_plane import open_control_plane

    open_control_plane(session.home)  # which has the policies


simulate_command.add_command(serve_command)


@simulate_command.command("jobs")
@traces_options
@click.option(
    "--policy",
    default=_POLICIES,
    show_default=True,
    help="Policies, by commas: FAILOVER, EAGER_NEXT_REGION, greedy, sliced:N, uniform-plain, uniform, "
    "uniform-oracle, late-uniform, history.",
)
@click.option("--compute-hours", type=Hours(), default="48", show_default=True, help="Work of the job.")
@click.option("--deadline", type=Hours(), default="60", show_default=True, help="From the job's start.")
@click.option(
    "--changeover", type=Hours(0.0), default="12m", show_default=True, help="What every start costs."
)
@price_options
@click.option("--nodes", type=click.IntRange(1), default=1, show_default=True, help="Machines of the job.")
@start_options
@click.option("--each", is_flag=True, help="Every trace on its own; without it a job may use them all.")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Draw the first start as SVG.")
@output_option
@click.pass_obj
def jobs_command(
    session: Session,
    /,
    given: tuple[Path, ...],
    more: tuple[Path, ...],
    policy: str,
    output: str,
    plot: Path | None,
    **flags: Any,
) -> None:
    """What a job with a deadline costs under each policy, beside on-demand and the omniscient optimum.

    COST is relative to on-demand alone; WORST is that of the dearest start. A trace is a JSON file
    {"metadata": {"gap_seconds": 600}, "data": [1, 0, 4]}: machines to be had in each tick.
    """
    if not (given or more):
        raise click.UsageError("Give --traces: a trace file, or a folder of them.")
    missing = [name for name in ("numpy", "numba") if find_spec(name) is None]
    if missing:
        raise InvalidInputError(
            f"stix simulate needs {' and '.join(missing)}.", hint='Run: pip install "stix-cloud[simulate]"'
        )
    from stix.simulate.plot import draw
    from stix.simulate.study import run_policy, run_references

    names = _policies(policy)
    scenarios = _scenarios(session, [*given, *more], flags)
    results: dict[str, list[Result]] = {}
    drawn: list[tuple[str, list[Step]]] = []
    for scenario in scenarios:
        for name in names:
            result, steps = run_policy(scenario, name)
            results.setdefault(str(name), []).append(result)
            if scenario is scenarios[0]:
                drawn.append((str(name), steps))
        for result in run_references(scenario):
            results.setdefault(result.policy, []).append(result)
    first = scenarios[0]
    if plot is not None:
        picture = draw(drawn, tick=first.tick, work=first.setting.work, deadline=first.setting.deadline)
        write_plot(plot, picture)
    if output == "json":
        print_json(session, _document(scenarios, results))
    else:
        _show(session, scenarios, results)
        if plot is not None:
            session.note(f"Drawn: {plot}")


def _policies(text: str) -> list[PolicyName]:
    from stix.recovery.situation import Policy
    from stix.simulate.settings import PolicyName

    known = {one.value: one for one in Policy if one is not Policy.NONE}
    return [
        PolicyName(known[name], number or 1)
        for name, number in named_policies(text, known, {"sliced"}, example="sliced:8 for eight slices")
    ]


def _scenarios(session: Session, places: list[Path], flags: dict[str, Any]) -> list[Scenario]:
    from stix.recovery.decide import can_meet
    from stix.recovery.situation import Policy
    from stix.simulate.replay import zone_of
    from stix.simulate.settings import PolicyName, Setting
    from stix.simulate.study import Scenario
    from stix.simulate.traces import find_traces, read_traces

    traces = read_traces(find_traces(places))
    if not flags["each"]:
        one_tick(traces, "--each takes every trace on its own")
    spot, on_demand = market_prices(session, flags, traces)
    setting = Setting(flags["compute_hours"], flags["deadline"], flags["changeover"], on_demand / spot)
    scenarios = []
    for group in [[trace] for trace in traces] if flags["each"] else [traces]:
        zones = tuple(
            zone_of(
                trace.name,
                trace.available(flags["nodes"]),
                spot,
                trace.prices if flags["trace_prices"] else None,
            )
            for trace in group
        )
        tick = group[0].gap
        verdict = can_meet(setting.terms(PolicyName(Policy.GREEDY), tick), 0.0)
        if not verdict.possible:
            raise InvalidInputError(
                f"--deadline: it cannot be met for certain: {verdict.reason}.",
                hint=f"The first that can be is {verdict.earliest / 3600:.4g} hours.",
            )
        length = min(len(zone.up) for zone in zones)
        starts = start_ticks(
            flags, length, setting.ticks(tick), tick, f"A deadline of {flags['deadline'] / 3600:g} h"
        )
        scenarios.append(Scenario(zones, tick, setting, on_demand, starts))
    return scenarios


def _show(session: Session, scenarios: list[Scenario], results: dict[str, list[Result]]) -> None:
    setting, first = scenarios[0].setting, scenarios[0]
    count = sum(len(scenario.starts) for scenario in scenarios)
    zones = sum(len(scenario.zones) for scenario in scenarios)
    how = f"{zones} traces, each on its own" if len(scenarios) > 1 else plural(zones, "zone")
    say_folded(
        session,
        f"{plural(count, 'job')} over {how}: {setting.work / 3600:g} h of work by "
        f"{setting.deadline / 3600:g} h, {setting.changeover / 60:g} min a start; on-demand "
        f"{first.on_demand_price:.4g} USD/h, {setting.price_ratio:.4g} times spot.",
    )
    rows = []
    for name, parts in results.items():
        known = name != "omniscient"
        spot = sum(part.spot_hours * len(part.costs) for part in parts) / count
        paid = sum(part.on_demand_hours * len(part.costs) for part in parts) / count
        rows.append(
            (
                name,
                f"{sum(sum(part.costs) for part in parts) / count:.4f}",
                f"{max(part.worst for part in parts):.4f}",
                f"{spot:.1f}" if known else "-",
                f"{paid:.1f}" if known else "-",
                str(sum(part.preemptions for part in parts)) if known else "-",
                str(sum(part.missed for part in parts)) if known else "-",
            )
        )
    table(session, _COLUMNS, rows)


def _document(scenarios: list[Scenario], results: dict[str, list[Result]]) -> dict[str, Any]:
    setting = scenarios[0].setting
    return {
        "work_seconds": setting.work,
        "deadline_seconds": setting.deadline,
        "changeover_seconds": setting.changeover,
        "price_ratio": setting.price_ratio,
        "groups": [
            {
                "traces": [zone.offer.zone for zone in scenario.zones],
                "tick_seconds": scenario.tick,
                "starts": list(scenario.starts),
                "policies": [
                    {
                        "policy": name,
                        "cost": parts[at].cost,
                        "worst": parts[at].worst,
                        "costs": list(parts[at].costs),
                        "spot_hours": parts[at].spot_hours,
                        "on_demand_hours": parts[at].on_demand_hours,
                        "preemptions": parts[at].preemptions,
                        "starts": parts[at].starts,
                        "missed_deadlines": parts[at].missed,
                    }
                    for name, parts in results.items()
                ],
            }
            for at, scenario in enumerate(scenarios)
        ],
    }
