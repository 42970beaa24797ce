"""EventBridge's part that moto leaves out: the deployed rules reach their targets.

Rules, patterns, targets, inputs and retries are read from the account at every event, so that what is
deployed decides. https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rules.html
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from moto.events.models import EventPattern

from tests.deployed.api_gateway import InvokeAs
from tests.deployed.runtime_api import Outcome

__all__ = ["EventRules", "transformed"]

_SERVICE = "events.amazonaws.com"
_SECONDS = {"minute": 60, "hour": 3600, "day": 86400}


class EventRules:
    """``pass_time`` fires the schedules that are due, ``deliver`` brings an event to rules that match it."""

    def __init__(
        self,
        client: Callable[[str], Any],
        invoke: InvokeAs,
        retries: Callable[[str], int],
        *,
        account: str,
        region: str,
        now: Callable[[], float],
    ) -> None:
        """``retries``: how often Lambda itself tries an asynchronous call of a function again."""
        self._events, self._client = client("events"), client
        self._invoke, self._retries, self._now = invoke, retries, now
        self._account, self._region = account, region
        self._since = now()
        self._fired: dict[str, float] = {}

    def pass_time(self) -> dict[str, list[Outcome]]:
        """Each schedule that is due fires once: its targets' outcomes, by the rule's description."""
        now, outcomes = self._now(), {}
        for rule in self._rules("default"):
            every = _seconds(rule["ScheduleExpression"]) if rule.get("ScheduleExpression") else None
            if every is None or now - self._fired.get(rule["Name"], self._since) < every:
                continue
            self._fired[rule["Name"]] = now
            event = self.event("aws.events", "Scheduled Event", {}, resources=[rule["Arn"]])
            outcomes[rule["Description"]] = list(self._reach(rule, event))
        return outcomes

    def deliver(self, bus: str, event: Mapping[str, Any]) -> list[Outcome]:
        """The outcomes of all targets of the rules that match."""
        outcomes = []
        for rule in self._rules(bus):
            pattern = rule.get("EventPattern")
            if pattern and EventPattern.load(pattern).matches_event(dict(event)):
                outcomes += self._reach(rule, event)
        return outcomes

    def event(
        self, source: str, kind: str, detail: Mapping[str, Any], *, resources: list[str] | None = None
    ) -> dict[str, Any]:
        """An event as the bus carries it."""
        return {
            "version": "0",
            "id": str(uuid.uuid4()),
            "detail-type": kind,
            "source": source,
            "account": self._account,
            "time": datetime.fromtimestamp(self._now(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "region": self._region,
            "resources": resources or [],
            "detail": dict(detail),
        }

    def _rules(self, bus: str) -> list[dict[str, Any]]:
        rules = self._events.list_rules(EventBusName=bus)["Rules"]
        return [{**rule, "Bus": bus} for rule in rules if rule["State"] == "ENABLED"]

    def _reach(self, rule: Mapping[str, Any], event: Mapping[str, Any]) -> Iterator[Outcome]:
        targets = self._events.list_targets_by_rule(Rule=rule["Name"], EventBusName=rule["Bus"])["Targets"]
        for target in targets:
            payload = json.dumps(_input(target, event))
            if ":states:" in target["Arn"]:
                self._client("stepfunctions").start_execution(stateMachineArn=target["Arn"], input=payload)
                continue
            yield self._call(rule["Arn"], target, payload)

    def _call(self, rule: str, target: Mapping[str, Any], payload: str) -> Outcome:
        """An asynchronous call: Lambda tries again, and at last gives the event to the dead letters."""
        for _ in range(1 + self._retries(target["Arn"])):
            outcome = self._invoke(target["Arn"], payload.encode(), _SERVICE, rule)
            if not outcome.failed:
                return outcome
        queue = target["DeadLetterConfig"]["Arn"].rpartition(":")[2]
        sqs = self._client("sqs")
        sqs.send_message(QueueUrl=sqs.get_queue_url(QueueName=queue)["QueueUrl"], MessageBody=payload)
        return outcome


def _seconds(expression: str) -> int:
    found = re.fullmatch(r"rate\((\d+) (minute|hour|day)s?\)", expression)
    assert found is not None, f"{expression}: only rates are fired here"
    return int(found.group(1)) * _SECONDS[found.group(2)]


def _input(target: Mapping[str, Any], event: Mapping[str, Any]) -> Any:
    if "Input" in target:
        return json.loads(target["Input"])
    if "InputTransformer" in target:
        return transformed(target["InputTransformer"], event)
    return _at(event, target["InputPath"]) if "InputPath" in target else event


def transformed(transformer: Mapping[str, Any], event: Mapping[str, Any]) -> Any:
    """The input that EventBridge makes of an event: JSON values in place of ``<name>``, quoted or not."""
    text = transformer["InputTemplate"]
    for name, path in transformer.get("InputPathsMap", {}).items():
        value = json.dumps(_at(event, path))
        text = text.replace(f'"<{name}>"', value).replace(f"<{name}>", value)
    return json.loads(text)


def _at(event: Any, path: str) -> Any:
    """The value at ``$.a.b``; None where there is none."""
    for part in path.removeprefix("$").split("."):
        if part:
            event = event.get(part) if isinstance(event, dict) else None
    return event
