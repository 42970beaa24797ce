"""What an idle deployment and an idle node cost per month, from list prices. Pure arithmetic, no SDK.

Everything is in USD for a month of 730 hours, without any free tier. The assumptions about our own code
(bytes logged, seconds billed, requests made) are constants here; the cost test compares them with the code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = [
    "PRICES_AS_OF",
    "NodeTalk",
    "UnpricedResourceError",
    "cloudwatch_allowance",
    "idle_month",
    "idle_node_month",
    "wake_candidates",
]

MONTH_SECONDS = 730 * 3600

PRICES_AS_OF = "2025-06, us-east-1, public list prices, no free tier"
LAMBDA_REQUEST = 0.20e-6
LAMBDA_GB_SECOND = 0.0000133334  # arm64
DYNAMODB_READ = 0.125e-6  # 4 KB strongly consistent; half of it eventually consistent
DYNAMODB_WRITE = 0.625e-6  # 1 KB
DYNAMODB_GB = 0.25
DYNAMODB_RECOVERY_GB = 0.20
S3_GB = 0.023
LOG_BYTE = 0.50e-9
ALARM_METRIC = 0.10
DASHBOARD = 3.00
FREE_ALARM_METRICS = 10
FREE_DASHBOARDS = 3
KMS_KEY = 1.00
SECRET = 0.40
TRANSITION = 25e-6
HTTP_REQUEST = 1.00e-6
WEBSOCKET_MESSAGE = 1.00e-6
WEBSOCKET_MINUTE = 0.25e-6
SQS_REQUEST = 0.40e-6
IOT_MINUTE = 0.08e-6

SWEEP_READS = 16 * 8 / 2 + 16 * 3 / 2 / 10 + 1.5
"""Half a read unit for each shard and kind of the ``due`` index, of three kinds every tenth time; a page of
places, the last orphan sweep."""
SWEEP_SECONDS = 1.2
"""Billed time of a sweep that finds nothing, at the monitor's 256 MiB."""
LOG_LINE_BYTES = 600
"""One JSON line of ours with the 26 bytes that CloudWatch adds."""
ACCESS_LOG_BYTES = 200
ORPHAN_SWEEP_TRANSITIONS = 4
"""Of ``sweep.asl.json`` with one place: the list, the map, the place, the end."""
STORED_GB = 0.1
"""Items, plans and finished logs that an idle deployment keeps."""

_FREE_WHILE_IDLE = frozenset(
    {
        "AWS::ApiGatewayV2::Api",
        "AWS::ApiGatewayV2::Authorizer",
        "AWS::ApiGatewayV2::Integration",
        "AWS::ApiGatewayV2::Route",
        "AWS::ApiGatewayV2::Stage",
        "AWS::Events::EventBus",
        "AWS::IAM::Policy",
        "AWS::IAM::Role",
        "AWS::Lambda::Alias",
        "AWS::Lambda::EventInvokeConfig",
        "AWS::Lambda::Function",
        "AWS::Lambda::LayerVersion",
        "AWS::Lambda::Permission",
        "AWS::Lambda::Version",
        "AWS::Logs::LogGroup",
        "AWS::Logs::MetricFilter",
        "AWS::S3::BucketPolicy",
        "AWS::SNS::Subscription",
        "AWS::SNS::Topic",
        "AWS::SNS::TopicPolicy",
        "AWS::SQS::Queue",
        "AWS::SQS::QueuePolicy",
        "AWS::StepFunctions::StateMachine",
    }
)
_PER_MONTH = {
    "AWS::CloudWatch::Dashboard": DASHBOARD,
    "AWS::KMS::Key": KMS_KEY,
    "AWS::SecretsManager::Secret": SECRET,
    "AWS::DynamoDB::Table": STORED_GB * (DYNAMODB_GB + DYNAMODB_RECOVERY_GB),
    "AWS::S3::Bucket": STORED_GB * S3_GB,
}


class UnpricedResourceError(Exception):
    """The template holds a kind of resource whose idle price this module does not know."""


def idle_month(template: Mapping[str, Any], *, orphan_sweep_seconds: float = 3600) -> dict[str, float]:
    """Cost of the stack while nothing happens but its schedules and the orphan sweeps of one place, by line.

    Raises:
        UnpricedResourceError: a new kind of resource: find out what it costs idle and add it here.
    """
    lines: dict[str, float] = {}
    for resource in template["Resources"].values():
        kind, properties = resource["Type"], resource.get("Properties", {})
        if kind in _FREE_WHILE_IDLE:
            continue
        if kind == "AWS::CloudWatch::Alarm":
            watched = sum("MetricStat" in metric for metric in properties.get("Metrics", ())) or 1
            _add(lines, "alarms", watched * ALARM_METRIC)
        elif kind == "AWS::Events::Rule" and "EventPattern" in properties:
            continue  # AWS's own events are free, and while nothing runs there are none
        elif kind == "AWS::Events::Rule":
            for line, cost in _schedule(template, properties).items():
                _add(lines, line, cost)
        elif kind in _PER_MONTH:
            _add(lines, kind, _PER_MONTH[kind])
        else:
            raise UnpricedResourceError(kind)
    runs = MONTH_SECONDS / orphan_sweep_seconds
    calls = _invocation(256, 0.2) + _invocation(512, 1.0)
    _add(lines, "orphan sweeps", runs * (ORPHAN_SWEEP_TRANSITIONS * TRANSITION + calls))
    return lines


def cloudwatch_allowance(template: Mapping[str, Any]) -> float:
    """What of an idle month's alarms and dashboards no account pays for: ten metrics of alarms and three
    dashboards are free for ever, unless other stacks of the account have used them up."""
    kinds = [resource["Type"] for resource in template["Resources"].values()]
    dashboards = min(kinds.count("AWS::CloudWatch::Dashboard"), FREE_DASHBOARDS)
    watched = idle_month(template).get("alarms", 0.0)
    return dashboards * DASHBOARD + min(watched, FREE_ALARM_METRICS * ALARM_METRIC)


def _schedule(template: Mapping[str, Any], rule: Mapping[str, Any]) -> dict[str, float]:
    """Lambda, reads, log lines and transitions of a rule's calls. Scheduled rules themselves are free."""
    calls = MONTH_SECONDS / _period_seconds(rule["ScheduleExpression"])
    lines: dict[str, float] = {}
    for target in rule["Targets"]:
        called = template["Resources"][target["Arn"]["Ref"]]
        if called["Type"] == "AWS::StepFunctions::StateMachine":
            states = str(called["Properties"]["DefinitionString"]).count('"Type"')
            _add(lines, "state machine transitions", calls * states * TRANSITION)
            continue
        if called["Type"] == "AWS::Lambda::Alias":
            called = template["Resources"][called["Properties"]["FunctionName"]["Ref"]]
        memory_mib = called["Properties"]["MemorySize"]
        _add(lines, "scheduled functions", calls * _invocation(memory_mib, SWEEP_SECONDS))
        _add(lines, "table reads of sweeps", calls * SWEEP_READS * DYNAMODB_READ)
        _add(lines, "log lines of sweeps", calls * LOG_LINE_BYTES * LOG_BYTE)
    return lines


def _period_seconds(expression: str) -> int:
    match = re.fullmatch(r"rate\((\d+) (minute|hour|day)s?\)", expression)
    if match is None:
        raise UnpricedResourceError(f"schedule {expression}")
    return int(match[1]) * {"minute": 60, "hour": 3600, "day": 86400}[match[2]]


def _invocation(memory_mib: int, seconds: float) -> float:
    return LAMBDA_REQUEST + memory_mib / 1024 * seconds * LAMBDA_GB_SECOND


def _add(lines: dict[str, float], line: str, cost: float) -> None:
    lines[line] = lines.get(line, 0.0) + cost


@dataclass(frozen=True, slots=True)
class NodeTalk:
    """How often an idle node and the control plane talk, in seconds.

    Attributes:
        report: heartbeat of an idle node whose wake channel is open.
        poll: question for commands while the wake channel is open, in case a wake was lost.
        ping: keeps the channel from being closed for idleness (after ten minutes).
        reconnect: the gateway ends every connection after two hours.
        cluster_check: how often a sweep looks at its cluster, here one of a single node.
        node_check: how often a sweep moves the node's own ``due_at``.
    """

    report: float = 180
    poll: float = 600
    ping: float = 300
    reconnect: float = 6600
    cluster_check: float = 600
    node_check: float = 900


_AGENT_CALL = _invocation(512, 0.030)
_AUTHORIZER_CALL = _invocation(512, 0.012) + DYNAMODB_READ


def _request(*, reads: int, writes: int, authorized_share: float = 1.0) -> float:
    """One request to the agents' API; ``authorized_share`` of them miss the authorizer's cache."""
    gateway = HTTP_REQUEST + ACCESS_LOG_BYTES * LOG_BYTE
    return (
        gateway
        + _AGENT_CALL
        + authorized_share * _AUTHORIZER_CALL
        + reads * DYNAMODB_READ
        + writes * DYNAMODB_WRITE
    )


def idle_node_month(talk: NodeTalk | None = None) -> dict[str, float]:
    """What an idle node costs in the control plane, by line (its machine is the cloud's bill).

    The heartbeat is one write to an item outside the indexes. Moving ``due_at`` costs two writes more, since
    its index entry moves, and for a cluster another one for its entry in ``list``. A state machine run on
    each look would cost ten times all of this.
    """
    talk = talk or NodeTalk()
    channel = _websocket(talk)
    return {
        "heartbeats": MONTH_SECONDS / talk.report * _request(reads=3, writes=1),
        "fallback polls": MONTH_SECONDS / talk.poll * _request(reads=4, writes=0),
        "wake channel": channel,
        "sweeps": MONTH_SECONDS / talk.cluster_check * (3 * DYNAMODB_READ + 4 * DYNAMODB_WRITE)
        + MONTH_SECONDS / talk.node_check * (2 * DYNAMODB_READ + 3 * DYNAMODB_WRITE),
    }


def _websocket(talk: NodeTalk) -> float:
    minutes = MONTH_SECONDS / 60 * WEBSOCKET_MINUTE
    # The price list does not exempt control frames, so pings are counted as messages.
    pings = MONTH_SECONDS / talk.ping * WEBSOCKET_MESSAGE
    connecting = _AUTHORIZER_CALL + 2 * _AGENT_CALL + 2 * DYNAMODB_READ + 2 * DYNAMODB_WRITE
    return minutes + pings + MONTH_SECONDS / talk.reconnect * connecting


def wake_candidates() -> dict[str, float]:
    """Per idle node-month, each way of telling a node within 3 s at the median that there are commands."""
    poll = 5.0
    authorized_share = poll / 60
    held_gb_seconds = MONTH_SECONDS * 512 / 1024
    return {
        "HTTP polling every 5 s": MONTH_SECONDS
        / poll
        * _request(reads=3, writes=0, authorized_share=authorized_share),
        "HTTP request held in Lambda for 25 s": held_gb_seconds * LAMBDA_GB_SECOND
        + MONTH_SECONDS / 25 * (HTTP_REQUEST + LAMBDA_REQUEST),
        "SQS long poll of 20 s": MONTH_SECONDS / 20 * SQS_REQUEST,
        "WebSocket": _websocket(NodeTalk()),
        "IoT Core MQTT": MONTH_SECONDS / 60 * IOT_MINUTE,
    }
