"""``stix status``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from stix.cli.amounts import age, autostop_text, machine_text, price_text
from stix.cli.attempts import print_attempts
from stix.cli.names import matching
from stix.cli.session import Session
from stix.cli.ssh import forget_hosts
from stix.cli.tables import Column, output_option, print_json, shorten, table
from stix.sdk.errors import SdkError
from stix.sdk.responses import Cluster

if TYPE_CHECKING:
    from stix.sdk.client import Client

__all__ = ["status_command"]

_UP = ("UP", "AUTOSTOPPING")

_CLUSTERS = [
    Column("NAME", shrinks=True),
    Column("STATUS", status=True),
    Column("NODES", right=True),
    Column("RESOURCES", shrinks=True),
    Column("PRICE/H", right=True),
    Column("AGE", right=True),
    Column("AUTOSTOP"),
]
_NODES = [
    Column("  RANK", right=True),
    Column("STATUS", status=True),
    Column("ADDRESS", shrinks=True),
    Column("VCPUS", right=True),
    Column("MEM", right=True),
    Column("GPUS", shrinks=True),
    Column("SEEN", right=True),
    Column("IDLE", right=True),
]


@click.command("status", short_help="Show clusters.")
@click.argument("clusters", nargs=-1)
@click.option("-v", "--verbose", is_flag=True, help="Also show nodes and the places that were tried.")
@click.option(
    "--ip", is_flag=True, help="Print the address of the head node of each cluster, and nothing else."
)
@click.option("--endpoints", is_flag=True, help="Print where the ports of each cluster are.")
@click.option("--endpoint", type=click.IntRange(1, 65535), metavar="PORT", help="Print where this port is.")
@output_option
@click.pass_obj
def status_command(
    session: Session,
    clusters: tuple[str, ...],
    verbose: bool,
    ip: bool,
    endpoints: bool,
    endpoint: int | None,
    output: str,
) -> None:
    """Show all clusters, or those named; names may hold * and ?."""
    if sum((ip, endpoints, endpoint is not None)) > 1:
        raise click.UsageError("Give one of --ip, --endpoints and --endpoint.")
    client = session.client()
    found, missing = matching(client, clusters, verbose=verbose or ip)
    if not clusters:
        forget_hosts(session, client, alive=[cluster["name"] for cluster in found])
    if ip:
        for cluster in found:
            session.say(_head_address(cluster))
    elif endpoints or endpoint is not None:
        _print_endpoints(session, client, found, endpoint, output)
    elif output == "json":
        print_json(session, {"clusters": found})
    elif found:
        _print_clusters(session, found, verbose)
    elif not missing:
        session.say("No clusters. Make one: stix launch -c NAME 'echo hello'")
    if missing:
        raise SdkError(
            "not_found", f"No such cluster: {', '.join(missing)}.", "`stix status` lists all.", 404
        )


def _head_address(cluster: Cluster) -> str:
    """The public one where it has one. Raises ``SdkError`` for a cluster that is not up."""
    heads = [node for node in cluster["nodes"] or () if node["rank"] == 0]
    known = [one for head in heads for one in (head["public_address"], head["address"]) if one]
    address = next(iter([*known, *cluster["addresses"]]), "")
    if cluster["status"] not in _UP or not address:
        raise SdkError(
            "no_address", f"Cluster {cluster['name']} is {cluster['status']}: its head node has no address."
        )
    return address


def _print_endpoints(
    session: Session, client: Client, clusters: list[Cluster], port: int | None, output: str
) -> None:
    """``host:port`` alone for one port, as scripts want it. Raises ``SdkError`` where that is not open."""
    known = [(cluster["name"], client.endpoints(cluster["name"])) for cluster in clusters]
    if port is None and output == "json":
        print_json(session, dict(known))
        return
    for name, found in known:
        shown = [one for one in found["endpoints"] if port in (None, one["port"])]
        if port is not None and not shown:
            reason = found["reason"] or (
                f"its task opened {', '.join(str(one['port']) for one in found['endpoints'][:10])}"
            )
            raise SdkError(
                "not_open",
                f"There is no endpoint for port {port} of cluster {name}: {reason}.",
                f"`stix ssh {name} -N -L {port}:localhost:{port}` brings any port of it to this machine.",
            )
        if not shown:
            session.note(f"{name}: no endpoint: {found['reason']}.")
        for one in shown:
            place = one["url"].partition("://")[2]
            session.say(place if port is not None else f"{one['port']}: {one['url']}")


def _print_clusters(session: Session, clusters: list[Cluster], verbose: bool) -> None:
    now = session.now()
    rows = [
        (
            cluster["name"],
            cluster["status"],
            str(cluster["num_nodes"]),
            machine_text(cluster),
            price_text(cluster["hourly_price"]),
            age(now - cluster["created_at"]),
            autostop_text(cluster["autostop"]),
        )
        for cluster in clusters
    ]
    table(session, _CLUSTERS, rows)
    for cluster in clusters:
        if verbose:
            _print_details(session, cluster, now)
        elif cluster["reason"]:
            session.say(f"{cluster['name']}: {cluster['reason']}")


def _print_details(session: Session, cluster: Cluster, now: float) -> None:
    session.say(f"\n{cluster['name']}")
    since = age(now - cluster["since"])
    session.say(
        f"  status: {cluster['status']} for {since}" + (f": {cluster['reason']}" if cluster["reason"] else "")
    )
    if cluster["last_use"]:
        session.say(shorten(f"  last use: {cluster['last_use']}", session.width))
    if cluster["autostop_at"] is not None:
        session.say(f"  autostop in: {age(cluster['autostop_at'] - now)}")
    if cluster["ports"]:
        session.say(f"  ports: {', '.join(cluster['ports'])}")
    if cluster["labels"]:
        session.say(f"  labels: {', '.join(f'{name}={value}' for name, value in cluster['labels'].items())}")
    for limit in sorted({name for node in cluster["nodes"] or [] for name in _unlimited(node["limits"])}):
        session.say(f"  {limit} limit: not enforced here")
    if nodes := cluster["nodes"]:
        rows = [
            (
                f"  {node['rank']}",
                node["status"],
                node["address"] or "-",
                "-" if node["vcpus"] is None else f"{node['vcpus']:g}",
                "-" if node["memory_gib"] is None else f"{node['memory_gib']:.3g}",
                ",".join(node["gpus"]) or "-",
                age(None if node["last_seen"] is None else now - node["last_seen"]),
                age(None if node["idle_since"] is None else now - node["idle_since"]),
            )
            for node in nodes
        ]
        table(session, _NODES, rows)
        for node in nodes:
            if node["reason"]:
                session.say(f"  rank {node['rank']}: {node['reason']}")
    if attempts := cluster["attempts"]:
        print_attempts(session, attempts, now)


def _unlimited(limits: dict[str, str]) -> list[str]:
    return [name for name, how in limits.items() if how == "none"]
