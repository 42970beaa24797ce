"""A function for each cloud that the deployment uses: its SDK, its rights and its secret, nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

from aws_cdk import Aws
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from infra.acknowledge import acknowledge, allow
from infra.assets import Assets
from infra.components.buckets import SecretsBucket
from infra.components.function import WorkerFunction
from infra.components.layer import PackageLayer
from layers.build import LAYERS

__all__ = ["CloudFunctions"]

_SECONDS = 110
"""Below the 115 for which its caller waits."""
_MEMORY_MIB = {"aws": 512, "azure": 768, "gcp": 1024, "kubernetes": 768}
"""The SDK's import is most of a cold start, and memory buys processor time."""


class CloudFunctions(Construct):
    """``functions``: by cloud. Whoever calls them gets the right by ``grant_call``."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        deployment: str,
        clouds: Mapping[str, Mapping[str, Any]],
        assets: Assets,
        package: PackageLayer,
        secrets: SecretsBucket,
    ) -> None:
        super().__init__(scope, id)
        self._deployment = deployment
        self.functions: dict[str, WorkerFunction] = {}
        for cloud, config in sorted(clouds.items()):
            function = WorkerFunction(
                self,
                cloud.capitalize(),
                deployment=deployment,
                name=f"cloud-{cloud}",
                package="cloud",
                code=lambda_.Code.from_asset(assets.function("cloud")),
                layers=[package, *self._sdk(cloud, assets)],
                memory_mib=_MEMORY_MIB[cloud],
                timeout_seconds=_SECONDS,
                environment={
                    "STIX_CLOUD": cloud,
                    "STIX_CLOUD_CONFIG": json.dumps(config, sort_keys=True),
                    "STIX_SECRETS_BUCKET": secrets.bucket.bucket_name,
                },
            )
            secrets.grant_key_of(function.role, cloud)
            self.functions[cloud] = function
        if "aws" in self.functions:
            _permit_aws(self.functions["aws"])

    def _sdk(self, cloud: str, assets: Assets) -> list[PackageLayer]:
        """The cloud's SDK, which no other function mounts; AWS's own is in the runtime."""
        if cloud not in LAYERS:
            return []
        title = f"Stix: the SDK of {cloud}"
        return [PackageLayer(self, f"{cloud.capitalize()}Sdk", folder=assets.layer(cloud), description=title)]

    @property
    def names(self) -> str:
        """As the other functions' environment has them."""
        return ",".join(self.functions)

    @property
    def prefix(self) -> str:
        """ARN of every cloud's function up to the cloud's name. Names, not references: they are made once."""
        return f"arn:{Aws.PARTITION}:lambda:{Aws.REGION}:{Aws.ACCOUNT_ID}:function:{self._deployment}-cloud-"

    def grant_call(self, caller: WorkerFunction) -> None:
        """``caller`` may make calls of every cloud, at the newest version."""
        if self.functions:
            live = [f"{self.prefix}{cloud}:live" for cloud in self.functions]
            allow(caller.role, "lambda:InvokeFunction", on=live)
        caller.set(STIX_CLOUD_FUNCTION_PREFIX=self.prefix)


def _permit_aws(function: WorkerFunction) -> None:
    """What ``docs/clouds/aws.md`` lists: the provider's own policy file, held to its calls by its tests."""
    text = resources.files("stix.clouds.aws").joinpath("policy.json").read_text(encoding="utf-8")
    for statement in json.loads(text)["Statement"]:
        function.role.add_to_principal_policy(iam.PolicyStatement.from_json(statement))
    acknowledge(
        function.role,
        {
            "AwsSolutions-IAM5[Resource::arn:aws:ssm:*::parameter/aws/service/*]": "AWS's own public"
            " parameters, in every region: they name the newest images.",
            "AwsSolutions-IAM5[Resource::arn:aws:iam::*:role/aws-service-role/*]": "The role that EC2 makes"
            " for itself at the first spot machine of an account.",
            "AwsSolutions-IAM5[Resource::*]": "EC2 names no resource before it makes one; what changes"
            " machines is bound to this deployment's tag where EC2 lets it be.",
        },
    )
