"""``stix explain``."""

from __future__ import annotations

import click

from stix.cli.amounts import age, plural, price_text
from stix.cli.attempts import print_attempts
from stix.cli.pools import explain_pool
from stix.cli.serve_output import explain_service
from stix.cli.session import Session
from stix.cli.tables import output_option, print_json, say_folded
from stix.sdk.errors import SdkError
from stix.sdk.responses import ExplainedOffer

__all__ = ["explain_command"]


@click.command("explain", short_help="Show why a cluster is where and what it is.")
@click.argument("cluster", metavar="CLUSTER|SERVICE|POOL|JOB")
@output_option
@click.pass_obj
def explain_command(session: Session, cluster: str, output: str) -> None:
    """Show the decisions that led to CLUSTER: what it asked for, which offer was chosen and why, every place
    that was tried or passed over in the providers' own words, and when it will end by itself. A number is a
    managed job: its decisions and their reasons, and what it cost. The name of a service or a
    pool, where no cluster has it: its last decisions with the figures that they were made from."""
    if cluster.isdigit():
        explain_job(session, int(cluster), output)
        return
    try:
        found = session.client().explain(cluster)
    except SdkError as error:
        if error.code != "cluster_not_found":
            raise
        if _is_service(session, cluster):
            explain_service(session, cluster, output)
        elif not explain_pool(session, cluster, output):
            raise
        return
    if output == "json":
        print_json(session, found)
        return
    now = session.now()
    reason = f": {found['reason']}" if found["reason"] else ""
    say_folded(session, f"{found['name']} is {found['status']} for {age(now - found['since'])}{reason}")
    asked = ", ".join(f"{name} {value}" for name, value in found["requested"].items()) or "any machine"
    say_folded(session, f"  asked for: {plural(found['num_nodes'], 'node')} with {asked}")
    if found["offers"]:
        say_folded(session, f"  offers that fit: {found['offers']}, ranked once")
    if found["chosen"] is not None:
        say_folded(session, f"  chosen: {_offer(session, found['chosen'], now)}")
    if found["attempts"]:
        print_attempts(session, found["attempts"], now)
    for number, offer in enumerate(found["next"]):
        say_folded(session, f"  {'next' if number == 0 else 'then'}: {_offer(session, offer, now)}")
    say_folded(session, f"  cost up to now: {price_text(found['cost'])}")
    if found["ends_at"] is not None:
        say_folded(session, f"  ends in {age(found['ends_at'] - now)}: {found['ends_because']}")
    if found["decisions"]:
        session.say("  decisions:")
    for line in found["decisions"]:
        say_folded(session, f"    {age(now - line['at']):>4} ago  {line['message']}")


def _is_service(session: Session, name: str) -> bool:
    try:
        session.client().service(name)
    except SdkError:
        return False
    return True


def explain_job(session: Session, number: int, output: str) -> None:
    """Print the decisions of a managed job, oldest first."""
    told = session.client().explain_job(number)
    if output == "json":
        print_json(session, told)
        return
    job, now = told["job"], session.now()
    reason = f": {job['reason']}" if job["reason"] else ""
    say_folded(
        session, f"Job {job['id']} ({job['name']}) is {job['status']} for {age(now - job['since'])}{reason}"
    )
    for task in job["tasks"]:
        label = task["name"] or f"task {task['index'] + 1}"
        where = f" in {task['place']}{' (spot)' if task['spot'] else ''}" if task["place"] else ""
        say_folded(
            session,
            f"  {label}: {task['status']}{where}, strategy {task['strategy']}, "
            f"{task['recoveries']} recoveries, {task['restarts']} restarts",
        )
    if job["deadline_at"] is not None:
        done = f", {told['work_done'] / 3600:.2g} of {told['work'] / 3600:.3g} h of work stored"
        left = job["deadline_at"] - now
        when = f"in {age(left)}" if left > 0 else f"{age(-left)} ago"
        say_folded(session, f"  deadline {when}{done}")
    limit = told["job"]["max_cost"]
    most = "" if limit is None else f" of at most {price_text(limit)}"
    say_folded(session, f"  cost up to now: {price_text(told['cost'])}{most}")
    if told["decisions"]:
        session.say("  decisions:")
    for line in told["decisions"]:
        say_folded(session, f"    {age(now - line['at']):>4} ago  {line['message']}")


def _offer(session: Session, offer: ExplainedOffer, now: float) -> str:
    spot = " spot" if offer["spot"] else ""
    price = "free" if not offer["price"] else f"{price_text(offer['price'])}/h a node"
    if offer["price"] and offer["price_as_of"]:
        price += f", a price of {age(now - offer['price_as_of'])} ago"
    reason = f": {offer['reason']}" if offer["reason"] else ""
    return f"{offer['place']} {offer['instance_type']}{spot} ({price}){reason}"
