"""The deployment's assembly, as ``cdk synth`` writes it."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["synthesize"]


def synthesize(folder: Path, **context: str) -> Path:
    """The template and its assets, in ``folder``, from the layers that are built for Lambda."""
    os.environ.setdefault("CDK_VALIDATION", "false")
    from aws_cdk import App

    from infra.app import build
    from infra.assets import Assets
    from layers.build import download

    download("core", "arm64")
    app = App(analytics_reporting=False, outdir=str(folder), context={"deployment": "stix", **context})
    build(app, Assets())
    app.synth()
    return folder
