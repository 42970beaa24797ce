"""EC2's own word that a spot machine is about to be taken, carried to the jobs that it concerns."""

from __future__ import annotations

from aws_cdk import Duration
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.components.function import WorkerFunction

__all__ = ["Interruptions"]

_KINDS = ["EC2 Spot Instance Interruption Warning", "EC2 Instance Rebalance Recommendation"]


class Interruptions(Construct):
    """A rule on the default bus of the stack's region; elsewhere the agents hear it from their machine.

    EC2 sends these for every machine of the account; the function looks at the tags.
    """

    def __init__(
        self, scope: Construct, id: str, *, recover: WorkerFunction, dead_letters: sqs.Queue
    ) -> None:
        super().__init__(scope, id)
        field = events.EventField.from_path
        events.Rule(
            self,
            "SpotInterruptions",
            description="Tells managed jobs that EC2 is about to take one of their machines.",
            event_pattern=events.EventPattern(source=["aws.ec2"], detail_type=_KINDS),
            targets=[
                targets.LambdaFunction(
                    recover.live,
                    event=events.RuleTargetInput.from_object(
                        {
                            "action": "machine_event",
                            "cloud": "aws",
                            "region": events.EventField.region,
                            "kind": events.EventField.detail_type,
                            "time": events.EventField.time,
                            "machine_id": field("$.detail.instance-id"),
                        }
                    ),
                    dead_letter_queue=dead_letters,
                    # After that the machine is gone, and its provider says so.
                    retry_attempts=2,
                    max_event_age=Duration.minutes(2),
                )
            ],
        )
