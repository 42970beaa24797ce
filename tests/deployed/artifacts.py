"""What is deployed, unpacked: the assets' own bytes, but compiled files are this machine's."""

from __future__ import annotations

import io
import shutil
import zipfile
from pathlib import Path

__all__ = ["content", "difference", "is_compiled", "put_in_compiled", "unpack"]

PACKAGE = "stix"
"""The part of a layer that comes from no wheel; nothing of it is compiled."""


def unpack(archive: bytes, folder: Path) -> Path:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        opened.extractall(folder)
    return folder


def content(folder: Path) -> dict[Path, bytes]:
    """Every file by its path."""
    return {
        path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def difference(one: Path, other: Path) -> tuple[set[Path], set[Path]]:
    """Files that only ``one`` has, or has otherwise, and the same of ``other``."""
    first, second = content(one), content(other)
    return (
        {path for path, data in first.items() if second.get(path) != data},
        {path for path, data in second.items() if first.get(path) != data},
    )


def put_in_compiled(folder: Path, wheels: Path) -> None:
    """In ``folder``, what a layer for another processor holds, the compiled files are replaced by those of
    ``wheels``, the same wheels for this machine. Raises ``ValueError`` where they differ in anything else."""
    gone, come = difference(folder, wheels)
    gone = {path for path in gone if path.parts[0] != PACKAGE}
    strange = sorted(str(path) for path in gone | come if not is_compiled(path))
    if strange:
        raise ValueError(f"built for two processors, the layer differs in {', '.join(strange)}")
    for path in gone:
        (folder / path).unlink()
    for path in come:
        shutil.copyfile(wheels / path, folder / path)


def is_compiled(path: Path) -> bool:
    """A shared library, or what its wheel says of how it was compiled."""
    of_wheel = any(part.endswith(".dist-info") for part in path.parts)
    return path.suffix == ".so" or (of_wheel and (path.name == "WHEEL" or "sboms" in path.parts))
