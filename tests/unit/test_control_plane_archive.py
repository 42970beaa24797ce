"""The part of the package that a wheel carries as an archive."""

from __future__ import annotations

import ast
import io
import lzma
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

from stix.control_plane import _IN_BOTH, open_control_plane, unpack

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT / "shared"


def archived() -> tuple[set[str], set[str]]:
    """Modules of the archive, and those that the wheel has as files; some are in both."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    out: set[Path] = set()
    for pattern in wheel["exclude"]:
        for found in ROOT.glob(pattern.removeprefix("!")):
            files = set(found.rglob("*.py")) if found.is_dir() else {found}
            assert files, pattern
            out = out - files if pattern.startswith("!") else out | files
    every = set((SHARED / "stix").rglob("*.py"))
    return {name_of(path) for path in out}, {name_of(path) for path in every - out}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(SHARED).with_suffix("").parts).removesuffix(".__init__")


def imported(module: str) -> set[str]:
    """What it imports of ``stix`` anywhere, names that may be modules included."""
    path = SHARED.joinpath(*module.split("."))
    tree = ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text())
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_what_the_wheel_has_as_files_needs_nothing_of_the_archive_but_where_it_is_opened() -> None:
    out, kept = archived()
    assert {"stix.cli.entry", "stix.sdk.client", "stix.local.daemon", "stix.agent.tunnel"} <= kept
    assert {"stix.application.submit", "stix.local.server", "stix.agent.entry", "stix.gateway"} <= out
    crossing = {module for module in kept if imported(module) & out}
    # Each opens the archive first; `simulate` does for the other two.
    openers = {"stix.cli.catalog", "stix.cli.simulate", "stix.local.__main__"}
    assert crossing == openers | {"stix.cli.simulate_serve", "stix.cli.trace_options"}
    assert openers <= {module for module in kept if "stix.control_plane" in imported(module)}


def test_packages_of_both_parts_are_those_that_are_joined() -> None:
    out, kept = archived()
    packages = {name for name in kept if (SHARED.joinpath(*name.split(".")) / "__init__.py").is_file()}
    assert {module.rpartition(".")[0] for module in out} & packages == set(_IN_BOTH)


def test_archive_is_unpacked_once_when_it_is_opened_again(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as files:
        files.writestr("cdk.json", "{}")
        files.writestr("shared/stix/runtime/aws.py", "")
    archive = tmp_path / "control_plane.zip.xz"
    archive.write_bytes(lzma.compress(packed.getvalue()))
    folder = unpack(tmp_path / "home", archive)
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found == {"cdk.json", "shared/stix/runtime/aws.py"}
    (folder / ".build").mkdir()
    assert unpack(tmp_path / "home", archive) == folder
    assert (folder / ".build").is_dir()
    archive.write_bytes(lzma.compress(packed.getvalue(), preset=1))
    assert unpack(tmp_path / "home", archive) != folder


def test_nothing_is_unpacked_when_the_package_is_a_clones(tmp_path: Path) -> None:
    assert open_control_plane(tmp_path) == ROOT
    assert list(tmp_path.iterdir()) == []


def test_modules_of_both_parts_are_imported_when_the_package_was_joined(tmp_path: Path) -> None:
    (tmp_path / "local").mkdir()
    (tmp_path / "only_here.py").write_text("name = 'here'")
    (tmp_path / "local" / "only_here.py").write_text("name = 'local'")
    program = f"""
from pathlib import Path
from stix.control_plane import join_package
part = Path({str(tmp_path)!r})
join_package(part)
join_package(part)
import stix.only_here, stix.local.only_here, stix.local.daemon
print(stix.only_here.name, stix.local.only_here.name, stix.__path__.count(str(part)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(SHARED)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["here", "local", "1"]
