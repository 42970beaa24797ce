"""The ports of a deployed function."""

from __future__ import annotations

from stix.adapters.dynamodb import DynamoStateStore
from stix.adapters.event_bridge import EventBridgeBus
from stix.adapters.s3 import S3ObjectStore
from stix.adapters.s3_secrets import S3Secrets
from stix.adapters.step_functions import StepFunctionsWorkflows
from stix.adapters.system import SystemClock, SystemIds
from stix.adapters.websocket_wake import WebSocketWake
from stix.application.world import Limits, World
from stix.runtime.settings import AwsSettings

__all__ = ["build_world"]


def build_world() -> World:
    """From the environment. Raises ``MissingSettingError``. No request is sent."""
    settings = AwsSettings.from_env()
    store = DynamoStateStore(settings.table)
    return World(
        deployment=settings.deployment,
        runtime="aws",
        store=store,
        objects=S3ObjectStore(settings.objects_bucket),
        workflows=StepFunctionsWorkflows(lambda machine: settings.state_machine_arn_prefix + machine),
        compute={},
        secrets=S3Secrets(S3ObjectStore(settings.secrets_bucket)),
        events=EventBridgeBus(settings.event_bus),
        wake=WebSocketWake(store, settings.wake_endpoint),
        clock=SystemClock(),
        ids=SystemIds(),
        limits=Limits(),
        api_url=lambda: settings.api_url,
        wake_url=settings.wake_url,
    )
