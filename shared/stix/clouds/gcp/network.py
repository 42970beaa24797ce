"""The network that machines are made in: the one that was named, or one of ours. All idempotent.

Nothing waits: while Google makes the network, ``network_of`` raises ``ThrottledError``, and the same call
again goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stix.clouds.gcp.errors import refusal
from stix.clouds.gcp.names import network_tag, token_name
from stix.clouds.gcp.session import Session
from stix.clouds.gcp.settings import GcpCloud
from stix.model.errors import ThrottledError

__all__ = ["close_ports", "network_of", "open_ports"]

_WAIT_SECONDS = 10.0
_EVERYBODY = "0.0.0.0/0"


def network_of(session: Session, settings: GcpCloud, *, deployment: str) -> str:
    """The network's name. It has a rule that lets machines of the deployment reach each other, and nobody
    else in. Raises ``ThrottledError`` while it is being made."""
    tag = network_tag(deployment)
    name = settings.network or tag
    found = session.call("Networks", "get", *_absent(settings), network=name)
    if found is None:
        _begin(
            session.call(
                "Networks",
                "insert_unary",
                "alreadyExists",
                network_resource={
                    "name": name,
                    "description": f"Machines of the Stix deployment {deployment}.",
                    "auto_create_subnetworks": True,
                    "routing_config": {"routing_mode": "REGIONAL"},
                },
            )
        )
        if session.call("Networks", "get", "notFound", network=name) is None:
            raise ThrottledError(
                f"The network {name} is being made.",
                retry_after=_WAIT_SECONDS,
                provider_code="NetworkPending",
            )
    rule = {
        "name": f"{tag}-inside",
        "description": "Machines reach each other.",
        "network": _link(session, name),
        "direction": "INGRESS",
        "source_tags": [tag],
        "target_tags": [tag],
        "allowed": [{"I_p_protocol": "all"}],
    }
    if session.call("Firewalls", "get", "notFound", firewall=rule["name"]) is None:
        # A network that is not ready yet refuses it with resourceNotReady: ThrottledError.
        _begin(session.call("Firewalls", "insert_unary", "alreadyExists", firewall_resource=rule))
    return name


def open_ports(session: Session, network: str, token: str, ports: Sequence[str]) -> None:
    """A rule that opens the gang's ports to the world, if it has any."""
    if not ports:
        return
    name = token_name(token)
    rule = {
        "name": name,
        "description": "Ports that a cluster opens.",
        "network": _link(session, network),
        "direction": "INGRESS",
        "source_ranges": [_EVERYBODY],
        "target_tags": [name],
        "allowed": [{"I_p_protocol": "tcp", "ports": list(ports)}],
    }
    _begin(session.call("Firewalls", "insert_unary", "alreadyExists", firewall_resource=rule))


def close_ports(session: Session, token: str) -> None:
    session.call("Firewalls", "delete_unary", "notFound", firewall=token_name(token))


def _absent(settings: GcpCloud) -> tuple[str, ...]:
    """A network of ours may be absent; one that was named may not."""
    return () if settings.network else ("notFound",)


def _link(session: Session, network: str) -> str:
    return f"projects/{session.project}/global/networks/{network}"


def _begin(operation: Any) -> None:
    """Raises what an operation that ended at once says; one that is under way is fine."""
    for error in [] if operation is None else operation.error.errors:
        if error.code != "RESOURCE_ALREADY_EXISTS":
            raise refusal(error.code, error.message)
