"""``python3 -m infra.app``: synthesize the deployment into ``cdk.out`` (the CDK command line runs this)."""

from __future__ import annotations

import json
import os
import re
import sys
from typing import Any

from aws_cdk import App

from infra.assets import Assets
from infra.stacks.control_plane import ControlPlane
from layers.build import MissingLayerError
from stix.clouds.registry import PROVIDERS, check_config
from stix.model.errors import InvalidInputError
from stix.runtime.gateway_settings import gateways_from

__all__ = ["build", "main", "read_clouds"]

_DEPLOYMENT = re.compile(r"[a-z][a-z0-9-]{0,29}")


class DeploymentNameError(Exception):
    """The context value ``deployment`` cannot name a stack, its functions and its state machines."""


class CloudsError(Exception):
    """The context value ``clouds`` is not what a deployment can use."""


def build(app: App, assets: Assets) -> ControlPlane:
    """The deployment that the app's context asks for: ``deployment``, ``clouds``, perhaps ``alarm_email``,
    ``dashboard`` (false leaves it out), ``gateway_nodes`` and ``gateway_infra``."""
    deployment = app.node.try_get_context("deployment") or "stix"
    if not _DEPLOYMENT.fullmatch(deployment):
        raise DeploymentNameError(
            f"deployment is '{deployment}'; it must begin with a letter and hold at most 30 of a-z, 0-9"
            " and '-', for example: -c deployment=stix-test"
        )
    email = app.node.try_get_context("alarm_email") or None
    clouds = read_clouds(app.node.try_get_context("clouds"))
    # The command line gives text, cdk.json perhaps a boolean.
    dashboard = str(app.node.try_get_context("dashboard")).lower() != "false"
    gateways = {
        "STIX_GATEWAY_NODES": str(app.node.try_get_context("gateway_nodes") or ""),
        "STIX_GATEWAY_INFRA": str(app.node.try_get_context("gateway_infra") or ""),
    }
    gateways_from(gateways, nodes=2, least=1)
    return ControlPlane(
        app,
        "ControlPlane",
        deployment=deployment,
        assets=assets,
        clouds=clouds,
        alarm_email=email,
        dashboard=dashboard,
        gateways={name: value for name, value in gateways.items() if value},
    )


def read_clouds(given: Any) -> dict[str, dict[str, Any]]:
    """Settings by cloud, from ``cdk.json`` or JSON on the command line; AWS alone where nothing is given.

    Raises ``CloudsError`` that names the cloud, and ``InvalidInputError`` that names its field.
    """
    if given is None:
        return {"aws": {}}
    try:
        clouds = json.loads(given) if isinstance(given, str) else given
    except ValueError as exc:
        raise CloudsError(f"clouds is not JSON ({exc}); for example: -c clouds='{{\"aws\": {{}}}}'") from exc
    if not isinstance(clouds, dict) or not all(isinstance(config, dict) for config in clouds.values()):
        raise CloudsError(f"clouds is {clouds!r}; it must name each cloud with its settings: {{'aws': {{}}}}")
    for cloud, config in clouds.items():
        if cloud not in PROVIDERS:
            raise CloudsError(f"clouds names {cloud!r}; known are {', '.join(PROVIDERS)}")
        check_config(cloud, config)
    return clouds


def main() -> int:
    # The CDK command line says by CDK_OUTDIR where it wants the assembly.
    app = App(analytics_reporting=False, outdir=os.environ.get("CDK_OUTDIR", "cdk.out"))
    try:
        build(app, Assets())
    except (
        MissingLayerError,
        FileNotFoundError,
        DeploymentNameError,
        CloudsError,
        InvalidInputError,
    ) as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    app.synth()
    return 0


if __name__ == "__main__":
    sys.exit(main())
