"""``stix serve``: services of replicas behind one address."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, Any

import click

from stix.cli.amounts import plural
from stix.cli.log_output import print_log
from stix.cli.serve_output import (
    REPLICAS,
    SERVICES,
    explain_service,
    replica_row,
    say_gateways,
    say_more,
    service_row,
)
from stix.cli.session import Session
from stix.cli.tables import output_option, print_json, say_folded, table
from stix.cli.task_options import read_task, task_options
from stix.sdk.errors import SdkError
from stix.sdk.follow import rest
from stix.sdk.responses_services import Service, ServiceAccepted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stix.sdk.client import Client

__all__ = ["serve_command"]

_INTERRUPTED = 130


@click.group("serve", short_help="Services: replicas behind one address, scaled by their load.")
def serve_command() -> None:
    """Services: a task runs as replicas behind one address; more and fewer of them as the load asks for."""


@serve_command.command("up", short_help="Bring a service up.")
@click.argument("entrypoint", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--service-name", metavar="NAME", help="Name of the service; else the task's name (-n).")
@click.option("--private", is_flag=True, help="Let in only who has the token, which is shown once.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@task_options
@output_option
@click.pass_obj
def up_command(
    session: Session,
    /,
    entrypoint: tuple[str, ...],
    service_name: str | None,
    private: bool,
    yes: bool,
    output: str,
    **flags: Any,
) -> None:
    """Serve the task of a YAML file with a service: section. Returns once the service is accepted; its
    endpoint stays the same as long as it lives, and requests wait for the first replica."""
    from stix.sdk.submission import service_fields, upload_service

    task = read_task(entrypoint, flags, session.environ)
    service_fields(task)
    name = service_name or flags["name"] or task.name
    session.confirm(f"Bring up service {name or 'of this task'}?", yes=yes or not session.interactive)
    client = session.client()
    request = upload_service(client, task, session.note)
    token = secrets.token_urlsafe(32) if private else ""
    if token:
        request |= {"tokens": [hashlib.sha256(token.encode()).hexdigest()]}
    accepted = client.serve_up({**request, "name": name})
    if output == "json":
        print_json(session, {**accepted, **({"token": token} if token else {})})
        return
    _say_accepted(session, accepted)
    if token:
        session.say(f"Token: {token}")
        session.note('It is not kept anywhere. Send it as "Authorization: Bearer TOKEN".')


@serve_command.command("update", short_help="Give a service a new version.")
@click.argument("service")
@click.argument("entrypoint", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option(
    "--mode",
    type=click.Choice(["rolling", "blue_green"]),
    default="rolling",
    show_default=True,
    help="Replicas one by one, or all requests at once when enough are ready.",
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@task_options
@output_option
@click.pass_obj
def update_command(
    session: Session,
    /,
    service: str,
    entrypoint: tuple[str, ...],
    mode: str,
    yes: bool,
    output: str,
    **flags: Any,
) -> None:
    """Give a service a new version. The old one serves until the new one is ready; a version that never gets
    ready is given up. Only a changed replica_policy or load_balancer makes a new version too."""
    from stix.sdk.submission import upload_service

    # -n names the task; the service has its name.
    task = read_task(entrypoint, flags, session.environ)
    session.confirm(f"Update service {service}?", yes=yes or not session.interactive)
    client = session.client()
    accepted = client.serve_update(service, {**upload_service(client, task, session.note), "mode": mode})
    if output == "json":
        print_json(session, accepted)
        return
    _say_accepted(session, accepted)


def _say_accepted(session: Session, accepted: ServiceAccepted) -> None:
    name = accepted["name"]
    session.note(f"Service {name}, version {accepted['version']}. How it is: stix serve status {name}")
    if accepted["endpoint"]:
        session.say(f"Endpoint: {accepted['endpoint']}")
    else:
        session.note(f"Its endpoint is shown once a gateway is up; its port is {accepted['port']}.")


@serve_command.command("status", short_help="Show services and their replicas.")
@click.argument("names", metavar="[SERVICE]...", nargs=-1)
@click.option("--endpoint", is_flag=True, help="Only the endpoint of one service.")
@click.option("-v", "--verbose", is_flag=True, help="With reasons and versions.")
@output_option
@click.pass_obj
def status_command(
    session: Session, names: tuple[str, ...], endpoint: bool, verbose: bool, output: str
) -> None:
    """Show services, and below them their replicas; those that failed or were lost for an hour."""
    client = session.client()
    if endpoint and len(names) != 1:
        raise click.UsageError("--endpoint needs the name of one service.")
    services = [client.service(name) for name in names] if names else list(client.services())
    if endpoint:
        if not services[0]["endpoint"]:
            raise SdkError("unavailable", "No gateway is up yet.", "Try again in a minute.", 503)
        session.say(services[0]["endpoint"])
        return
    if output == "json":
        print_json(session, {"services": services})
        return
    if not services:
        session.say("No services.")
        return
    now = session.now()
    table(session, SERVICES, [service_row(one, now) for one in services])
    replicas = [(one["name"], replica) for one in services for replica in one["replicas"]]
    if replicas:
        session.say("")
        table(session, REPLICAS, [replica_row(name, replica, now) for name, replica in replicas])
    for one in services:
        if one["problem"]:
            say_folded(session, f"{one['name']}: its gateway: {one['problem']}")
    if verbose:
        for one in services:
            say_more(session, one)


@serve_command.command("down", short_help="End services, or one replica.")
@click.argument("names", metavar="SERVICE...", nargs=-1)
@click.option("-a", "--all", "everything", is_flag=True, help="All services.")
@click.option("--replica-id", type=click.IntRange(min=1), help="Only this replica; the policy replaces it.")
@click.option("-p", "--purge", is_flag=True, help="Forget them even if their cloud cannot be reached.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--async", "no_wait", is_flag=True, help="Return once the request is accepted.")
@click.pass_obj
def down_command(
    session: Session,
    names: tuple[str, ...],
    everything: bool,
    replica_id: int | None,
    purge: bool,
    yes: bool,
    no_wait: bool,
) -> None:
    """End services with all of their replicas. With --replica-id the replica's requests in progress finish
    first, unless --purge is given."""
    if everything == bool(names):
        raise click.UsageError("Name the services to end, or give --all.")
    if replica_id is not None and len(names) != 1:
        raise click.UsageError("--replica-id is of one service: name it.")
    client = session.client()
    if replica_id is not None:
        session.confirm(f"End replica {replica_id} of service {names[0]}?", yes=yes)
        client.terminate_replica(names[0], replica_id, purge=purge)
        session.note(f"Replica {replica_id} of service {names[0]} is going down.")
        return
    wanted = [one["name"] for one in client.services()] if everything else list(names)
    if not wanted:
        session.say("No services.")
        return
    session.confirm(f"End {plural(len(wanted), 'service')}: {', '.join(wanted)}?", yes=yes)
    for name in wanted:
        client.serve_down(name, purge=purge)
    try:
        for name in wanted:
            if not no_wait:
                _await_end(client, name)
            session.note(f"Service {name} {'is going down' if no_wait else 'is gone'}.")
    except KeyboardInterrupt:
        session.note("\nThey go on going down. See: stix serve status")
        raise click.exceptions.Exit(_INTERRUPTED) from None


def _await_end(client: Client, name: str) -> None:
    seen: int | None = None
    while True:
        asked_at = client.pace.monotonic()
        try:
            seen = client.service(name, seen=seen)["item"]
        except SdkError as error:
            if error.code == "service_not_found":
                return
            raise
        rest(client, asked_at)


@serve_command.command("logs", short_help="Show the log of replicas.")
@click.argument("name", metavar="SERVICE")
@click.argument("replica_ids", metavar="[REPLICA_ID]...", nargs=-1, type=click.IntRange(min=1))
@click.option("--load-balancer", is_flag=True, help="What its gateways count, instead.")
@click.option("--controller", is_flag=True, help="Its decisions, instead: there is no controller.")
@click.option("--follow/--no-follow", default=True, show_default=True, help="To the end of the log.")
@click.pass_obj
def logs_command(
    session: Session,
    name: str,
    replica_ids: tuple[int, ...],
    load_balancer: bool,
    controller: bool,
    follow: bool,
) -> None:
    """Show the log of a replica, of the newest one without a number; of several one after the other, without
    following. Logs stay for some hours after their replica."""
    from stix.sdk.services import ReplicaLogReader

    client = session.client()
    if load_balancer and controller:
        raise click.UsageError("Give --load-balancer or --controller, not both.")
    if controller:
        explain_service(session, name, "table")
        return
    if load_balancer:
        say_gateways(session, client.service(name))
        return
    numbers = replica_ids or _newest(client.service(name))
    for number in numbers:
        if len(numbers) > 1:
            session.note(f"Replica {number} of service {name}:")
        try:
            print_log(ReplicaLogReader(client, name, number), follow=follow and len(numbers) == 1)
        except KeyboardInterrupt:
            session.note(f"\nDetached. Come back: stix serve logs {name} {number}")
            raise click.exceptions.Exit(_INTERRUPTED) from None


def _newest(service: Service) -> tuple[int, ...]:
    numbers: Iterable[int] = (one["id"] for one in service["replicas"])
    newest = max(numbers, default=None)
    if newest is None:
        raise SdkError(
            "replica_not_found",
            f"Service {service['name']} has no replica now.",
            "One starts with the first request, or by its policy: stix explain " + service["name"],
            404,
        )
    return (newest,)
