"""The wheel carries what it does not run itself as archives: the agent, which machines run, and the CDK app,
which `stix deploy` unpacks. As modules with bytecode they would take ten times the room."""

from __future__ import annotations

import importlib.util
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_APP = ("cdk.json", "infra", "layers")
_FILES = Path("infra", "state_machines")
"""Run by the embedded control plane too, so the wheel has them as files."""


class ArchivesHook(BuildHookInterface):
    """Adds ``stix/agent/agent.pyz``, whose modules ``exclude`` leaves out, and ``_bundle/deploy.zip``."""

    _folder: tempfile.TemporaryDirectory[str] | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel" or version == "editable":
            return
        source = Path(self.root, "shared", "stix", "agent", "archive.py")
        spec = importlib.util.spec_from_file_location("agent_archive", source)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self._folder = tempfile.TemporaryDirectory(prefix="stix-wheel-")
        archive = Path(self._folder.name, "agent.pyz")
        module.build_archive(archive)
        build_data["force_include"][str(archive)] = "stix/agent/agent.pyz"
        app = Path(self._folder.name, "deploy.zip")
        _pack_app(Path(self.root), app)
        build_data["force_include"][str(app)] = "stix/_bundle/deploy.zip"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if self._folder is not None:
            self._folder.cleanup()


def _pack_app(root: Path, destination: Path) -> None:
    """The same bytes for the same files, whenever it is built."""
    files = [path for name in _APP for path in (sorted((root / name).rglob("*")) or [root / name])]
    with zipfile.ZipFile(destination, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            name = path.relative_to(root)
            if path.is_file() and "__pycache__" not in path.parts and name.parent != _FILES:
                entry = zipfile.ZipInfo(str(name), (1980, 1, 1, 0, 0, 0))
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, path.read_bytes())
