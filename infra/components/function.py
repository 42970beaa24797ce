"""One Lambda function with what every function of ours must have."""

from __future__ import annotations

from collections.abc import Mapping

from aws_cdk import Aws, Duration, Fn, RemovalPolicy
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.acknowledge import acknowledge
from infra.components.layer import RUNTIME

__all__ = ["WorkerFunction", "deployment_id"]

_ONE_RUNTIME = (
    "The layer's wheels and bytecode are those of the Python that deploys; the runtime is the same."
)
_FINDINGS = {
    "AwsSolutions-L1": _ONE_RUNTIME,
    "Serverless-LambdaLatestVersion": _ONE_RUNTIME,
    "Serverless-LambdaTracing": "The X-Ray SDK costs half a second of every cold start; ids in the logs tie"
    " calls together.",
}
_SYNCHRONOUS = {
    "Serverless-LambdaDLQ": "Only invoked synchronously: whoever calls gets the error, and nothing is queued"
    " that could be lost.",
}


def deployment_id(deployment: str) -> str:
    """What stands on machines' tags: the name, and of the stack's own id what no other stack has.

    Two stacks of one name, in two regions or one after the other, must not take each other's machines for
    orphans.
    """
    unique = Fn.select(2, Fn.split("/", Aws.STACK_ID))
    return Fn.join("-", [deployment, Fn.select(0, Fn.split("-", unique))])


class WorkerFunction(Construct):
    """arm64, JSON logs kept for 30 days in a group of its own, a role of its own, published versions.

    Attributes:
        function: for its environment and permissions; nobody invokes it unqualified.
        version: what state machines call. Kept when a newer one is published, since a run that started
            before goes on calling it.
        live: alias of the newest version, for whatever does not outlive one request.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        deployment: str,
        name: str,
        code: lambda_.Code,
        layers: list[lambda_.LayerVersion],
        memory_mib: int,
        timeout_seconds: int,
        environment: Mapping[str, str],
        dead_letters: sqs.Queue | None = None,
        package: str = "",
    ) -> None:
        """``package``: the folder below ``functions`` with its handler, where that is not ``name``."""
        super().__init__(scope, id)
        function_name = f"{deployment}-{name}"
        self.name = name
        self.log_group = logs.LogGroup(
            self,
            "Logs",
            log_group_name=f"/aws/lambda/{function_name}",
            retention=logs.RetentionDays.ONE_MONTH,
            removal_policy=RemovalPolicy.DESTROY,
        )
        self.role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
            description=f"What the function {function_name} may do.",
        )
        self.log_group.grant_write(self.role)
        self.function = lambda_.Function(
            self,
            "Function",
            function_name=function_name,
            runtime=RUNTIME,
            architecture=lambda_.Architecture.ARM_64,
            code=code,
            handler=f"functions.{package or name}.handler.handler",
            layers=list(layers),
            role=self.role,
            memory_size=memory_mib,
            timeout=Duration.seconds(timeout_seconds),
            environment={
                "STIX_RUNTIME": "aws",
                "STIX_DEPLOYMENT": deployment_id(deployment),
                "POWERTOOLS_SERVICE_NAME": name,
                "POWERTOOLS_LOG_LEVEL": "INFO",
                "POWERTOOLS_TRACE_DISABLED": "1",
                **environment,
            },
            logging_format=lambda_.LoggingFormat.JSON,
            application_log_level_v2=lambda_.ApplicationLogLevel.INFO,
            # Two lines less for every call that went well: on a heartbeat they would cost as much as it.
            system_log_level_v2=lambda_.SystemLogLevel.WARN,
            log_group=self.log_group,
            tracing=lambda_.Tracing.DISABLED,
            recursive_loop=lambda_.RecursiveLoop.TERMINATE,
            dead_letter_queue=dead_letters,
            current_version_options=lambda_.VersionOptions(removal_policy=RemovalPolicy.RETAIN),
        )
        acknowledge(self.function, _FINDINGS if dead_letters else {**_FINDINGS, **_SYNCHRONOUS})
        self.version = self.function.current_version
        self.live = lambda_.Alias(
            self,
            "Live",
            alias_name="live",
            version=self.version,
            # Only asynchronous invocations look at these two.
            retry_attempts=1 if dead_letters else None,
            max_event_age=Duration.minutes(5) if dead_letters else None,
        )
        if dead_letters:
            acknowledge(
                self.live,
                {"Serverless-LambdaAsyncFailureDestination": "Failures go to the dead-letter queue."},
            )

    @property
    def every_version(self) -> str:
        """ARN pattern of all published versions, also those that runs of last month still call."""
        return f"{self.function.function_arn}:*"

    def set(self, **environment: str) -> None:
        for name, value in environment.items():
            self.function.add_environment(name, value)
