"""The wheel carries the agent as the one archive that machines run, not as forty modules with bytecode."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class AgentArchiveHook(BuildHookInterface):
    """Adds ``stix/agent/agent.pyz``; the modules that are in it are left out by ``exclude``."""

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

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if self._folder is not None:
            self._folder.cleanup()
