"""Layers: the one that every function mounts (dependencies and the ``stix`` package), and a cloud's SDK."""

from __future__ import annotations

from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from layers.bytecode import runtime

__all__ = ["RUNTIME", "PackageLayer"]

RUNTIME = lambda_.Runtime(f"python{runtime()}", lambda_.RuntimeFamily.PYTHON)


class PackageLayer(lambda_.LayerVersion):
    """boto3 is not in it: the one that the Lambda runtime carries is patched by AWS and there already."""

    def __init__(self, scope: Construct, id: str, *, folder: str, description: str) -> None:
        super().__init__(
            scope,
            id,
            code=lambda_.Code.from_asset(folder),
            compatible_architectures=[lambda_.Architecture.ARM_64],
            compatible_runtimes=[RUNTIME],
            description=description,
        )
