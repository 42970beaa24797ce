"""The times of the embedded control plane: shorter than the deployed ones, since its machines are near."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from stix.application.world import Limits
from stix.model.errors import InvalidInputError

__all__ = ["EMBEDDED_LIMITS", "limits_from"]

EMBEDDED_LIMITS = Limits(
    # A heartbeat is one small write to a local file. Commands come by held requests; polling is the fallback.
    # A node is lost after three missed heartbeats. A process on this machine has joined within seconds.
    report_seconds=20,
    poll_seconds=20,
    boot_seconds=60,
    lost_seconds=60,
)

_BARRIER, _LONGEST_BARRIER = "STIX_BARRIER_SECONDS", 86400
_REPORT, _LONGEST_REPORT = "STIX_REPORT_SECONDS", 600


def limits_from(environ: Mapping[str, str], *, public: bool) -> Limits:
    """The limits under the environment's ``STIX_BARRIER_SECONDS`` and ``STIX_REPORT_SECONDS``; ``public``:
    machines of a cloud can join.

    Raises ``InvalidInputError``.
    """
    limits = EMBEDDED_LIMITS
    if public:
        # Machines of a cloud need minutes to boot.
        limits = replace(limits, boot_seconds=Limits().boot_seconds)
    barrier = _seconds(environ, _BARRIER, _LONGEST_BARRIER)
    if barrier is not None:
        limits = replace(limits, barrier_seconds=barrier)
    report = _seconds(environ, _REPORT, _LONGEST_REPORT)
    if report is not None:
        limits = replace(limits, report_seconds=report, poll_seconds=report, lost_seconds=3 * report)
    return limits


def _seconds(environ: Mapping[str, str], name: str, longest: int) -> int | None:
    """None where it is not set. Raises ``InvalidInputError``."""
    given = environ.get(name, "").strip()
    if not given:
        return None
    if not (given.isascii() and given.isdigit() and 1 <= int(given) <= longest):
        raise InvalidInputError(
            f"{name} is {given!r}, which is not a number of seconds.",
            hint=f"Set it to a whole number from 1 to {longest}, or unset it.",
            details={"field": name, "value": given},
        )
    return int(given)
