"""What an installation puts on a person's disk, once it has been used."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from .control_plane import clean_environment, control_plane
from .figures import Record
from .processes import MIB, run

_ROOT = Path(__file__).resolve().parents[2]
_NOT_OURS = ("pip", "setuptools", "pkg_resources", "_distutils_hack", "distutils-precedence")


def measure(record: Record) -> None:
    with tempfile.TemporaryDirectory(prefix="stix-bench-") as name:
        folder = Path(name)
        command = [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            str(_ROOT),
            "-w",
            str(folder),
        ]
        _pip(command)
        wheel = next(folder.glob("*.whl"))
        record.add("wheel", wheel.stat().st_size / 1024)

        base = _installed(folder / "base", str(wheel))
        environ = clean_environment(folder / "home")
        with control_plane() as plane:
            calls = {"STIX_API_URL": plane.endpoint.url, "STIX_API_TOKEN": plane.endpoint.token}
            stix = str(base / "bin" / "stix")
            for arguments in (
                ["--version"],
                ["--help"],
                ["launch", "--help"],
                ["status"],
                ["launch", "-y", "-c", "first", "--", "true"],
                ["queue"],
                ["down", "-y", "first"],
            ):
                run([stix, *arguments], environ | calls)
        record.add("base_size", _size(base))
        record.add("base_distributions", len(_distributions(base)))
        record.note("base: " + ", ".join(_distributions(base)))

        local = _installed(folder / "local", f"{wheel}[local]")
        stix = str(local / "bin" / "stix")
        for arguments in (
            ["--version"],
            ["--help"],
            ["launch", "-y", "-c", "first", "--", "true"],
            ["status"],
            ["down", "-y", "first"],
            ["api", "stop"],
        ):
            run([stix, *arguments], environ)
        unpacked = _disk_bytes(folder / "home" / "control-plane") / MIB
        record.add("local_size", _size(local) + unpacked)
        record.note(f"of it {unpacked:.2f} MiB of the control plane, unpacked when it first started")
        record.add("local_distributions", len(_distributions(local)))
        record.note(
            "with [local] also: " + ", ".join(sorted({*_distributions(local)} - {*_distributions(base)}))
        )
        for name, mib in _largest(local):
            record.note(f"{mib:6.2f} MiB  {name}")


def _installed(folder: Path, what: str) -> Path:
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = str(folder / "bin" / "python")
    constraints = str(_ROOT / "constraints.txt")
    _pip([python, "-m", "pip", "install", "--quiet", "-c", constraints, what])
    return folder


def _pip(command: list[str]) -> None:
    """With the caller's settings of pip, but not those that would keep compiled modules off the disk."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    subprocess.run([*command, "--disable-pip-version-check"], check=True, env=environ)


def _site_packages(venv: Path) -> Path:
    return next(venv.glob("lib/python3*/site-packages"))


def _entries(venv: Path) -> list[Path]:
    found = _site_packages(venv).iterdir()
    return [entry for entry in found if not entry.name.startswith(_NOT_OURS)]


def _disk_bytes(entry: Path) -> int:
    """As ``du`` counts: whole blocks, folders too."""
    paths = [entry, *entry.rglob("*")] if entry.is_dir() else [entry]
    return sum(path.lstat().st_blocks * 512 for path in paths)


def _size(venv: Path) -> float:
    return sum(map(_disk_bytes, _entries(venv))) / MIB


def _largest(venv: Path) -> list[tuple[str, float]]:
    sizes = sorted(((_disk_bytes(entry), entry.name) for entry in _entries(venv)), reverse=True)
    return [(name, size / MIB) for size, name in sizes[:6]]


def _distributions(venv: Path) -> list[str]:
    names = [entry.name.partition("-")[0] for entry in _entries(venv) if entry.suffix == ".dist-info"]
    return sorted(names)
