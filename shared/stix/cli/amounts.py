"""Money, time and machines as people read them."""

from __future__ import annotations

from stix.sdk.responses import Autostop, Cluster, PlannedOffer

__all__ = ["age", "autostop_text", "machine_text", "place_text", "plural", "price_text"]


def age(seconds: float | None) -> str:
    """``45s``, ``12m``, ``3h``, ``9d``; ``-`` for none."""
    if seconds is None:
        return "-"
    seconds = max(0, int(seconds))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def price_text(price: float | None) -> str:
    """USD with as many digits as the smallest prices need."""
    if price is None:
        return "-"
    if price == 0:
        return "$0"
    return f"${price:.2f}" if price >= 1 else f"${price:.4f}"


def autostop_text(autostop: Autostop | None) -> str:
    """``10m``, ``2h down``; ``-`` for never."""
    minutes = autostop["idle_minutes"] if autostop is not None else None
    if autostop is None or minutes is None:
        return "-"
    whole_units = ((size, unit) for size, unit in ((1440, "d"), (60, "h")) if minutes and minutes % size == 0)
    size, unit = next(whole_units, (1, "m"))
    return f"{minutes // size}{unit}" + (" down" if autostop["down"] else "")


def place_text(place: Cluster | PlannedOffer) -> str:
    """``aws/us-east-1/us-east-1a``, as ``--infra`` takes it."""
    return _joined(place["cloud"], place["region"], place["zone"])


def machine_text(cluster: Cluster) -> str:
    """Where and what: ``aws/us-east-1 p4d.24xlarge A100:8 spot``."""
    place = _joined(cluster["cloud"], cluster["region"])
    spot = "spot" if cluster["spot"] else ""
    parts = (place, cluster["instance_type"], cluster["accelerators"], spot)
    return " ".join(part for part in parts if part) or "-"


def _joined(*parts: str) -> str:
    """A cloud with one region of its own name is said once."""
    return "/".join(dict.fromkeys(part for part in parts if part))


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
