"""People on the machines, version 1: who may log in, tunnels to the machines, endpoints."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from stix.api.v1 import Request, Response

__all__ = ["Endpoint", "Endpoints", "SshAccess", "SshNode", "SshRequest", "Tunnel", "TunnelRequest"]

PublicKey = Annotated[
    str,
    Field(
        pattern=r"^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)|sk-(ssh-ed25519|ecdsa-sha2-nistp256)"
        r"@openssh\.com) [A-Za-z0-9+/]+={0,2}$",
        max_length=2000,
    ),
]


class SshRequest(Request):
    """``public_key``: type and base64, without options and comment; every node of the cluster takes it."""

    public_key: PublicKey


class SshNode(Response):
    """``ready``: the node's agent has taken the keys, and all else here is true; ``problem``: why nobody can
    log in. ``port`` is 0 where the server is the agent's own, reached by tunnels alone. ``host_keys`` are
    what to expect of it. ``session_manager``: AWS Systems Manager may lead there."""

    rank: int
    up: bool
    ready: bool
    problem: str = ""
    user: str = ""
    port: int = 0
    host_keys: tuple[str, ...] = ()
    session_manager: bool = False
    machine_id: str = ""
    address: str = ""
    public_address: str = ""


class SshAccess(Response):
    cluster: str
    cluster_id: str
    cloud: str = ""
    region: str = ""
    nodes: list[SshNode]


class TunnelRequest(Request):
    """A tunnel to the SSH server of the node with this rank."""

    rank: int = Field(ge=0, le=9999)


class Tunnel(Response):
    """``url``: where to open a WebSocket with the same token; a path of this server, or an address."""

    id: str
    url: str


class Endpoint(Response):
    """``port`` of the head node, open to whoever reaches ``host``."""

    port: int
    host: str
    url: str


class Endpoints(Response):
    """Of a cluster whose ports cannot be reached, ``reason`` says why."""

    endpoints: list[Endpoint]
    reason: str = ""
