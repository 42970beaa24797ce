"""What ``stix simulate`` takes for jobs and for services alike: traces, prices, starts, names of policies."""

from __future__ import annotations

from collections.abc import Callable, Collection
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from stix.cli.session import Session
from stix.model.errors import InvalidInputError

if TYPE_CHECKING:
    from stix.simulate.traces import Trace

__all__ = [
    "Hours",
    "market_prices",
    "named_policies",
    "one_tick",
    "price_options",
    "start_options",
    "start_ticks",
    "traces_options",
    "write_plot",
]

_LONGEST = 366 * 86400.0
_Command = TypeVar("_Command", bound=Callable[..., Any])


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


def _together(*options: Callable[[Any], Any]) -> Callable[[_Command], _Command]:
    def decorate(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


traces_options = _together(
    click.option(
        "--traces",
        "given",
        type=click.Path(path_type=Path),
        multiple=True,
        help="A trace, or a folder of them.",
    ),
    click.argument("more", nargs=-1, type=click.Path(path_type=Path), metavar="[TRACE]..."),
)
price_options = _together(
    click.option("--on-demand-price", type=click.FloatRange(0, min_open=True), help="USD an hour."),
    click.option("--spot-price", type=click.FloatRange(0, min_open=True), help="USD an hour, in every zone."),
    click.option(
        "--k", "ratio", type=click.FloatRange(1, min_open=True), help="On-demand price over spot price."
    ),
    click.option("--instance-type", help="Take both prices from the catalog: the cheapest place's."),
    click.option("--trace-prices", is_flag=True, help="Take spot prices from the traces."),
)
start_options = _together(
    click.option(
        "--starts",
        default="10",
        show_default=True,
        help="How many, evenly spread, or a file: a JSON list of ticks.",
    ),
    click.option("--offset", type=Hours(0.0), help="One start, so long after the traces begin."),
)


def named_policies(
    text: str, known: Collection[str], numbered: Collection[str], *, example: str, always: bool = True
) -> list[tuple[str, int]]:
    """Names by commas, those of ``numbered`` with a number behind a colon: needed with ``always``, else 0
    without it."""
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, colon, number = part.partition(":")
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"Did you mean '{near[0]}'?" if near else f"There are {', '.join(known)}."
            raise InvalidInputError(f"--policy: '{name}' is not a policy.", hint=hint)
        missing = name in numbered and always and not colon
        good = name in numbered and number.isdecimal() and 1 <= int(number) <= 1000
        if missing or (colon and not good):
            hint = (
                f"Write {example}; only {', '.join(one for one in known if one in numbered)} takes a number."
            )
            raise InvalidInputError(f"--policy: '{part}' cannot be read.", hint=hint)
        found.append((name, int(number) if colon else 0))
    if not found:
        raise InvalidInputError("--policy names no policy.", hint=f"There are {', '.join(known)}.")
    return found


def one_tick(traces: list[Trace], otherwise: str) -> None:
    """Zones of one job or service have one length of tick. Raises ``InvalidInputError``."""
    if len({trace.gap for trace in traces}) > 1:
        shown = ", ".join(f"{trace.name} {trace.gap:g} s" for trace in traces[:4])
        raise InvalidInputError(
            f"--traces: their ticks differ ({shown}).",
            hint=f"Zones that are used together need one length of tick; {otherwise}.",
        )


def market_prices(session: Session, flags: dict[str, Any], traces: list[Trace]) -> tuple[float, float]:
    """Of spot and on-demand, USD an hour; without any, spot costs 1 and on-demand 3. Of traces' own prices
    the mean, against which policies weigh on-demand."""
    bare = [trace.name for trace in traces if trace.prices is None]
    if flags["trace_prices"] and bare:
        raise InvalidInputError(
            f"--trace-prices: {bare[0]} has no prices.", hint="Give --spot-price instead."
        )
    spot, on_demand, ratio = flags["spot_price"], flags["on_demand_price"], flags["ratio"]
    if flags["trace_prices"] and spot is None:
        paid = [price for trace in traces for price in trace.prices or ()]
        spot = sum(paid) / len(paid)
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


def start_ticks(flags: dict[str, Any], length: int, ticks: int, tick: float, what: str) -> tuple[int, ...]:
    """Ticks to start in; each leaves ``what``, ``ticks`` long, inside the trace."""
    from stix.simulate.traces import even_starts

    needed = f"{what} needs {ticks} ticks, and the traces have {length}."
    if flags["offset"] is not None:
        starts = [int(flags["offset"] // tick)]
        source = "--offset"
    elif flags["starts"].isdecimal() and int(flags["starts"]) > 0:
        starts, source = even_starts(length, ticks, int(flags["starts"])), "--traces"
    else:
        starts, source = _read_starts(Path(flags["starts"])), "--starts"
    if not starts or max(starts) + ticks > length:
        raise InvalidInputError(f"{source}: it would run beyond the trace's end.", hint=needed)
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


def write_plot(plot: Path, picture: str) -> None:
    try:
        plot.write_text(picture, encoding="utf-8")
    except OSError as exc:
        raise InvalidInputError(f"--plot: {plot} cannot be written: {exc.strerror}.") from exc
