"""How the services of this control plane are reached: what a person may set."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from stix.application.world import Gateways
from stix.model.errors import InvalidInputError

__all__ = ["gateways_from"]

_NODES = "STIX_GATEWAY_NODES"
_INFRA = "STIX_GATEWAY_INFRA"
_MOST = 2


def gateways_from(
    environ: Mapping[str, str],
    *,
    nodes: int,
    least: int = 0,
    infra: str = "",
    missing: Callable[[], str] = lambda: "",
    usable_port: Callable[[int], bool] = lambda port: True,
) -> Gateways:
    """Through ``STIX_GATEWAY_NODES`` machines (``nodes`` where it is not set, at least ``least``) in
    ``STIX_GATEWAY_INFRA`` (else ``infra``), or for 0 through a process beside the control plane, for which
    ``missing`` says what this machine lacks, and ``usable_port`` which of its ports are free.

    Raises ``InvalidInputError``.
    """
    given = environ.get(_NODES, "").strip() or str(nodes)
    if not (given.isascii() and given.isdigit() and least <= int(given) <= _MOST):
        raise InvalidInputError(
            f"{_NODES} is {given!r}, which is not a number of gateways.",
            hint=f"Set it to a number from {least} to {_MOST}, or unset it.",
            details={"field": _NODES, "value": given},
        )
    infra = environ.get(_INFRA, "").strip() or infra
    if int(given):
        return Gateways(int(given), infra)
    return Gateways(0, infra, missing=missing, usable_port=usable_port)
