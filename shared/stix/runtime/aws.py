"""The ports of a deployed function."""

from __future__ import annotations

import os
from pathlib import Path

from stix.adapters.dynamodb import DynamoStateStore
from stix.adapters.event_bridge import EventBridgeBus
from stix.adapters.lambda_compute import LambdaCompute
from stix.adapters.s3 import S3ObjectStore
from stix.adapters.s3_secrets import S3Secrets
from stix.adapters.step_functions import StepFunctionsWorkflows
from stix.adapters.system import SystemClock, SystemIds
from stix.adapters.websocket_wake import GatewaySockets, WebSocketWake
from stix.application.world import Limits, World
from stix.clouds.registry import PROVIDERS, facts
from stix.ports.cloud_facts import CloudProblem
from stix.runtime.agent_archive import archive_hash
from stix.runtime.current_catalog import published_catalog
from stix.runtime.gateway_settings import gateways_from
from stix.runtime.settings import AwsSettings

__all__ = ["build_world"]

_CATALOG_FOLDER = Path(os.environ.get("TMPDIR", "/tmp"), "catalog")
"""Below the one folder that a function may write to."""


def build_world() -> World:
    """From the environment. Raises ``MissingSettingError``. No request is sent."""
    settings = AwsSettings.from_env()
    store = DynamoStateStore(settings.table)
    objects = S3ObjectStore(settings.objects_bucket)
    clock = SystemClock()
    sockets = GatewaySockets(settings.wake_endpoint)
    return World(
        deployment=settings.deployment,
        runtime="aws",
        store=store,
        objects=objects,
        workflows=StepFunctionsWorkflows(lambda machine: settings.state_machine_arn_prefix + machine),
        compute={
            cloud: LambdaCompute(cloud, f"{settings.cloud_function_prefix}{cloud}:live")
            for cloud in settings.clouds
            if settings.cloud_function_prefix
        },
        secrets=S3Secrets(S3ObjectStore(settings.secrets_bucket)),
        events=EventBridgeBus(settings.event_bus),
        wake=WebSocketWake(store, sockets),
        clock=clock,
        ids=SystemIds(),
        limits=Limits(),
        api_url=lambda: settings.api_url,
        wake_url=settings.wake_url,
        catalog=published_catalog(objects, _CATALOG_FOLDER, clock) if settings.objects_bucket else None,
        clouds={cloud: facts(cloud) for cloud in settings.clouds},
        unusable={
            cloud: CloudProblem(
                "it is not part of this deployment",
                f"Name {cloud} under `clouds` in cdk.json and deploy again; see docs/clouds/{cloud}.md.",
            )
            for cloud in PROVIDERS
            if cloud not in settings.clouds
        },
        agent_hash=lambda: archive_hash(objects),
        sockets=sockets,
        gateways=gateways_from(
            os.environ, nodes=2, least=1, infra=_own_region() if "aws" in settings.clouds else ""
        ),
    )


def _own_region() -> str:
    """As a task's ``infra``: where gateways are, if nobody says otherwise."""
    region = os.environ.get("AWS_REGION", "")
    return f"aws/{region}" if region else "aws"
