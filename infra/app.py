"""``python3 -m infra.app``: synthesize the deployment into ``cdk.out`` (the CDK command line runs this)."""

from __future__ import annotations

import os
import re
import sys

from aws_cdk import App

from infra.assets import Assets
from infra.stacks.control_plane import ControlPlane
from layers.build import MissingLayerError

__all__ = ["build", "main"]

_DEPLOYMENT = re.compile(r"[a-z][a-z0-9-]{0,29}")


class DeploymentNameError(Exception):
    """The context value ``deployment`` cannot name a stack, its functions and its state machines."""


def build(app: App, assets: Assets) -> ControlPlane:
    """The deployment that the app's context asks for: ``deployment``, and ``alarm_email`` if there is one."""
    deployment = app.node.try_get_context("deployment") or "stix"
    if not _DEPLOYMENT.fullmatch(deployment):
        raise DeploymentNameError(
            f"deployment is '{deployment}'; it must begin with a letter and hold at most 30 of a-z, 0-9"
            " and '-', for example: -c deployment=stix-test"
        )
    email = app.node.try_get_context("alarm_email") or None
    return ControlPlane(app, "ControlPlane", deployment=deployment, assets=assets, alarm_email=email)


def main() -> int:
    # The CDK command line says by CDK_OUTDIR where it wants the assembly.
    app = App(analytics_reporting=False, outdir=os.environ.get("CDK_OUTDIR", "cdk.out"))
    try:
        build(app, Assets())
    except (MissingLayerError, FileNotFoundError, DeploymentNameError) as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    app.synth()
    return 0


if __name__ == "__main__":
    sys.exit(main())
