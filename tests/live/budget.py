"""A hard cap on what a run in a real account may cost: every launch is paid for before it is made."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Budget", "OverBudgetError"]


class OverBudgetError(Exception):
    """The launch could cost more than what is left; it was not made."""


@dataclass
class Budget:
    """USD. A launch is charged as if each of its machines lived as long as its own limit lets it."""

    cap: float
    spent: float = 0.0
    launches: list[str] = field(default_factory=list)

    def pay(self, what: str, *, hourly: float, nodes: int, hours: float) -> None:
        """Raises ``OverBudgetError``; ``ValueError`` for a price that nobody knows."""
        if not 0 < hourly < float("inf"):
            raise ValueError(f"{what}: {hourly!r} is no price an hour")
        worst = hourly * nodes * hours
        if self.spent + worst > self.cap:
            raise OverBudgetError(
                f"{what} could cost {worst:.2f} USD; of {self.cap:.2f} are {self.cap - self.spent:.2f} left"
            )
        self.spent += worst
        self.launches.append(f"{what}: at most {worst:.3f} USD")
