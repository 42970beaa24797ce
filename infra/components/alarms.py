"""Seven alarms, each on one metric: CloudWatch bills per metric watched.

The metrics of ours are written only when there is something to say, and are billed only then. Each alarm's
description names its page in ``docs/operations``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from aws_cdk import Duration
from aws_cdk import aws_apigatewayv2 as apigw
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.acknowledge import acknowledge
from infra.components.function import deployment_id
from stix.runtime.metrics import ORPHAN_SECONDS, OVERDUE_SECONDS, namespace

__all__ = ["Alarms"]

_FUNCTION_ERRORS = (
    '{ (($.level = "ERROR" || $.level = "CRITICAL") &&'
    ' ($.errorType NOT EXISTS || $.errorType != "NotYetTerminatedError")) ||'
    ' ($.type = "platform.report" && ($.record.status = "timeout" || $.record.status = "failure")) }'
)
"""Of what a function raises the runtime writes a line itself, also where that only means "ask again": a
machine that takes its time to go. Of a function that was cut off nobody but the platform tells."""
_FAILED_RUNS = '{ $.type = "ExecutionFailed" || $.type = "ExecutionTimedOut" || $.type = "ExecutionAborted" }'
_OVERDUE_SECONDS = 900
_ORPHAN_SECONDS = 7200
"""Twice the longest time between two looks at a place, of which the second ends an orphan."""
_ERROR_RATE = 0.05


class Alarms(Construct):
    """Tells somebody when work is stuck, lost or failing. Without ``email`` the alarms only change state."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        deployment: str,
        api: apigw.HttpApi,
        dead_letters: sqs.Queue,
        function_logs: Iterable[logs.LogGroup],
        workflow_logs: logs.LogGroup,
        email: str | None,
    ) -> None:
        super().__init__(scope, id)
        self._namespace = namespace(deployment_id(deployment))
        self._action = self._mail(email) if email else None
        for number, group in enumerate(function_logs):
            self._count(f"FunctionErrors{number}", group, "FunctionErrors", _FUNCTION_ERRORS)
        self._count("FailedRuns", workflow_logs, "FailedRuns", _FAILED_RUNS)
        five_minutes = Duration.minutes(5)
        self._alarm(
            "LostEvents",
            "Calls that failed for good wait in the dead-letter queue.",
            dead_letters.metric_approximate_number_of_messages_visible(period=five_minutes, statistic="max"),
            threshold=1,
        )
        self._alarm(
            "FunctionsFail",
            "Functions log errors or end without an answer.",
            self.metric("FunctionErrors", "sum"),
            threshold=3,
        )
        self._alarm(
            "RunsFail",
            "State machine runs end without success.",
            self.metric("FailedRuns", "sum"),
            threshold=1,
        )
        self._alarm(
            "RequestsFail",
            f"More than {_ERROR_RATE:.0%} of the API's requests end in an error of the server's.",
            # The mean over requests of "was it a 5xx": the rate itself, in one metric.
            api.metric_server_error(period=five_minutes, statistic="avg"),
            threshold=_ERROR_RATE,
            periods=3,
        )
        self._alarm(
            "SweepIsLate",
            f"An item has waited more than {_OVERDUE_SECONDS} seconds past its due_at.",
            self.metric(OVERDUE_SECONDS, "max"),
            threshold=_OVERDUE_SECONDS,
        )
        self._alarm(
            "OrphansLive",
            f"A machine that nothing explains has been known for more than {_ORPHAN_SECONDS} seconds.",
            self.metric(ORPHAN_SECONDS, "max"),
            threshold=_ORPHAN_SECONDS,
        )
        self._alarm(
            "CallsAreThrottled",
            "Lambda turns calls away: the account's concurrency is used up, by this deployment or by others.",
            # Over all functions of the account and region, whose concurrency is one: one metric.
            cloudwatch.Metric(
                namespace="AWS/Lambda", metric_name="Throttles", statistic="sum", period=five_minutes
            ),
            threshold=10,
        )

    def metric(self, name: str, statistic: str) -> cloudwatch.Metric:
        """One of the deployment's own."""
        return cloudwatch.Metric(
            namespace=self._namespace, metric_name=name, statistic=statistic, period=Duration.minutes(5)
        )

    def _count(self, id: str, group: logs.LogGroup, metric: str, pattern: str) -> None:
        logs.MetricFilter(
            self,
            id,
            log_group=group,
            metric_namespace=self._namespace,
            metric_name=metric,
            metric_value="1",
            filter_pattern=logs.FilterPattern.literal(pattern),
        )

    def _alarm(
        self, id: str, description: str, metric: cloudwatch.Metric, *, threshold: float, periods: int = 1
    ) -> None:
        page = re.sub(r"(?<!^)(?=[A-Z])", "-", id).lower()
        alarm = cloudwatch.Alarm(
            self,
            id,
            alarm_description=f"{description} Runbook: docs/operations/alarm-{page}.md",
            metric=metric,
            threshold=threshold,
            evaluation_periods=periods,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
        if self._action:
            alarm.add_alarm_action(self._action)
            alarm.add_ok_action(self._action)

    def _mail(self, email: str) -> actions.SnsAction:
        # Not encrypted by a key: CloudWatch may publish only through a key of our own, one dollar a month,
        # and the messages are alarm states.
        topic = sns.Topic(self, "Mail", enforce_ssl=True)
        topic.add_subscription(subscriptions.EmailSubscription(email))
        lost = "A mail that cannot be delivered would only raise the alarm about lost events, also mailed."
        acknowledge(self, {"Serverless-SNSRedrivePolicy": lost})
        return actions.SnsAction(topic)
