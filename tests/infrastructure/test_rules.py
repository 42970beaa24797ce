from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.infrastructure.conftest import ROOT, Synthesized, synthesize


def test_rule_packs_find_nothing(synthesized: Synthesized) -> None:
    assert synthesized.findings == {}


def test_rule_packs_find_something_when_a_bucket_is_careless(tmp_path: Path) -> None:
    # The report above is empty; this shows that the packs look at all.
    from aws_cdk import App, Stack
    from aws_cdk import aws_s3 as s3

    app = App(analytics_reporting=False, outdir=str(tmp_path / "out"))
    s3.Bucket(Stack(app, "Careless"), "Bucket")
    findings = synthesize(app, tmp_path / "out")
    assert {"AwsSolutions"} <= findings.keys()
    assert "AwsSolutions-S10" in {violation["ruleName"] for violation in findings["AwsSolutions"]}


def test_acknowledgements_carry_reasons(synthesized: Synthesized) -> None:
    metadata = json.loads(Path(synthesized.folder, "ControlPlane.metadata.json").read_text())
    text = json.dumps(metadata)
    assert "AwsSolutions-S1" in text
    assert "CloudTrail data events" in text


def test_cfn_lint_finds_nothing(synthesized: Synthesized) -> None:
    from cfnlint.api import lint_file

    # W3005: the CDK writes a DependsOn beside references that imply it; harmless, and not ours to change.
    matches = lint_file(
        Path(synthesized.folder, "ControlPlane.template.json"), config={"ignore_checks": ["W3005"]}
    )
    assert [str(match) for match in matches] == []


def test_synthesis_needs_no_network(synthesized: Synthesized, tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    if (
        unshare is None
        or subprocess.run([unshare, "-rn", "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("this system lets nobody make a network namespace")
    variables = {**os.environ, "CDK_OUTDIR": str(tmp_path / "out"), "CDK_VALIDATION": "false"}
    variables["PYTHONPATH"] = os.pathsep.join([str(ROOT), *sys.path])
    done = subprocess.run(
        [unshare, "-rn", sys.executable, "-m", "infra.app"],
        cwd=ROOT,
        env=variables,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    offline = json.loads((tmp_path / "out" / "ControlPlane.template.json").read_text())
    # The same but for the mailed alarms, which are asked for by context.
    kinds = {resource["Type"] for resource in offline["Resources"].values()}
    assert kinds == {r["Type"] for r in synthesized.template["Resources"].values()} - {
        "AWS::SNS::Topic",
        "AWS::SNS::TopicPolicy",
        "AWS::SNS::Subscription",
    }


@pytest.mark.parametrize("name", ["Stix", "1st", "a_b", "x" * 31])
def test_deployment_name_is_refused_with_the_fix_when_it_cannot_be_used(name: str) -> None:
    from aws_cdk import App

    from infra.app import DeploymentNameError, build
    from infra.assets import Assets

    with pytest.raises(DeploymentNameError, match=f"deployment is '{name}'.*-c deployment="):
        build(App(context={"deployment": name}), Assets())
