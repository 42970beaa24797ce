"""Builds the zipapp that machines pull: the control plane's side, not part of the archive itself."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from pathlib import Path
from typing import Union

_PACKAGES = {"stix_agent": "", "stix_gateway": "../gateway"}
_MAIN = "import sys\nfrom stix_agent.entry import main\nsys.exit(main(sys.argv[1:]))\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_LEFT_OUT = {"archive.py", "__main__.py"}


def build_archive(destination: Union[str, Path]) -> str:
    """Writes the archive atomically and returns its SHA-256; equal sources give equal bytes."""
    data = archive_bytes()
    target = Path(destination)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{target.name}.{os.getpid()}.new")
    temporary.write_bytes(data)
    temporary.chmod(0o755)
    temporary.replace(target)
    return hashlib.sha256(data).hexdigest()


def archive_bytes() -> bytes:
    """The zipapp's bytes, from the sources beside this file."""
    buffer = io.BytesIO()
    buffer.write(b"#!/usr/bin/env python3\n")
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        _add(archive, "__main__.py", _MAIN.encode())
        for package, folder in _PACKAGES.items():
            for source in sorted(Path(__file__).resolve().parent.joinpath(folder).glob("*.py")):
                if package != "stix_agent" or source.name not in _LEFT_OUT:
                    _add(archive, f"{package}/{source.name}", source.read_bytes())
    return buffer.getvalue()


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, date_time=_EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, data)
