"""``docs/costs.md``, from the synthesized template and counted calls."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from infra import costs
from infra.usage import Usage
from stix.application import sweep
from tests.costs import meter
from tests.costs.scenario import Counted

__all__ = ["document", "memory_by_function"]

_HOURS = 730
_FLEETS = (10, 1_000, 100_000)
_WAIT_SECONDS = 90

GP3_GB_MONTH = 0.08
CONTROLLER = ("jobs controller", "m6i.xlarge", 0.192, 50)
API_SERVER = ("API server", "c6i.xlarge", 0.17, 10)
"""What SkyPilot runs, machine, USD an hour, GB of disk."""
CONTROLLER_JOBS = 2_000


def memory_by_function(template: Mapping[str, Any], deployment: str = "stix") -> dict[str, int]:
    """MiB, by the function's name without the deployment's."""
    return {
        properties["FunctionName"].removeprefix(f"{deployment}-"): properties["MemorySize"]
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::Lambda::Function"
        and "FunctionName" in (properties := resource["Properties"])
    }


def document(template: Mapping[str, Any], counted: Counted) -> str:
    parts = [
        _HEAD.format(prices=costs.PRICES_AS_OF),
        _idle(template),
        _actions(counted),
        _services(counted),
        _fleets(template, counted),
        _counts(counted),
        _ASSUMED.format(
            own=meter.OWN_SECONDS * 1000,
            table=meter.TABLE_SECONDS * 1000,
            objects=meter.OBJECT_SECONDS * 1000,
            service=meter.SERVICE_SECONDS * 1000,
            cloud=meter.CLOUD_SECONDS,
        ),
    ]
    return "\n".join(parts)


def _idle(template: Mapping[str, Any]) -> str:
    quiet = costs.idle_month(template, orphan_sweep_seconds=sweep.ORPHANS_QUIET_SECONDS)
    rows = [(line, f"{cost:.3f}") for line, cost in sorted(quiet.items(), key=lambda pair: -pair[1])]
    free = costs.cloudwatch_allowance(template)
    rows.append(("CloudWatch's allowance: 10 metrics of alarms, 3 dashboards", f"-{free:.3f}"))
    rows.append(("**together**", f"**{sum(quiet.values()) - free:.2f}**"))
    return "## A month in which nothing happens\n\n" + _table(("line", "USD"), rows) + _ALLOWANCE


def _actions(counted: Counted) -> str:
    waiting = counted.launch + counted.request.times(_WAIT_SECONDS)
    wake = costs.idle_node_month()["wake channel"] / _HOURS
    rows = [
        ("launch of one node", _micro(counted.launch.cost)),
        (f"the same with a client that looks every second for {_WAIT_SECONDS} s", _micro(waiting.cost)),
        ("each further node of it", _micro(counted.launch_more.cost)),
        ("job, from `stix exec` to its last log chunk", _micro(counted.job.cost)),
        (
            "day of a managed job on one node, with its launch and end",
            _micro(counted.managed_day.cost + 24 * wake),
        ),
        ("hour of an idle cluster of one node, wake channel included", _micro(counted.hour.cost + wake)),
        ("each further node of it", _micro(counted.hour_more.cost + wake)),
        ("look at all machines of one region, every 10 minutes while it is used", _micro(counted.place.cost)),
        ("end of one node", _micro(counted.down.cost)),
        ("each further node of it", _micro(counted.down_more.cost)),
        ("1,000 requests (a list, a cluster, its jobs, a job, in turn)", _micro(counted.request.cost * 1000)),
    ]
    return "## What happens, and what each costs\n\n" + _table(("what", "millionths of a USD"), rows)


def _services(counted: Counted) -> str:
    wake = costs.idle_node_month()["wake channel"]
    node = counted.hour.cost * _HOURS + wake
    gateways = 2 * node + counted.gateways.cost * _HOURS
    rows = [
        ("a service that nobody asks: a look each hour", f"{counted.service_look.cost * _HOURS:.3f}"),
        ("each replica of it, an idle cluster of one node", f"{node:.3f}"),
        (
            "both gateways of a workspace that has any: two such clusters, and what they tell",
            f"{gateways:.3f}",
        ),
    ]
    return "## Services\n\n" + _table(("a month of", "USD"), rows) + _GATEWAYS


def _fleets(template: Mapping[str, Any], counted: Counted) -> str:
    quiet = costs.idle_month(template, orphan_sweep_seconds=sweep.ORPHANS_QUIET_SECONDS)
    idle = sum(quiet.values()) - costs.cloudwatch_allowance(template)
    place = counted.place.cost * _HOURS * 3600 / sweep.ORPHANS_EVERY_SECONDS
    wake = costs.idle_node_month()["wake channel"]
    life = (counted.launch + counted.job + counted.down + counted.request.times(_WAIT_SECONDS)).cost
    rows = []
    for nodes in _FLEETS:
        up = idle + place + nodes * (counted.hour.cost * _HOURS + wake)
        total = up + nodes * life * _HOURS / 24
        controllers = math.ceil(nodes / CONTROLLER_JOBS)
        theirs = _machine_month(API_SERVER) + controllers * _machine_month(CONTROLLER)
        rows.append((f"{nodes:,}", _usd(up), _usd(total), _micro(total / nodes / _HOURS), _usd(theirs)))
    columns = (
        "nodes, up all month",
        "USD a month",
        "with a launch, a job and an end of each, daily",
        "millionths of a USD per node-hour",
        "SkyPilot's machines, USD a month",
    )
    name, machine, price, disk = API_SERVER
    controller_name, controller, controller_price, controller_disk = CONTROLLER
    return (
        "## Fleets, beside SkyPilot's\n\nEvery node is a cluster of its own, which is the dearest way.\n\n"
        + _table(columns, rows)
        + _SKYPILOT.format(
            name=name,
            machine=machine,
            price=price,
            disk=disk,
            controller_name=controller_name,
            controller=controller,
            controller_price=controller_price,
            controller_disk=controller_disk,
            jobs=CONTROLLER_JOBS,
        )
    )


def _machine_month(one: tuple[str, str, float, int]) -> float:
    _, _, price, disk = one
    return price * _HOURS + disk * GP3_GB_MONTH


def _counts(counted: Counted) -> str:
    shown: list[tuple[str, Usage]] = [
        ("launch of one node", counted.launch),
        ("each further node", counted.launch_more),
        ("job", counted.job),
        ("day of a managed job", counted.managed_day),
        ("idle hour of one node", counted.hour),
        ("each further node", counted.hour_more),
        ("look at a region", counted.place),
        ("end of one node", counted.down),
        ("hour of both gateways", counted.gateways),
        ("hourly look at a service", counted.service_look),
        ("sweep that finds nothing", counted.sweep),
        ("request", counted.request),
    ]
    rows = [
        (
            name,
            _three(usage.read_units),
            _three(usage.write_units),
            _three(sum(usage.invocations.values())),
            _three(usage.gb_seconds),
            _three(usage.transitions),
            _three(usage.http_requests + usage.socket_messages),
            _three(max(0, usage.object_puts + usage.object_gets)),
        )
        for name, usage in shown
    ]
    columns = (
        "what",
        "read units",
        "write units",
        "invocations",
        "GB-s",
        "transitions",
        "messages",
        "objects",
    )
    return "## The counts behind it\n\n" + _table(columns, rows)


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [columns, ("---", *["---:"] * (len(columns) - 1)), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def _micro(cost: float) -> str:
    return _three(cost * 1e6)


def _three(value: float) -> str:
    """Three digits that count: the next ones move with every word of an item."""
    if value == 0:
        return "0"
    places = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{round(value, 2 - math.floor(math.log10(abs(value)))):,.{places}f}"


def _usd(cost: float) -> str:
    return f"{cost:,.2f}" if cost < 100 else _three(cost)


_HEAD = """# Costs of the control plane

Written by `python -m tests.costs --write docs/costs.md`; a test holds this page to that command. The idle
month is computed from the synthesized template. Everything else is counted: the real handlers, state machines
and DynamoDB client go through a launch, an hour, a job and an end, and every call is written down. Machines,
their disks and their traffic are the cloud's bill and not part of this.

Prices: {prices}.
"""

_ALLOWANCE = """
The allowance is no trial: it does not end. In an account whose other stacks have used it up,
`dashboard: false` in `cdk.json` leaves the dashboard out.
"""

_GATEWAYS = """
The gateways are machines besides, which the cloud bills: two with 2 CPUs and 2 GB. Without a service there
are none.
"""

_SKYPILOT = """
SkyPilot's side is one {name} ({machine}, {price} USD an hour, {disk} GB of gp3: the least that its chart asks
for, 4 CPUs and 8 GiB) and a {controller_name} ({controller}, {controller_price} USD an hour,
{controller_disk} GB: its default of 4 CPUs with four times as much memory) for each {jobs:,} running managed
jobs, the cap in its code. Both run all month, used or not; list prices of us-east-1. A Kubernetes control
plane for the chart (0.10 USD an hour on EKS) is left out, and so is what several controllers would need
beyond being there.
"""

_ASSUMED = """## What is assumed

- Billed time of a warm invocation: {own:.0f} ms of its own, and for each call {table:.0f} ms of the table,
  {objects:.0f} ms of the object store, {service:.0f} ms of Step Functions, EventBridge or the wake channel,
  {cloud:.0f} s of a cloud. Memory is the template's. Cold starts are left out.
- No request finds its token in the authorizer's cache, though many do.
- Items are as large as those of this small example. A cluster's item is just above the 1 KB of a write unit.
- What each further node adds is measured between 1 and 11 nodes. Of a launch it grows with the size, since
  every node that joins is told to all others.
- Idle nodes report every 180 s and ask for commands every 600 s while their wake channel is open.
"""
