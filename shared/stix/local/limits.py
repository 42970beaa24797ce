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

_BARRIER = "STIX_BARRIER_SECONDS"
_LONGEST_BARRIER = 86400


def limits_from(environ: Mapping[str, str], *, public: bool) -> Limits:
    """The limits under the environment's ``STIX_BARRIER_SECONDS``; ``public``: machines of a cloud can join.

    Raises ``InvalidInputError``.
    """
    limits = EMBEDDED_LIMITS
    if public:
        # Machines of a cloud need minutes to boot.
        limits = replace(limits, boot_seconds=Limits().boot_seconds)
    given = environ.get(_BARRIER, "").strip()
    if not given:
        return limits
    if not (given.isascii() and given.isdigit() and 1 <= int(given) <= _LONGEST_BARRIER):
        raise InvalidInputError(
            f"{_BARRIER} is {given!r}, which is not a number of seconds.",
            hint=f"Set it to a whole number from 1 to {_LONGEST_BARRIER}, or unset it.",
            details={"field": _BARRIER, "value": given},
        )
    return replace(limits, barrier_seconds=int(given))
