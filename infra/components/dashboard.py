"""One page of graphs: what the alarms watch, and what explains it."""

from __future__ import annotations

from collections.abc import Mapping

from aws_cdk import Duration
from aws_cdk import aws_apigatewayv2 as apigw
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.components.alarms import Alarms
from infra.components.function import WorkerFunction
from infra.components.workflows import arn_prefix
from stix.runtime.metrics import ORPHAN_SECONDS

__all__ = ["Dashboard"]

_PERIOD = Duration.minutes(5)


class Dashboard(Construct):
    """At most 50 metrics: up to three such dashboards are free in every account."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        deployment: str,
        api: apigw.HttpApi,
        table: dynamodb.Table,
        dead_letters: sqs.Queue,
        functions: Mapping[str, WorkerFunction],
        machines: list[str],
        alarms: Alarms,
    ) -> None:
        super().__init__(scope, id)
        monitor = functions["monitor"]
        late = cloudwatch.LogQueryWidget(
            title="Oldest due item, seconds past its moment",
            log_group_names=[monitor.log_group.log_group_name],
            # From the sweep's log line: a metric written every minute would be billed all month.
            query_lines=["filter action = 'sweep'", "stats max(oldest_due_seconds) as seconds by bin(5m)"],
            view=cloudwatch.LogQueryVisualizationType.LINE,
            width=12,
        )
        cloudwatch.Dashboard(
            self,
            "Dashboard",
            dashboard_name=deployment,
            widgets=[
                [
                    _graph(
                        "Share of requests that fail",
                        api.metric_server_error(statistic="avg", label="server", period=_PERIOD),
                        api.metric_client_error(statistic="avg", label="client", period=_PERIOD),
                    ),
                    _graph(
                        "Requests, and their latency",
                        api.metric_count(statistic="sum", period=_PERIOD),
                        right=[api.metric_latency(statistic=each, period=_PERIOD) for each in ("p50", "p99")],
                    ),
                ],
                [
                    late,
                    _graph(
                        "Oldest machine that nothing explains, seconds", alarms.metric(ORPHAN_SECONDS, "max")
                    ),
                ],
                [
                    _graph(
                        "Throttled",
                        *(
                            _of(
                                "AWS/Lambda",
                                "Throttles",
                                "sum",
                                FunctionName=f"{deployment}-{name}",
                                label=name,
                            )
                            for name in functions
                        ),
                        *(
                            _of("AWS/DynamoDB", name, "sum", TableName=table.table_name)
                            for name in ("ReadThrottleEvents", "WriteThrottleEvents")
                        ),
                    ),
                    _graph(
                        "Errors in logs, failed runs, lost events",
                        alarms.metric("FunctionErrors", "sum"),
                        alarms.metric("FailedRuns", "sum"),
                        dead_letters.metric_approximate_number_of_messages_visible(
                            period=_PERIOD, statistic="max"
                        ),
                    ),
                ],
                [
                    _graph(
                        "Runs begun",
                        *(
                            _of(
                                "AWS/States",
                                "ExecutionsStarted",
                                "sum",
                                StateMachineArn=f"{arn_prefix(deployment)}{name}",
                                label=name,
                            )
                            for name in machines
                        ),
                    ),
                    _graph(
                        "Longest duration of each function, milliseconds",
                        *(
                            _of(
                                "AWS/Lambda",
                                "Duration",
                                "max",
                                FunctionName=f"{deployment}-{name}",
                                label=name,
                            )
                            for name in functions
                        ),
                    ),
                ],
            ],
        )


def _graph(
    title: str, *left: cloudwatch.IMetric, right: list[cloudwatch.IMetric] | None = None
) -> cloudwatch.GraphWidget:
    return cloudwatch.GraphWidget(title=title, left=list(left), right=right or [], width=12)


def _of(
    namespace: str, metric: str, statistic: str, *, label: str | None = None, **dimensions: str
) -> cloudwatch.Metric:
    return cloudwatch.Metric(
        namespace=namespace,
        metric_name=metric,
        statistic=statistic,
        period=_PERIOD,
        label=label,
        dimensions_map=dimensions,
    )
