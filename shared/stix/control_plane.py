"""What of Stix only control planes run: in a clone part of the clone, in a wheel an archive.

The archive is the CDK app and the server's packages, compressed as one: as modules with bytecode, which every
installation of the command line would carry, they take twenty times the room. It is unpacked on first use.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import tempfile
import zipfile
from importlib import import_module
from pathlib import Path

__all__ = ["join_package", "open_control_plane", "unpack"]

ARCHIVE = Path("_bundle", "control_plane.zip.xz")
_IN_BOTH = ("stix", "stix.agent", "stix.catalog", "stix.local")
"""Packages with modules on either side."""
_PACKAGE = Path(__file__).resolve().parent


def open_control_plane(home: Path) -> Path:
    """The folder with ``cdk.json``, ``functions``, ``infra`` and ``layers``; from then on all of ``stix`` can
    be imported. Idempotent. Raises ``FileNotFoundError`` where the package carries none."""
    clone = _PACKAGE.parent.parent
    if (clone / "cdk.json").is_file() and (clone / "infra").is_dir():
        return clone
    folder = unpack(home, _PACKAGE / ARCHIVE)
    join_package(folder / "shared" / "stix")
    return folder


def unpack(home: Path, archive: Path) -> Path:
    """``<home>/control-plane/<hash of the archive>``, which keeps what was downloaded for the layers."""
    data = archive.read_bytes()
    folder = home / "control-plane" / hashlib.sha256(data).hexdigest()[:16]
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpack-") as work:
            unpacked = Path(work, "app")
            with zipfile.ZipFile(io.BytesIO(lzma.decompress(data))) as source:
                source.extractall(unpacked)
            try:
                os.rename(unpacked, folder)
            except OSError:
                # Another process finished the same folder first.
                if not folder.is_dir():
                    raise
    return folder


def join_package(part: Path) -> None:
    """Have ``stix`` look for its modules in ``part`` too, unless that is the package itself."""
    if part == _PACKAGE or not part.is_dir():
        return
    for name in _IN_BOTH:
        folder = str(part.joinpath(*name.split(".")[1:]))
        search = import_module(name).__path__
        if folder not in search:
            search.append(folder)
