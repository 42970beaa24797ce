"""What is shown of services: tables, figures of gateways, decisions."""

from __future__ import annotations

from stix.cli.access_log import last_requests
from stix.cli.amounts import age, plural, price_text
from stix.cli.session import Session
from stix.cli.tables import Column, print_json, say_folded
from stix.sdk.responses_services import Service, ServiceReplica

__all__ = [
    "REPLICAS",
    "SERVICES",
    "explain_service",
    "replica_row",
    "say_gateways",
    "say_more",
    "service_row",
]

_REQUESTS = 20

SERVICES = [
    Column("NAME"),
    Column("VERSION", right=True),
    Column("UPTIME", right=True),
    Column("STATUS", status=True),
    Column("REPLICAS", right=True),
    Column("REQUESTS/S", right=True),
    Column("ENDPOINT"),
]
REPLICAS = [
    Column("SERVICE"),
    Column("ID", right=True),
    Column("VERSION", right=True),
    Column("ADDRESS", shrinks=True),
    Column("LAUNCHED", right=True),
    Column("WHERE", shrinks=True),
    Column("MACHINE"),
    Column("STATUS", status=True),
]


def service_row(service: Service, now: float) -> tuple[str, ...]:
    ready_at, rate = service["ready_at"], service["request_rate"]
    standing = [one for one in service["replicas"] if one["ended_at"] is None]
    versions = service["serving"] or [service["active_version"]]
    return (
        service["name"],
        ",".join(str(number) for number in versions),
        age(None if ready_at is None else now - ready_at),
        service["status"],
        f"{service['ready_replicas']}/{len(standing)}",
        "-" if rate is None else f"{rate:.3g}",
        " ".join(service["endpoints"]) or "-",
    )


def replica_row(name: str, replica: ServiceReplica, now: float) -> tuple[str, ...]:
    machine = replica["accelerators"] or replica["instance_type"]
    return (
        name,
        str(replica["id"]),
        str(replica["version"]),
        replica["address"] or "-",
        f"{age(now - replica['launched_at'])} ago",
        replica["place"] or "-",
        f"{machine}{' (spot)' if replica['spot'] else ''}",
        replica["status"],
    )


def say_more(session: Session, service: Service) -> None:
    say_folded(session, f"{service['name']}: {service['policy']}, {service['load_balancing_policy']}")
    if service["reason"]:
        say_folded(session, f"{service['name']}: {service['reason']}")
    for version in service["versions"]:
        failed = ", failed before it was ever ready" if version["failed"] else ""
        words = f"version {version['number']}: {version['resources'] or 'any machine'}{failed}"
        say_folded(session, f"{service['name']}: {words}")
    for replica in service["replicas"]:
        if replica["reason"]:
            say_folded(session, f"{service['name']} replica {replica['id']}: {replica['reason']}")


def say_gateways(session: Session, service: Service) -> None:
    at = service["figures_at"]
    if at is None:
        session.say(f"No gateway has reported of service {service['name']} yet.")
        return
    latency = service["latency_p95"]
    session.say(f"As of {age(session.now() - at)} ago:")
    session.say(f"  requests/s over the last minute: {service['request_rate'] or 0:.3g}")
    session.say(f"  waiting or in progress: {service['queue_length'] or 0:g}")
    session.say(f"  p95 of answers: {'-' if latency is None else f'{latency:.3g} s'}")
    for replica in service["replicas"]:
        if replica["ended_at"] is None:
            flight = "-" if replica["in_flight"] is None else str(replica["in_flight"])
            session.say(f"  replica {replica['id']}: {replica['status']}, {flight} in progress")
    _say_requests(session, service["name"])


def _say_requests(session: Session, name: str) -> None:
    """Those of a gateway that is a process here."""
    log = session.home / "gateway" / "state" / "access.log"
    embedded = session.discovery().configured() is None
    requests = last_requests(log, name, _REQUESTS) if embedded else []
    if not requests:
        session.note("Each request is a line of access.log beside its gateway.")
        return
    session.say("Last requests:")
    for line in requests:
        say_folded(session, f"  {line}")
    session.note(f"All of them: {log}")


def explain_service(session: Session, name: str, output: str) -> None:
    """Print the last decisions about a service, oldest first."""
    told = session.client().explain_service(name)
    if output == "json":
        print_json(session, told)
        return
    service, now = told["service"], session.now()
    reason = f": {service['reason']}" if service["reason"] else ""
    say_folded(session, f"{service['name']} is {service['status']} for {age(now - service['since'])}{reason}")
    target = "not decided yet" if service["target"] is None else plural(service["target"], "replica")
    say_folded(session, f"  policy: {service['policy']}; settled on {target}")
    for version in service["versions"]:
        if version["failed"]:
            say_folded(session, f"  version {version['number']} failed before it was ever ready")
    say_folded(session, f"  cost of the replicas of the last hours: {price_text(told['cost'])}")
    if told["decisions"]:
        session.say("  decisions:")
    for one in told["decisions"]:
        figures = f" [{one['figures']}]" if one["figures"] else ""
        say_folded(session, f"    {age(now - one['at']):>4} ago  {one['reason']}{figures}")
        for action in one["actions"]:
            say_folded(session, f"              {action}")
