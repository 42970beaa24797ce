"""Build the Lambda layers without Docker: wheels for the functions' platform plus the ``stix`` package.

``python -m layers.build [--host]`` downloads what ``layers/<name>/requirements.txt`` pins, once per content
of that file, and assembles ``.build/layers/<name>-<target>/python``. Synthesis assembles again from the
downloaded part alone, so that it needs no network and never carries an old copy of the package.

The core layer has bytecode beside each source. The layers of the clouds have it in the source's place: with
both, an SDK would be beyond their size.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from layers.bytecode import NOTE_WITHOUT, compile_tree, is_compiled_here, runtime

__all__ = ["LAYERS", "TARGETS", "MissingLayerError", "assemble", "download", "locked", "normalise"]

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / ".build" / "layers"
PACKAGE_LAYER = "core"
"""Its layer carries ``stix`` too; the others hold a cloud's SDK, for that cloud's function alone."""
LAYERS = (PACKAGE_LAYER, "azure", "gcp", "kubernetes")


def _of_lambda(machine: str) -> tuple[str, ...]:
    # Both tags: some projects publish only the one, some only the other.
    platforms = ("--platform", f"manylinux2014_{machine}", "--platform", f"manylinux_2_28_{machine}")
    return (*platforms, "--implementation", "cp", "--python-version", runtime(), "--only-binary=:all:")


TARGETS = {
    "arm64": _of_lambda("aarch64"),
    # Nothing is deployed for it; emulators run it.
    "x86_64": _of_lambda("x86_64"),
    # This machine's own, to run the functions as real Lambda processes in tests.
    "host": ("--only-binary=:all:",),
}

PACKAGE_LEAVES_OUT = frozenset({"__pycache__", "_bundle", "cli", "deployment", "local", "sdk", "simulate"})
"""Parts of ``stix`` that only run on people's machines."""

WHEEL_LEAVES_OUT = frozenset({"__pycache__", "bin", "test", "tests", "INSTALLER", "RECORD", "REQUESTED"})
"""Nothing imports these at run time; RECORD and its kin differ between builds. What one layer leaves out
besides stands in its ``leave_out.txt``: a glob below site-packages on each line."""


_MOUNTED = "/opt/python"
"""Where Lambda has the layers' ``python``."""


class MissingLayerError(Exception):
    """The layer's wheels were never downloaded for its present requirements."""


def package_sources() -> list[Path]:
    """Folders whose modules are the ``stix`` package: the clone's, or the one beside the app and the
    installed one."""
    beside = ROOT / "shared" / "stix"
    if (beside / "__init__.py").is_file():
        return [beside]
    spec = importlib.util.find_spec("stix")
    if spec is None or spec.origin is None:
        raise MissingLayerError(
            f"no package stix in {beside.parent} nor installed: pip install 'stix-cloud[deploy]'"
        )
    return [beside, Path(spec.origin).parent]


def download(layer: str, target: str, *, build: Path = BUILD) -> Path:
    """Folder of the layer's wheels, unpacked and pruned; uses the network unless it is there already."""
    wheels = _wheels(layer, target, build)
    if wheels.is_dir():
        return wheels
    wheels.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=wheels.parent, prefix=".pip-") as work:
        staged = Path(work, "python")
        requirements = ROOT / "layers" / layer / "requirements.txt"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
        command += [
            "--disable-pip-version-check",
            *TARGETS[target],
            "-r",
            str(requirements),
            "-t",
            str(staged),
        ]
        subprocess.run(command, check=True)
        _prune(staged, _leaves_out(layer))
        compile_tree(staged, _MOUNTED, replace=layer != PACKAGE_LAYER)
        try:
            staged.rename(wheels)
        except OSError:
            # Another process finished the same folder first; a rename onto a filled folder fails.
            if not wheels.is_dir():
                raise
    return wheels


def assemble(layer: str, target: str, *, build: Path = BUILD) -> Path:
    """The layer's asset folder (holding ``python/``), rebuilt if anything in it changed. Needs no network.

    Raises:
        MissingLayerError: the wheels are not there; the message says what to run.
    """
    wheels = _wheels(layer, target, build)
    if not wheels.is_dir():
        raise MissingLayerError(
            f"The wheels of the layer '{layer}' ({target}) are not in {wheels}. Run `make layers` once"
            " (it needs the network); it is needed again only after layers/*/requirements.txt changed."
        )
    asset = build / f"{layer}-{target}"
    stamp = build / f"{layer}-{target}.sha256"
    package = package_files(*package_sources()) if layer == PACKAGE_LAYER else {}
    digest = _digest(package, wheels.name)
    with locked(build / f".{layer}-{target}.lock"):
        if asset.is_dir() and stamp.is_file() and stamp.read_text() == digest:
            return asset
        stamp.unlink(missing_ok=True)
        shutil.rmtree(asset, ignore_errors=True)
        shutil.copytree(wheels, asset / "python")
        for name, path in package.items():
            destination = asset / "python" / "stix" / name
            destination.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, destination)
        if package:
            compile_tree(asset / "python" / "stix", f"{_MOUNTED}/stix")
        normalise(asset)
        stamp.write_text(digest)
    return asset


def package_files(*sources: Path) -> dict[Path, Path]:
    """The package's files that functions may need, by their path in it, in order."""
    found = {}
    for source in sources:
        for folder, folders, names in os.walk(source):
            folders[:] = [name for name in folders if name not in PACKAGE_LEAVES_OUT]
            for name in names:
                if not name.endswith((".pyc", ".pyi")):
                    path = Path(folder, name)
                    found[path.relative_to(source)] = path
    return dict(sorted(found.items()))


def _wheels(layer: str, target: str, build: Path) -> Path:
    content = (ROOT / "layers" / layer / "requirements.txt").read_bytes()
    left_out = (sorted(WHEEL_LEAVES_OUT), _leaves_out(layer))
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    compiled = (ROOT / "layers" / "bytecode.py").read_bytes()
    key = hashlib.sha256(content + compiled + repr((TARGETS[target], python, left_out)).encode()).hexdigest()
    return build / "wheels" / f"{layer}-{target}-{key[:16]}"


def _leaves_out(layer: str) -> list[str]:
    file = ROOT / "layers" / layer / "leave_out.txt"
    return file.read_text().split() if file.exists() else []


def _digest(package: Mapping[Path, Path], wheels: str) -> str:
    # The name of the wheels' folder has the version of Python in it, and how it compiles.
    digest = hashlib.sha256(wheels.encode())
    for name, path in package.items():
        digest.update(f"\0{name}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _prune(tree: Path, globs: Sequence[str]) -> None:
    for glob in globs:
        for path in list(tree.glob(glob)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for folder, folders, names in os.walk(tree, topdown=True):
        for name in [name for name in folders if name in WHEEL_LEAVES_OUT]:
            shutil.rmtree(Path(folder, name))
            folders.remove(name)
        for name in names:
            if name in WHEEL_LEAVES_OUT or name.endswith((".pyc", ".pyi")):
                Path(folder, name).unlink()


def normalise(tree: Path) -> None:
    """One mode for files and one for folders, whatever this machine's umask is."""
    for folder, _, names in os.walk(tree):
        Path(folder).chmod(0o755)
        for name in names:
            Path(folder, name).chmod(0o644)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the file's lock: of all processes that build the same asset, one does, and the others find it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Build the Lambda layers into .build/layers.")
    parser.add_argument("--host", action="store_true", help="for this machine instead of Lambda on arm64")
    target = "host" if parser.parse_args(arguments).host else "arm64"
    if not is_compiled_here():
        sys.stderr.write(f"{NOTE_WITHOUT}\n")
    for layer in LAYERS:
        try:
            download(layer, target)
        except subprocess.CalledProcessError:
            sys.stderr.write(
                f"pip could not install layers/{layer}/requirements.txt for {target}: see above\n"
            )
            return 1
        asset = assemble(layer, target)
        size = sum(path.stat().st_size for path in asset.rglob("*") if path.is_file())
        sys.stdout.write(f"{asset.relative_to(ROOT)}: {size / 2**20:.1f} MiB\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
