"""The bridge from EventBridge's rules to their targets does what the rules say, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.deployed.event_rules import EventRules, transformed
from tests.deployed.runtime_api import Outcome

FUNCTION = "arn:aws:lambda:r:1:function:f:live"
WARNING = {"source": ["aws.ec2"], "detail-type": ["EC2 Spot Instance Interruption Warning"]}


class Bus:
    """The account: rules, the function, and the queue of dead letters."""

    def __init__(self, rule: dict[str, Any], target: dict[str, Any]) -> None:
        self.now = 0.0
        self.fail = 0
        self.calls: list[Any] = []
        self.letters: list[str] = []
        self._rule = {"Name": "n", "Arn": "arn:rule", "State": "ENABLED", "Description": "d", **rule}
        queue = {"DeadLetterConfig": {"Arn": "arn:aws:sqs:r:1:dead"}}
        self._target = {"Id": "t", "Arn": FUNCTION, **queue, **target}
        self.rules = EventRules(
            lambda service: self,
            self._invoke,
            lambda arn: 1,
            account="1",
            region="r",
            now=lambda: self.now,
        )

    def list_rules(self, EventBusName: str) -> dict[str, Any]:  # noqa: N803 - as the SDK names it
        return {"Rules": [self._rule] if EventBusName == "default" else []}

    def list_targets_by_rule(self, Rule: str, EventBusName: str) -> dict[str, Any]:  # noqa: N803
        return {"Targets": [self._target]}

    def get_queue_url(self, QueueName: str) -> dict[str, str]:  # noqa: N803
        return {"QueueUrl": QueueName}

    def send_message(self, QueueUrl: str, MessageBody: str) -> None:  # noqa: N803
        assert QueueUrl == "dead"
        self.letters.append(MessageBody)

    def _invoke(self, function: str, payload: bytes, service: str, source: str) -> Outcome:
        assert (function, service, source) == (FUNCTION, "events.amazonaws.com", "arn:rule")
        self.calls.append(json.loads(payload))
        if self.fail:
            self.fail -= 1
            return Outcome.error("Boom", "broken")
        return Outcome(b"null")

    def warn(self) -> int:
        kind = "EC2 Spot Instance Interruption Warning"
        event = self.rules.event("aws.ec2", kind, {"instance-id": "i-1", "instance-action": "terminate"})
        return len(self.rules.deliver("default", event))


def test_schedule_fires_once_each_time_its_interval_is_over() -> None:
    bus = Bus({"ScheduleExpression": "rate(2 minutes)"}, {"Input": '{"action": "sweep"}'})
    fired = []
    for bus.now in (60, 119, 120, 121, 239, 240, 1000):
        fired.append(len(bus.rules.pass_time()))
    assert fired == [0, 0, 1, 0, 0, 1, 1]
    assert bus.calls == [{"action": "sweep"}] * 3


def test_schedule_rests_when_its_rule_is_disabled() -> None:
    bus = Bus({"ScheduleExpression": "rate(1 hour)", "State": "DISABLED"}, {"Input": "{}"})
    bus.now = 7200
    assert bus.rules.pass_time() == {}


def test_event_reaches_the_target_in_the_form_that_its_transformer_makes() -> None:
    paths = {"machine": "$.detail.instance-id", "region": "$.region"}
    template = '{"action":"lost","machine":<machine>,"where":"<region>"}'
    transformer = {"InputPathsMap": paths, "InputTemplate": template}
    bus = Bus({"EventPattern": json.dumps(WARNING)}, {"InputTransformer": transformer})
    assert bus.warn() == 1
    assert bus.calls == [{"action": "lost", "machine": "i-1", "where": "r"}]


@pytest.mark.parametrize(
    "changed",
    [{"source": ["aws.ecs"]}, {"detail-type": ["Other"]}, {"detail": {"instance-action": ["stop"]}}],
)
def test_event_reaches_nobody_when_the_pattern_is_another(changed: dict[str, Any]) -> None:
    bus = Bus({"EventPattern": json.dumps({**WARNING, **changed})}, {})
    assert bus.warn() == 0
    assert bus.calls == []


def test_call_is_repeated_and_then_a_dead_letter_when_the_function_fails() -> None:
    bus = Bus({"EventPattern": json.dumps(WARNING)}, {"Input": '"x"'})
    bus.fail = 1
    bus.warn()
    assert (bus.calls, bus.letters) == (["x", "x"], [])
    bus.fail = 2
    bus.warn()
    assert (bus.calls, bus.letters) == (["x"] * 4, ['"x"'])


def test_transformer_leaves_json_when_a_value_is_absent_or_not_text() -> None:
    paths = {"a": "$.detail.n", "b": "$.detail.gone"}
    made = transformed({"InputPathsMap": paths, "InputTemplate": '[<a>, "<b>"]'}, {"detail": {"n": 3}})
    assert made == [3, None]
