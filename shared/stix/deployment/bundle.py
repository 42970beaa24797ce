"""The CDK app: in a clone the clone itself, else what the wheel carries, unpacked once for each version."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import zipfile
from pathlib import Path

__all__ = ["app_folder"]

_USED_HERE_TOO = ("functions", "infra/state_machines")
"""Parts of the app that the embedded control plane runs: the wheel has them as files, not in the archive."""
_PACKAGE = Path(__file__).resolve().parent.parent


def app_folder(home: Path, package: Path = _PACKAGE) -> Path:
    """The folder with ``cdk.json``, ``functions``, ``infra`` and ``layers``.

    Of a wheel it is ``<home>/deploy/<hash of the archive>``, which keeps what was downloaded for the layers.
    Raises ``FileNotFoundError`` where the package carries none.
    """
    clone = package.parent.parent
    if (clone / "cdk.json").is_file() and (clone / "infra").is_dir():
        return clone
    archive = package / "_bundle" / "deploy.zip"
    folder = home / "deploy" / hashlib.sha256(archive.read_bytes()).hexdigest()[:16]
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpack-") as work:
            unpacked = Path(work, "app")
            with zipfile.ZipFile(archive) as source:
                source.extractall(unpacked)
            for part in _USED_HERE_TOO:
                skipped = shutil.ignore_patterns("__pycache__")
                shutil.copytree(package / "_bundle" / part, unpacked / part, ignore=skipped)
            try:
                os.rename(unpacked, folder)
            except OSError:
                # Another process finished the same folder first.
                if not folder.is_dir():
                    raise
    return folder
