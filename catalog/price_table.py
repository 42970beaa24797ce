"""The price table of apache-libcloud, as pip delivers it."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["PACKAGE", "PriceTable", "download", "read"]

PACKAGE = "apache-libcloud==3.9.1"
_MEMBER = "libcloud/data/pricing.json"


@dataclass(frozen=True, slots=True)
class PriceTable:
    """USD per hour by the table's own keys; ``as_of`` is the epoch second at which the table was made."""

    compute: dict[str, dict[str, Any]]
    as_of: float


def download(folder: Path) -> Path:
    """The wheel of ``PACKAGE`` in ``folder``, fetched where it is not there yet."""
    found = sorted(folder.glob("apache_libcloud-3.9.1-*.whl"))
    if not found:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "-d",
            str(folder),
            PACKAGE,
        ]
        subprocess.run(command, check=True)
        found = sorted(folder.glob("apache_libcloud-3.9.1-*.whl"))
    return found[0]


def read(wheel: Path) -> PriceTable:
    with zipfile.ZipFile(wheel) as archive:
        document = json.loads(archive.read(_MEMBER))
    return PriceTable(compute=document["compute"], as_of=float(document["updated"]))
