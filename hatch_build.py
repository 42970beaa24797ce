"""The wheel carries what only control planes and machines run as one archive: the CDK app, the functions and
the packages that ``exclude`` leaves out. See ``stix.control_plane``."""

from __future__ import annotations

import io
import lzma
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_APP = ("cdk.json", "functions", "infra", "layers")


class ArchiveHook(BuildHookInterface):
    """Adds ``_bundle/control_plane.zip.xz``."""

    _folder: tempfile.TemporaryDirectory[str] | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel" or version == "editable":
            return
        left_out = [name for name in self.build_config.target_config["exclude"] if not name.startswith("!")]
        self._folder = tempfile.TemporaryDirectory(prefix="stix-wheel-")
        archive = Path(self._folder.name, "control_plane.zip.xz")
        archive.write_bytes(_packed(Path(self.root), [*_APP, *left_out]))
        build_data["force_include"][str(archive)] = "stix/_bundle/control_plane.zip.xz"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if self._folder is not None:
            self._folder.cleanup()


def _packed(root: Path, names: list[str]) -> bytes:
    """The same bytes for the same files, whenever it is built. Compressed as a whole: the files are small and
    much alike."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(set(_files(root, names))):
            entry = zipfile.ZipInfo(str(path.relative_to(root)), (1980, 1, 1, 0, 0, 0))
            archive.writestr(entry, path.read_bytes())
    return lzma.compress(packed.getvalue(), preset=9 | lzma.PRESET_EXTREME)


def _files(root: Path, names: list[str]) -> Iterator[Path]:
    for name in names:
        for found in root.glob(name):
            for path in found.rglob("*") if found.is_dir() else [found]:
                if path.is_file() and "__pycache__" not in path.parts:
                    yield path
