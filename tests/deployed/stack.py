"""A synthesized assembly becomes a stack: what ``cdk bootstrap`` and ``cdk deploy`` do, without Node."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.deployed import shims

__all__ = ["create_stack", "stack_name", "zipped"]

_BOOTSTRAP_VERSION = "30"


def create_stack(
    client: Callable[[str], Any], assembly: Path, *, account: str, region: str
) -> dict[str, str]:
    """Publish the assembly's assets and create its stack: the stack's outputs.

    ``client`` makes a client of a service by its name.
    """
    (file,) = assembly.glob("*.template.json")
    template = json.loads(file.read_text())
    version = template["Parameters"]["BootstrapVersion"]["Default"]
    client("ssm").put_parameter(Name=version, Value=_BOOTSTRAP_VERSION, Type="String")
    _publish(client("s3"), assembly, account, region)
    name = stack_name(assembly)
    formation = client("cloudformation")
    with shims.registered():
        formation.create_stack(
            StackName=name, TemplateBody=json.dumps(template), Capabilities=["CAPABILITY_NAMED_IAM"]
        )
    (stack,) = formation.describe_stacks(StackName=name)["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE", stack
    return {entry["OutputKey"]: entry["OutputValue"] for entry in stack["Outputs"]}


def stack_name(assembly: Path) -> str:
    artifacts = json.loads((assembly / "manifest.json").read_text())["artifacts"].values()
    (stack,) = (one for one in artifacts if one["type"] == "aws:cloudformation:stack")
    return str(stack["properties"]["stackName"])


def _publish(s3: Any, assembly: Path, account: str, region: str) -> None:
    """Zip files, to where the template looks for them."""
    (manifest,) = assembly.glob("*.assets.json")
    buckets = set()
    for asset in json.loads(manifest.read_text())["files"].values():
        if asset["source"]["packaging"] != "zip":
            continue
        (destination,) = asset["destinations"].values()
        bucket = destination["bucketName"]
        bucket = bucket.replace("${AWS::AccountId}", account).replace("${AWS::Region}", region)
        if bucket not in buckets:
            s3.create_bucket(Bucket=bucket)
            buckets.add(bucket)
        content = zipped(assembly / asset["source"]["path"])
        s3.put_object(Bucket=bucket, Key=destination["objectKey"], Body=content)


def zipped(folder: Path) -> bytes:
    """As the CDK's command line packs an asset."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder))
    return buffer.getvalue()
