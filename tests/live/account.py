"""A deployment of its own in a real AWS account, and its removal down to the last bucket."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3

__all__ = ["Deployment", "deployed", "remove"]

STIX = Path(sys.executable).with_name("stix")
_COMMAND_SECONDS = 1800.0


class Deployment:
    """``stix`` runs a command of somebody who is logged in; ``name`` is the stack's."""

    def __init__(self, folder: Path, name: str, environ: Mapping[str, str]) -> None:
        self.name = name
        # The person's own AWS settings, and no login of theirs.
        kept = {key: value for key, value in environ.items() if not key.startswith("STIX_")}
        self.environ = {**kept, "STIX_HOME": str(folder), "COLUMNS": "100"}

    def stix(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        print(f"$ stix {' '.join(arguments)}", flush=True)
        done = subprocess.run(
            [STIX, *arguments],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_COMMAND_SECONDS,
        )
        if check and done.returncode:
            raise AssertionError(
                f"stix {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
            )
        return done

    def outputs(self) -> dict[str, str]:
        """Empty once the stack is gone."""
        try:
            found = boto3.client("cloudformation").describe_stacks(StackName=self.name)["Stacks"][0]
        except boto3.client("cloudformation").exceptions.ClientError:
            return {}
        return {entry["OutputKey"]: entry["OutputValue"] for entry in found.get("Outputs", ())}


@contextlib.contextmanager
def deployed(environ: Mapping[str, str] = os.environ) -> Iterator[Deployment]:
    """Deploy under a name that nobody else has; whatever happens, remove all of it."""
    with tempfile.TemporaryDirectory() as folder:
        made = Deployment(Path(folder), f"stix-e2e-{secrets.token_hex(3)}", environ)
        kept: dict[str, str] = {}
        try:
            made.stix("deploy", "--deployment", made.name, "-y")
            kept = made.outputs()
            yield made
        finally:
            remove(made, kept or made.outputs())


def remove(made: Deployment, outputs: Mapping[str, str]) -> None:
    """Machines first, then what watches them, then what the stack leaves behind. A step that fails does not
    keep the next ones from being tried; the first failure is raised at the end."""
    steps: list[Callable[[], object]] = [
        lambda: made.stix("down", "-y", "-a"),
        lambda: _end_machines(outputs.get("Deployment", "")),
        lambda: _await_gone(made),
        lambda: made.stix("deploy", "--destroy", "--deployment", made.name, "-y"),
        lambda: _end_stack(made.name),
        lambda: _delete_table(outputs.get("TableName", "")),
        lambda: _delete_bucket(outputs.get("ObjectsBucket", "")),
        lambda: _delete_bucket(outputs.get("SecretsBucket", "")),
    ]
    failures: list[Exception] = []
    for step in steps:
        try:
            step()
        except Exception as exc:
            print(f"while removing {made.name}: {exc}", flush=True)
            failures.append(exc)
    if failures:
        raise failures[0]


def _await_gone(made: Deployment, seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while "No clusters" not in made.stix("status").stdout:
        if time.monotonic() > deadline:
            raise AssertionError("clusters are left")
        time.sleep(10)


def _end_machines(deployment: str) -> None:
    """Whatever carries the deployment's tag, in every region, though its clusters should be down already."""
    if not deployment:
        return
    tagged = [{"Name": "tag:stix-deployment", "Values": [deployment]}]
    running = {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]}
    for region in [one["RegionName"] for one in boto3.client("ec2").describe_regions()["Regions"]]:
        ec2 = boto3.client("ec2", region_name=region)
        pages = ec2.get_paginator("describe_instances").paginate(Filters=[*tagged, running])
        ids = [
            one["InstanceId"]
            for page in pages
            for group in page["Reservations"]
            for one in group["Instances"]
        ]
        if ids:
            ec2.terminate_instances(InstanceIds=ids)
            print(f"ended {len(ids)} machines in {region} that `stix down` had left", flush=True)
        for template in ec2.describe_launch_templates(Filters=tagged)["LaunchTemplates"]:
            ec2.delete_launch_template(LaunchTemplateId=template["LaunchTemplateId"])


def _end_stack(name: str) -> None:
    """Where ``--destroy`` was refused or broke off."""
    formation = boto3.client("cloudformation")
    formation.delete_stack(StackName=name)
    formation.get_waiter("stack_delete_complete").wait(StackName=name)


def _delete_table(name: str) -> None:
    if not name:
        return
    dynamodb = boto3.client("dynamodb")
    dynamodb.update_table(TableName=name, DeletionProtectionEnabled=False)
    dynamodb.get_waiter("table_exists").wait(TableName=name)
    dynamodb.delete_table(TableName=name)


def _delete_bucket(name: str) -> None:
    if not name:
        return
    bucket: Any = boto3.resource("s3").Bucket(name)
    bucket.object_versions.delete()
    bucket.delete()
