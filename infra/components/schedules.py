"""EventBridge rules from the one list of schedules, which the embedded scheduler runs too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aws_cdk import Duration
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.components.function import WorkerFunction
from stix.runtime.schedules import Schedule

__all__ = ["Schedules"]


class Schedules(Construct):
    """A rule per schedule on the default bus, where they cost nothing (EventBridge Scheduler bills calls)."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        schedules: Iterable[Schedule],
        functions: Mapping[str, WorkerFunction],
        dead_letters: sqs.Queue,
    ) -> None:
        super().__init__(scope, id)
        for schedule in schedules:
            events.Rule(
                self,
                "".join(part.capitalize() for part in schedule.name.split("-")),
                description=f"Runs {schedule.name} every {schedule.every_seconds} seconds.",
                schedule=events.Schedule.rate(Duration.seconds(schedule.every_seconds)),
                targets=[
                    targets.LambdaFunction(
                        functions[schedule.function].live,
                        event=events.RuleTargetInput.from_object(dict(schedule.payload)),
                        dead_letter_queue=dead_letters,
                        # The next call comes soon enough; a long queue of old ones would help nobody.
                        retry_attempts=2,
                        max_event_age=Duration.minutes(5),
                    )
                ],
            )
