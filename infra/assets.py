"""Which files become the functions' code, their layer and the state machines' definitions."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from layers.build import assemble, locked, normalise
from layers.bytecode import compile_tree, runtime

__all__ = ["Assets"]

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Assets:
    """Folders that synthesis reads from, and ``build``, the one it writes to."""

    functions: Path = ROOT / "functions"
    state_machines: Path = ROOT / "infra" / "state_machines"
    build: Path = ROOT / ".build"

    def function(self, name: str) -> str:
        """Folder holding ``functions/<name>/*.py`` and their bytecode alone: edits of other functions do not
        redeploy it."""
        source = self.functions / name
        if not (source / "handler.py").is_file():
            raise FileNotFoundError(f"no handler.py in {source}: every function of the stack needs one")
        asset = self.build / "functions" / name
        destination = asset / "functions" / name
        wanted = _sources(source)
        made = asset.with_suffix(f".python{runtime()}")
        with locked(asset.with_name(f".{name}.lock")):
            if _sources(destination) != wanted or not made.is_file():
                shutil.rmtree(asset, ignore_errors=True)
                for other in asset.parent.glob(f"{name}.python*"):
                    other.unlink()
                for path, content in wanted.items():
                    target = destination / path
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(content)
                compile_tree(destination, f"/var/task/functions/{name}")
                normalise(asset)
                made.touch()
        return str(asset)

    def layer(self, name: str) -> str:
        return str(assemble(name, "arm64", build=self.build / "layers"))

    def state_machine(self, name: str) -> str:
        """The definition, compact: it counts against the template's size."""
        definition = json.loads((self.state_machines / f"{name}.asl.json").read_text())
        return json.dumps(definition, separators=(",", ":"))

    def state_machine_names(self) -> list[str]:
        return sorted(path.name.removesuffix(".asl.json") for path in self.state_machines.glob("*.asl.json"))


def _sources(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*.py"))}
