"""``stix simulate``: recovery policies on recorded spot availability. Needs no account and no control
plane."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stix.cli.amounts import plural
from stix.cli.session import Session
from stix.cli.tables import Column, output_option, print_json, say_folded, table
from stix.model.errors import InvalidInputError

if TYPE_CHECKING:
    from stix.simulate.replay import Step
    from stix.simulate.settings import PolicyName
    from stix.simulate.study import Result, Scenario

__all__ = ["simulate_command"]

_LONGEST = 366 * 86400.0
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


class Hours(click.ParamType[float]):
    """A length of time above 0, with a unit or in hours; 0 only where ``least`` is 0. In seconds."""

    name = "time"

    def __init__(self, least: float = 1.0):
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from stix.model.durations import parse_duration

        if isinstance(value, float):
            return value
        try:
            seconds = float(value) * 3600.0
        except ValueError:
            try:
                seconds = float(parse_duration(value))
            except ValueError:
                self.fail(
                    f"'{value}' is not a length of time. Write hours as 48, or 90m, 1h30m, 2d.", param, ctx
                )
        if not self._least <= seconds <= _LONGEST:
            self.fail(f"'{value}' is not between {self._least:g} seconds and a year.", param, ctx)
        return round(seconds, 3)


@click.group("simulate", short_help="Try recovery policies on recorded spot availability.")
def simulate_command() -> None:
    """Replay recorded spot availability through the policies that managed jobs use."""


@simulate_command.command("jobs")
@click.option(
    "--traces", "given", type=click.Path(path_type=Path), multiple=True, help="A trace, or a folder of them."
)
@click.argument("more", nargs=-1, type=click.Path(path_type=Path), metavar="[TRACE]...")
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
@click.option("--on-demand-price", type=click.FloatRange(0, min_open=True), help="USD an hour.")
@click.option("--spot-price", type=click.FloatRange(0, min_open=True), help="USD an hour, in every zone.")
@click.option(
    "--k", "ratio", type=click.FloatRange(1, min_open=True), help="On-demand price over spot price."
)
@click.option("--instance-type", help="Take both prices from the catalog: the cheapest place's.")
@click.option("--trace-prices", is_flag=True, help="Take spot prices from the traces.")
@click.option("--nodes", type=click.IntRange(1), default=1, show_default=True, help="Machines of the job.")
@click.option(
    "--starts",
    default="10",
    show_default=True,
    help="How many, evenly spread, or a file: a JSON list of ticks.",
)
@click.option("--offset", type=Hours(0.0), help="One start, so long after the traces begin.")
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
        try:
            plot.write_text(picture, encoding="utf-8")
        except OSError as exc:
            raise InvalidInputError(f"--plot: {plot} cannot be written: {exc.strerror}.") from exc
    if output == "json":
        print_json(session, _document(scenarios, results))
    else:
        _show(session, scenarios, results)
        if plot is not None:
            session.note(f"Drawn: {plot}")


def _policies(text: str) -> list[PolicyName]:
    from difflib import get_close_matches

    from stix.recovery.situation import Policy
    from stix.simulate.settings import PolicyName

    names = []
    known = {one.value: one for one in Policy if one is not Policy.NONE}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, slices = part.partition(":")
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"Did you mean '{near[0]}'?" if near else f"There are {', '.join(known)}."
            raise InvalidInputError(f"--policy: '{name}' is not a policy.", hint=hint)
        takes = known[name] is Policy.SLICED
        if takes != bool(slices) or (slices and not (slices.isdecimal() and 1 <= int(slices) <= 1000)):
            hint = "Write sliced:8 for eight slices; no other policy takes a number."
            raise InvalidInputError(f"--policy: '{part}' cannot be read.", hint=hint)
        names.append(PolicyName(known[name], int(slices) if slices else 1))
    if not names:
        raise InvalidInputError("--policy names no policy.", hint=f"There are {', '.join(known)}.")
    return names


def _scenarios(session: Session, places: list[Path], flags: dict[str, Any]) -> list[Scenario]:
    from stix.recovery.decide import can_meet
    from stix.recovery.situation import Policy
    from stix.simulate.replay import zone_of
    from stix.simulate.settings import PolicyName, Setting
    from stix.simulate.study import Scenario
    from stix.simulate.traces import find_traces, read_traces

    traces = read_traces(find_traces(places))
    gaps = {trace.gap for trace in traces}
    if len(gaps) > 1 and not flags["each"]:
        shown = ", ".join(f"{trace.name} {trace.gap:g} s" for trace in traces[:4])
        raise InvalidInputError(
            f"--traces: their ticks differ ({shown}).",
            hint="Zones of one job need one length of tick; --each takes every trace on its own.",
        )
    bare = [trace.name for trace in traces if trace.prices is None]
    if flags["trace_prices"] and bare:
        raise InvalidInputError(
            f"--trace-prices: {bare[0]} has no prices.", hint="Give --spot-price instead."
        )
    if flags["trace_prices"]:
        # Policies weigh on-demand against the mean of what spot costs.
        paid = [price for trace in traces for price in trace.prices or ()]
        flags["spot_price"] = flags["spot_price"] or sum(paid) / len(paid)
    spot, on_demand = _prices(session, flags)
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
        starts = _starts(flags, length, setting.ticks(tick), tick, group[0].name)
        scenarios.append(Scenario(zones, tick, setting, on_demand, starts))
    return scenarios


def _prices(session: Session, flags: dict[str, Any]) -> tuple[float, float]:
    """Of spot and on-demand, USD an hour; without any, spot costs 1 and on-demand 3."""
    spot, on_demand, ratio = flags["spot_price"], flags["on_demand_price"], flags["ratio"]
    if flags["instance_type"]:
        spot_found, on_demand_found = _catalog_prices(session, flags["instance_type"])
        spot, on_demand = spot or spot_found, on_demand or on_demand_found
    if ratio is not None and spot is not None and on_demand is not None:
        raise click.UsageError("--k says what both prices say: leave one of the three out.")
    if spot is None:
        spot = on_demand / (ratio or 3.0) if on_demand is not None else 1.0
    if on_demand is None:
        on_demand = spot * (ratio or 3.0)
    if on_demand <= spot:
        raise InvalidInputError(
            f"--spot-price: {spot:g} is not below the on-demand price {on_demand:g}.",
            hint="Spot that saves nothing needs no policy.",
        )
    return spot, on_demand


def _catalog_prices(session: Session, instance_type: str) -> tuple[float | None, float | None]:
    from stix.catalog.snapshot import active_catalog
    from stix.optimizer.request import Machine

    index = active_catalog(session.home).open()
    try:
        need = Machine(instance_type=instance_type)
        found = [index.best_per_place(need, spot=spot)[:1] for spot in (True, False)]
    finally:
        index.close()
    if not found[1]:
        raise InvalidInputError(f"--instance-type: the catalog has no machine '{instance_type}'.")
    if not found[0]:
        raise InvalidInputError(
            f"--instance-type: '{instance_type}' has no spot price.", hint="Give --spot-price."
        )
    return found[0][0].price, found[1][0].price


def _starts(flags: dict[str, Any], length: int, ticks: int, tick: float, name: str) -> tuple[int, ...]:
    """Ticks to start in; each leaves the deadline inside the trace."""
    from stix.simulate.grid import even_starts

    needed = (
        f"A deadline of {flags['deadline'] / 3600:g} h needs {ticks} ticks of {name}, which has {length}."
    )
    if flags["offset"] is not None:
        starts = [int(flags["offset"] // tick)]
        source = "--offset"
    elif flags["starts"].isdecimal() and int(flags["starts"]) > 0:
        starts, source = even_starts(length, ticks, int(flags["starts"])), "--traces"
    else:
        starts, source = _read_starts(Path(flags["starts"])), "--starts"
    if not starts or max(starts) + ticks > length:
        raise InvalidInputError(f"{source}: a job would run beyond the trace's end.", hint=needed)
    return tuple(starts)


def _read_starts(file: Path) -> list[int]:
    import json

    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise InvalidInputError(
            f"--starts: {file} is neither a number above 0 nor a JSON file: {exc}.",
            hint="Give a number of starts, or a file with a list of ticks as [0, 144].",
        ) from exc
    good = isinstance(found, list) and found and all(type(one) is int and one >= 0 for one in found)
    if not good:
        raise InvalidInputError(f"--starts: {file} is not a list of ticks, as [0, 144].")
    return list(found)


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
