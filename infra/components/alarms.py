"""Four alarms, each on one metric: CloudWatch bills per metric watched, and idle must cost under a dollar.

The three metrics of ours are written only when there is something to say, and are billed only then.
"""

from __future__ import annotations

from collections.abc import Iterable

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.acknowledge import acknowledge
from infra.components.function import deployment_id

__all__ = ["Alarms"]

_FUNCTION_ERRORS = (
    '{ $.level = "ERROR" || $.level = "CRITICAL" ||'
    ' ($.type = "platform.report" && $.record.status != "success") }'
)
_FAILED_RUNS = '{ $.type = "ExecutionFailed" || $.type = "ExecutionTimedOut" || $.type = "ExecutionAborted" }'
_OVERDUE_SECONDS = 900


class Alarms(Construct):
    """Tells somebody when work is stuck, lost or failing. Without ``email`` the alarms only change state."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        deployment: str,
        dead_letters: sqs.Queue,
        function_logs: Iterable[logs.LogGroup],
        workflow_logs: logs.LogGroup,
        email: str | None,
    ) -> None:
        super().__init__(scope, id)
        self._namespace = f"Stix/{deployment_id(deployment)}"
        self._action = self._mail(email) if email else None
        for number, group in enumerate(function_logs):
            self._count(f"FunctionErrors{number}", group, "FunctionErrors", _FUNCTION_ERRORS)
        self._count("FailedRuns", workflow_logs, "FailedRuns", _FAILED_RUNS)
        self._alarm(
            "LostEvents",
            "Calls that failed for good wait in the dead-letter queue.",
            dead_letters.metric_approximate_number_of_messages_visible(
                period=Duration.minutes(5), statistic="max"
            ),
            threshold=1,
        )
        self._alarm(
            "FunctionsFail",
            "Functions log errors or end without an answer.",
            self._metric("FunctionErrors", "sum"),
            threshold=3,
        )
        self._alarm(
            "RunsFail",
            "State machine runs end without success.",
            self._metric("FailedRuns", "sum"),
            threshold=1,
        )
        self._alarm(
            "SweepIsLate",
            f"An item has waited more than {_OVERDUE_SECONDS} seconds past its due_at.",
            self._metric("OverdueSeconds", "max"),
            threshold=_OVERDUE_SECONDS,
        )

    def _metric(self, name: str, statistic: str) -> cloudwatch.Metric:
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

    def _alarm(self, id: str, description: str, metric: cloudwatch.Metric, *, threshold: float) -> None:
        alarm = cloudwatch.Alarm(
            self,
            id,
            alarm_description=description,
            metric=metric,
            threshold=threshold,
            evaluation_periods=1,
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
