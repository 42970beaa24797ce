"""The state machines, from the same files that the embedded runtime interprets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from aws_cdk import Aws, RemovalPolicy
from aws_cdk import aws_logs as logs
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from infra.acknowledge import acknowledge, allow
from infra.components.function import WorkerFunction

__all__ = ["Workflows", "arn_prefix", "task_seconds"]

_NO_TRACES = "Traces would need the X-Ray SDK in the functions: half a second of every cold start."
_FINDINGS = {
    "AwsSolutions-IAM5[Resource::*]": "The actions that deliver logs have no resource to name.",
    "AwsSolutions-SF1": "Step Functions keeps each history; logging all of it would cost more than the run.",
    "AwsSolutions-SF2": _NO_TRACES,
    "Serverless-StepFunctionStateMachineXray": _NO_TRACES,
}
_PLACEHOLDER = re.compile(r"\$\{([A-Za-z]+)FunctionArn\}")


def arn_prefix(deployment: str) -> str:
    """ARN of every state machine of the deployment up to its short name.

    Names, not references: the functions must know the machines and the machines call the functions.
    """
    return f"arn:{Aws.PARTITION}:states:{Aws.REGION}:{Aws.ACCOUNT_ID}:stateMachine:{deployment}-"


def task_seconds(definitions: Mapping[str, str]) -> dict[str, int]:
    """For each function the longest time that any state gives it; a wait for a token does not count."""
    longest: dict[str, int] = {}
    for definition in definitions.values():
        for state in _states(json.loads(definition)):
            if state["Type"] != "Task" or state["Resource"].endswith(".waitForTaskToken"):
                continue
            for name in _functions(json.dumps(state)):
                longest[name] = max(longest.get(name, 0), state["TimeoutSeconds"])
    return longest


def _states(definition: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for state in definition["States"].values():
        yield state
        nested = [
            *state.get("Branches", ()),
            *(state[key] for key in ("ItemProcessor", "Iterator") if key in state),
        ]
        for inner in nested:
            yield from _states(inner)


def _functions(text: str) -> list[str]:
    """Names of the functions that a definition calls, in order of first use."""
    return list(dict.fromkeys(name.lower() for name in _PLACEHOLDER.findall(text)))


class Workflows(Construct):
    """One Standard state machine per definition, a role each, errors logged to one group.

    Attributes:
        log_group: of all machines: one filter over it finds every failed run.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        deployment: str,
        definitions: Mapping[str, str],
        functions: Mapping[str, WorkerFunction],
    ) -> None:
        super().__init__(scope, id)
        self.log_group = logs.LogGroup(
            self,
            "Logs",
            # Under this prefix the group needs no entry in the account's one size-limited log policy.
            log_group_name=f"/aws/vendedlogs/states/{deployment}",
            retention=logs.RetentionDays.ONE_MONTH,
            removal_policy=RemovalPolicy.DESTROY,
        )
        for name, definition in definitions.items():
            called = {function: functions[function] for function in _functions(definition)}
            self._add(deployment, name, definition, called)

    def _add(self, deployment: str, name: str, definition: str, called: Mapping[str, WorkerFunction]) -> None:
        machine = sfn.StateMachine(
            self,
            name.capitalize(),
            state_machine_name=f"{deployment}-{name}",
            state_machine_type=sfn.StateMachineType.STANDARD,
            definition_body=sfn.DefinitionBody.from_string(definition),
            definition_substitutions={
                f"{function.capitalize()}FunctionArn": worker.version.function_arn
                for function, worker in called.items()
            },
            logs=sfn.LogOptions(
                destination=self.log_group, level=sfn.LogLevel.ERROR, include_execution_data=False
            ),
            tracing_enabled=False,
        )
        allow(
            machine.role,
            "lambda:InvokeFunction",
            on=[worker.every_version for worker in called.values()],
            wildcard="A run that began before the last deployment goes on calling the version it began with.",
        )
        acknowledge(machine, _FINDINGS)
