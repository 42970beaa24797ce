"""``python -m tests.costs [--write FILE]``: the page of costs, from the template and counted calls."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.costs", description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE", help="write it there, not to standard output")
    options = parser.parse_args()
    # One line per invocation is the handlers' log; it is no part of the page.
    os.environ["POWERTOOLS_LOG_LEVEL"] = "CRITICAL"
    os.environ.setdefault("CDK_VALIDATION", "false")
    from tests.costs.document import document, memory_by_function
    from tests.costs.scenario import count

    template = _template()
    text = document(template, count(memory_by_function(template)))
    if options.write:
        options.write.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return 0


def _template() -> dict[str, object]:
    from aws_cdk import App

    from infra.app import build
    from infra.assets import Assets
    from layers.build import download

    download("core", "arm64")
    with tempfile.TemporaryDirectory() as folder:
        app = App(analytics_reporting=False, outdir=folder)
        build(app, Assets())
        app.synth()
        template: dict[str, object] = json.loads((Path(folder) / "ControlPlane.template.json").read_text())
        return template


if __name__ == "__main__":
    sys.exit(main())
