"""``stix ssh``, and the hidden command that plain ``ssh`` runs to get there."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import click

from stix.cli.session import Session
from stix.sdk.errors import NotConfiguredError, SdkError

if TYPE_CHECKING:
    from stix.sdk.client import Client
    from stix.sdk.responses import SshAccess, SshNode
    from stix.sdk.ssh_config import ManagedHosts

__all__ = ["forget_hosts", "ssh_command", "ssh_proxy_command"]

_READY_SECONDS = 45.0
_OPENED_AS_THEY_ARE = {"ignore_unknown_options": True, "allow_interspersed_args": False}


@click.command("ssh", short_help="Log in on a node.", context_settings=_OPENED_AS_THEY_ARE)
@click.option("--node", type=click.IntRange(0), metavar="RANK", help="Which node; 0, the head, by default.")
@click.argument("cluster")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def ssh_command(session: Session, node: int | None, cluster: str, command: tuple[str, ...]) -> None:
    """Log in on a node of CLUSTER, or run COMMAND there.

    What follows CLUSTER goes to the system's ssh as it is, so its own options work: stix ssh dev -L
    8080:localhost:8080. Once this has run, plain ssh, scp, rsync and VS Code know the cluster's nodes as
    CLUSTER, CLUSTER-worker1 and so on.
    """
    from stix.sdk.ssh_config import alias_of

    rank, rest = _node_among(command, node)
    program = shutil.which("ssh")
    if program is None:
        raise NotConfiguredError(
            "There is no ssh here.", "Install OpenSSH's client (the package openssh-client)."
        )
    client = session.client()
    hosts = _managed(session)
    _access(session, client, hosts, cluster, rank)
    if hosts.include():
        session.note(
            f"Plain ssh, scp and rsync know {alias_of(cluster, rank)} too: one line in ~/.ssh/config."
        )
    arguments = [program, alias_of(cluster, rank), *rest]
    session.close()
    os.execv(program, arguments)


@click.command("ssh-proxy", hidden=True)
@click.argument("cluster")
@click.argument("rank", type=click.IntRange(0))
@click.pass_obj
def ssh_proxy_command(session: Session, cluster: str, rank: int) -> None:
    """Carry standard input and output to the SSH server of a node; ssh runs this by itself."""
    from stix.sdk.ssh_routes import Attempts, carry

    client = session.client()
    access, node = _access(session, client, _managed(session), cluster, rank)
    attempts = Attempts()
    if not carry(client, access, node, attempts):
        tried = "".join(f"\n    {line}" for line in attempts.lines)
        raise SdkError("no_way", f"No way leads to node {rank} of {cluster}. Tried:{tried}")


def forget_hosts(
    session: Session, client: Client, *, among: list[str] | None = None, alive: list[str] | None = None
) -> None:
    """Remove the hosts of clusters that are not ``alive``, looking at those ``among`` these alone."""
    if not (session.home / "ssh").exists():  # Most homes never had any.
        return
    if alive is None:
        alive = [cluster["name"] for cluster in client.clusters(among or ())]
    _managed(session).keep(_plane(client), alive, among=among)


def _access(
    session: Session, client: Client, hosts: ManagedHosts, cluster: str, rank: int
) -> tuple[SshAccess, SshNode]:
    """Once the node has our key; what the control plane says of its host keys is what ssh will go by."""
    from stix.sdk.ssh_config import hosts_of

    key = hosts.public_key()
    deadline = client.pace.monotonic() + _READY_SECONDS
    pause = 0.1
    while True:
        try:
            access = client.ssh_access(cluster, key)
        except SdkError as exc:
            if exc.http_status == 404:
                hosts.keep(_plane(client), (), among=(cluster,))
            raise
        node = next((one for one in access["nodes"] if one["rank"] == rank), None)
        if node is None:
            raise SdkError(
                "no_node",
                f"Cluster {cluster} has no node {rank}.",
                f"Its nodes are 0 to {len(access['nodes']) - 1}.",
                404,
            )
        if node["ready"]:
            break
        if client.pace.monotonic() > deadline:
            raise SdkError(
                "not_ready",
                f"Node {rank} of {cluster} has not taken the key within {_READY_SECONDS:g} s.",
                f"`stix status -v {cluster}` shows whether it reports; agents of older releases take none.",
            )
        client.pace.sleep(pause)
        pause = min(pause * 1.5, 2.0)
    if node["problem"]:
        raise SdkError("no_ssh_server", f"Nobody can log in on node {rank} of {cluster}: {node['problem']}.")
    hosts.write(hosts_of(access, _plane(client)))
    return access, node


def _node_among(command: tuple[str, ...], node: int | None) -> tuple[int, tuple[str, ...]]:
    """``--node`` may also follow the cluster's name, before anything else."""
    first = command[0] if command else ""
    if first == "--node" or first.startswith("--node="):
        text = first.partition("=")[2] if "=" in first else (command[1:2] or ("",))[0]
        rest = command[1:] if "=" in first else command[2:]
        if not (text.isascii() and text.isdigit()):
            raise click.UsageError(f"--node is {text!r}; give a node's rank: 0, 1 and so on.")
        return int(text), rest
    return node or 0, command


def _managed(session: Session) -> ManagedHosts:
    from stix.sdk.ssh_config import ManagedHosts

    return ManagedHosts(session.home)


def _plane(client: Client) -> str:
    """Names the control plane: an embedded one may be at another port tomorrow."""
    return "embedded" if client.endpoint.source == "embedded" else client.endpoint.url
