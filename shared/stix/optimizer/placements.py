"""Where one task can run: every place's best offer with the task's cost there, and the ranked list of
them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

from stix.optimizer.catalog import AcceleratorFacts, Catalog, PricedOffer
from stix.optimizer.estimate import expand, seconds_on
from stix.optimizer.front import knee, pareto
from stix.optimizer.held import Held, fits
from stix.optimizer.rates import Rates
from stix.optimizer.request import Alternative, Block, DataSource, Objective, TaskRequest

__all__ = ["HEAD", "Chooser", "Placement", "RankedPlacement", "Ranking"]

_Key = Callable[["Placement"], tuple[Any, ...]]
HEAD = 200
"""How many placements of a ranked list are made at once."""


class Placement(NamedTuple):
    """A task on ``num_nodes`` machines of one offer. USD per hour and in all, for all nodes with their disks;
    seconds. ``alternative``: the index of what was asked. ``held_as``: what is already paid for."""

    offer: PricedOffer
    alternative: int
    num_nodes: int
    hourly: float
    cost: float
    seconds: float
    held_as: str = ""


class RankedPlacement(NamedTuple):
    rank: int
    placement: Placement
    reason: str


@dataclass(frozen=True, slots=True)
class _Choice:
    """An alternative of which nothing is open but the place."""

    asked: int
    alternative: Alternative
    seconds: float


class Chooser:
    """The placements of one task. ``by_speed``: an estimate that names no accelerator is scaled by their
    peaks."""

    def __init__(
        self,
        task: TaskRequest,
        catalog: Catalog,
        rates: Rates,
        facts: Mapping[str, AcceleratorFacts],
        *,
        blocked: Sequence[Block] = (),
        clouds: frozenset[str] | None = None,
        held: Sequence[Held] = (),
        by_speed: bool = False,
    ):
        self.task = task
        self._catalog = catalog
        self._rates = rates
        self._blocked = [block for block in blocked if not _is_region(block)]
        self._blocked_regions = {(block.cloud, block.region) for block in blocked if _is_region(block)}
        self._clouds = clouds
        self._held = held
        self._choices = self._expanded(facts, by_speed)

    def _expanded(self, facts: Mapping[str, AcceleratorFacts], by_speed: bool) -> list[_Choice]:
        by_memory = any(one.machine.accelerator_by_memory is not None for one in self.task.alternatives)
        memory = self._catalog.accelerator_memory() if by_memory else {}
        expanded = [
            (asked, one)
            for asked, alternative in enumerate(self.task.alternatives)
            for one in expand(alternative, memory, facts)
        ]
        return [
            _Choice(asked, one, seconds_on(self.task, one, expanded[0][1], facts, by_speed=by_speed))
            for asked, one in expanded
        ]

    def best(self, *, per_region: bool = False) -> list[Placement]:
        """The best placement of every place (or region) for every alternative and accelerator."""
        found: list[Placement] = []
        for choice in self._choices:
            found += self._placed(choice, self._offers(choice.alternative, per_region))
        return found

    def everything(self) -> list[Placement]:
        """All placements, cheapest first. Reads all that fits."""
        found: list[Placement] = []
        for choice in self._choices:
            found += self._placed(choice, self._allowed(self._all_of(choice.alternative)))
        return sorted(found, key=_by_cost)

    def _all_of(self, alternative: Alternative) -> Iterator[PricedOffer]:
        return chain(
            self._held_for(alternative), self._catalog.matching(alternative.machine, spot=alternative.spot)
        )

    def _offers(self, alternative: Alternative, per_region: bool) -> Iterable[PricedOffer]:
        machine, spot = alternative.machine, alternative.spot
        if any(block.instance_type for block in self._blocked):
            best: dict[tuple[str, ...], PricedOffer] = {}
            for offer in self._allowed(self._catalog.matching(machine, spot=spot)):
                zone = () if per_region else (offer.zone,)
                best.setdefault((offer.cloud, offer.region, *zone), offer)
            found: Iterable[PricedOffer] = best.values()
        elif per_region and not any(block.zone for block in self._blocked):
            found = self._allowed(self._catalog.best_per_region(machine, spot=spot))
        else:
            found = self._allowed(self._catalog.best_per_place(machine, spot=spot))
        held = self._held_for(alternative)
        return chain(self._allowed(held), found) if held else found

    def _held_for(self, alternative: Alternative) -> list[PricedOffer]:
        return [
            one
            for one in self._held
            if one.nodes >= self.task.num_nodes and fits(alternative.machine, one, spot=alternative.spot)
        ]

    def _allowed(self, offers: Iterable[PricedOffer]) -> Iterable[PricedOffer]:
        if not self._blocked and not self._blocked_regions and self._clouds is None:
            return offers
        return [
            offer
            for offer in offers
            if (offer.cloud, offer.region) not in self._blocked_regions
            and (self._clouds is None or offer.cloud in self._clouds)
            and not any(_blocks(block, offer) for block in self._blocked)
        ]

    def _placed(self, choice: _Choice, offers: Iterable[PricedOffer]) -> list[Placement]:
        alternative, nodes = choice.alternative, self.task.num_nodes
        seconds, asked = choice.seconds, choice.asked
        hours = seconds / 3600
        most = alternative.max_hourly_cost
        disks: dict[str, float] = {}
        data, held = bool(self.task.inputs or self.task.outputs), bool(self._held)
        held_as = ""
        found = []
        for offer in offers:
            price, cloud = offer.price, offer.cloud
            if most is not None and price > most:
                continue
            disk = disks.get(cloud)
            if disk is None:
                disk = disks[cloud] = self._disk(alternative, cloud)
            if held:
                held_as = offer.held_as if isinstance(offer, Held) else ""
            hourly = nodes * (price + (0.0 if held_as else disk))
            cost = hourly * hours
            if data:
                cost += self._data_cost((cloud, offer.region))
            found.append(Placement(offer, asked, nodes, hourly, cost, seconds, held_as))
        return found

    def _disk(self, alternative: Alternative, cloud: str) -> float:
        if not alternative.disk_gb:
            return 0.0
        return self._rates.disk_hour(cloud, alternative.disk_tier, alternative.disk_gb)

    def _data_cost(self, place: tuple[str, str]) -> float:
        def away(source: DataSource) -> tuple[str, str]:
            region = source.region or (place[1] if source.cloud == place[0] else "")
            return (source.cloud, region)

        cost = sum(self._rates.move_cost(away(one), place, one.gb) for one in self.task.inputs)
        return cost + sum(self._rates.move_cost(place, away(one), one.gb) for one in self.task.outputs)


class Ranking:
    """Placements in the order in which to try them. The first ``HEAD`` are made at once; ``rest`` goes on
    with the other places, and then with the other machines of all places."""

    def __init__(self, chooser: Chooser, placements: list[Placement], objective: Objective):
        self._chooser = chooser
        self._ordered = chooser.task.ordered
        self._objective = objective
        self._all = sorted(placements, key=self._key(placements))
        self.head: list[RankedPlacement] = [
            RankedPlacement(rank, placement, self._reason(rank, placement))
            for rank, placement in enumerate(self._all[:HEAD], 1)
        ]

    def __len__(self) -> int:
        """Of best placements, one for each place and alternative."""
        return len(self._all)

    def rest(self) -> Iterator[RankedPlacement]:
        rank = HEAD
        for rank, placement in enumerate(self._all[HEAD:], HEAD + 1):
            yield RankedPlacement(rank, placement, self._reason(rank, placement))
        known = set(self._all)
        rank = len(self._all)
        for placement in self._chooser.everything():
            if placement not in known:
                rank += 1
                yield RankedPlacement(rank, placement, self._reason(rank, placement))

    def _key(self, placements: list[Placement]) -> _Key:
        if self._objective == "balanced" and placements:
            front = pareto(placements)
            bend = knee(front)
            cost = front[-1].cost - front[0].cost or 1.0
            seconds = front[0].seconds - front[-1].seconds or 1.0

            def bent(one: Placement) -> tuple[Any, ...]:
                if one.cost == bend.cost and one.seconds == bend.seconds:
                    return (self._turn(one), 0.0, *_by_cost(one))
                distance = ((one.cost - front[0].cost) / cost) ** 2
                distance += ((one.seconds - front[-1].seconds) / seconds) ** 2
                return (self._turn(one), 1.0 + distance, *_by_cost(one))

            return bent
        if self._objective == "time":
            return lambda one: (self._turn(one), one.seconds, *_by_cost(one))
        if self._ordered:
            return lambda one: (one.alternative, *_by_cost(one))
        return _by_cost

    def _turn(self, one: Placement) -> int:
        return one.alternative if self._ordered else 0

    def _reason(self, rank: int, one: Placement) -> str:
        if one.held_as:
            return f"already paid for: {one.held_as}"
        first = self._all[0]
        if rank == 1:
            return _FIRST[self._objective]
        if one.alternative != first.alternative and self._ordered:
            return f"choice {one.alternative + 1} of what was asked"
        if self._objective == "time" and one.seconds > first.seconds:
            return f"{one.seconds / first.seconds - 1:.0%} slower" if first.seconds else "slower"
        if one.cost > first.cost:
            return f"+{one.cost / first.cost - 1:.0%}" if first.cost else "not free"
        return (
            "as cheap as the first"
            if one.cost == first.cost
            else f"{one.cost / first.cost - 1:.0%}, but slower"
        )


_FIRST: dict[str, str] = {
    "cost": "cheapest that fits",
    "time": "fastest that fits",
    "balanced": "best balance of cost and time",
}


def _by_cost(one: Placement) -> tuple[Any, ...]:
    offer = one.offer
    return (
        one.cost,
        offer.accelerator_count,
        offer.vcpus,
        offer.memory_gib,
        offer.cloud,
        offer.region,
        offer.zone,
        offer.instance_type,
    )


def _is_region(block: Block) -> bool:
    """Whether a block is of one whole region."""
    whole = not block.zone and not block.instance_type and block.spot is None
    return bool(block.cloud and block.region and whole)


def _blocks(block: Block, offer: PricedOffer) -> bool:
    return (
        block.cloud in ("", offer.cloud)
        and block.region in ("", offer.region)
        and block.zone in ("", offer.zone)
        and block.instance_type in ("", offer.instance_type)
        and block.spot in (None, offer.spot)
    )
