"""One synthesis per session; every test reads its template."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# The rule packs below run all the same; this switches off the slow built-in checks, which cfn-lint does too.
os.environ.setdefault("CDK_VALIDATION", "false")

import infra
from layers.build import download

if TYPE_CHECKING:
    from aws_cdk import App

ROOT = Path(infra.__file__).resolve().parent.parent
EMAIL = "operator@example.com"


@dataclass(frozen=True)
class Synthesized:
    """The template of the deployment ``stix`` with mailed alarms, and what the rule packs say about it."""

    folder: Path
    template: dict[str, Any]
    findings: dict[str, list[dict[str, Any]]]

    def resources(self, kind: str) -> dict[str, dict[str, Any]]:
        """Logical id -> resource of that type."""
        return {
            name: resource
            for name, resource in self.template["Resources"].items()
            if resource["Type"] == kind
        }

    def properties(self, kind: str) -> list[dict[str, Any]]:
        return [resource["Properties"] for resource in self.resources(kind).values()]

    def text(self, value: Any) -> str:
        """A value with references in angle brackets, logical ids without their hashes."""
        match value:
            case str():
                return value
            case {"Ref": name}:
                return f"<{short(name)}>"
            case {"Fn::GetAtt": [name, attribute]}:
                return f"<{short(name)}.{attribute}>"
            case {"Fn::Join": [separator, parts]}:
                return separator.join(self.text(part) for part in parts)
            case {"Fn::Select": [number, {"Fn::Split": [separator, whole]}]}:
                return f"{self.text(whole)}/{separator}/{number}"
        raise TypeError(value)


def short(logical_id: str) -> str:
    """Without the hash that the CDK appends."""
    return logical_id if "::" in logical_id else re.sub(r"[0-9A-F]{8}$", "", logical_id)


def synthesize(app: App, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Write the template into ``folder``; what the rule packs find, by pack, empty where they are content."""
    from aws_cdk import Validations
    from cdk_nag import AwsSolutionsChecks, ServerlessChecks

    Validations.of(app).add_plugins(AwsSolutionsChecks(app), ServerlessChecks(app))
    try:
        app.synth()
    except RuntimeError as error:
        # The report is written first; the tests show what is in it.
        if "ValidationFailed" not in str(error):
            raise
    report = json.loads((folder / "validation-report.json").read_text())
    return {
        plugin["pluginName"]: plugin["violations"]
        for plugin in report["pluginReports"]
        if plugin["violations"]
    }


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the one template run in one process: another one would synthesize it again."""
    for item in items:
        if "synthesized" in getattr(item, "fixturenames", ()) and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group("template"))


@pytest.fixture(scope="session")
def synthesized(tmp_path_factory: pytest.TempPathFactory) -> Synthesized:
    from aws_cdk import App

    from infra.app import build
    from infra.assets import Assets

    download("core", "arm64")
    folder = tmp_path_factory.mktemp("cdk") / "out"
    app = App(
        analytics_reporting=False, outdir=str(folder), context={"deployment": "stix", "alarm_email": EMAIL}
    )
    build(app, Assets())
    findings = synthesize(app, folder)
    template = json.loads((folder / "ControlPlane.template.json").read_text())
    return Synthesized(folder=folder, template=template, findings=findings)
