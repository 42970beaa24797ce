from __future__ import annotations

import hashlib
import importlib.util
import marshal
import shutil
import subprocess
import sys
from email import message_from_string
from pathlib import Path
from types import CodeType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from layers import build as layers
from layers import bytecode

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
ENVIRONMENT = {
    "python_version": PYTHON,
    "python_full_version": f"{PYTHON}.0",
    "platform_machine": "aarch64",
    "platform_system": "Linux",
    "sys_platform": "linux",
    "os_name": "posix",
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
    "extra": "",
}


@pytest.fixture(scope="module")
def layer() -> Path:
    layers.download("core", "arm64")
    return layers.assemble("core", "arm64") / "python"


def files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module", params=layers.LAYERS)
def any_layer(request: pytest.FixtureRequest) -> Path:
    layers.download(request.param, "arm64")
    return layers.assemble(request.param, "arm64") / "python"


def names_of(folder: Path) -> list[str]:
    """Modules, of which each is there as source and as bytecode."""
    return [path.name.partition(".")[0] for path in (*folder.rglob("*.py"), *folder.rglob("*.pyc"))]


def versions_in(layer: Path) -> dict[str, str]:
    found = [message_from_string(path.read_text()) for path in layer.glob("*.dist-info/METADATA")]
    return {canonicalize_name(entry["Name"]): entry["Version"] for entry in found}


def test_layer_is_small(any_layer: Path) -> None:
    most = 25 if any_layer.parent.name == "core-arm64" else 80
    assert sum(path.stat().st_size for path in any_layer.rglob("*") if path.is_file()) < most * 2**20


@pytest.mark.parametrize("any_layer", layers.LAYERS[1:], indirect=True)
def test_layer_of_a_cloud_holds_no_other_clouds_sdk_and_nothing_of_the_core_layer(
    layer: Path, any_layer: Path
) -> None:
    sdks = {"google-cloud-compute", "azure-mgmt-compute", "kubernetes", "boto3", "botocore"}
    here = versions_in(any_layer).keys()
    assert len(sdks & here) == 1
    assert not here & versions_in(layer).keys()
    assert not (any_layer / "stix").exists()


def test_layer_is_for_arm64_and_this_python(any_layer: Path) -> None:
    libraries = list(any_layer.rglob("*.so"))
    assert libraries or any_layer.parent.name == "kubernetes-arm64"
    for library in libraries:
        # abi3: for every Python from some version on.
        assert f"cpython-{PYTHON.replace('.', '')}-aarch64" in library.name or ".abi3." in library.name
        # ELF header: e_machine 0xB7 is AArch64.
        assert library.read_bytes()[18:20] == b"\xb7\x00"


_ONLY_FOR_WHAT_IS_LEFT_OUT = {"aiohttp", "aiohttp-retry"}
"""Requirements of ``kubernetes.aio``, which is not in the layer."""


def test_layer_has_every_requirement_of_its_wheels(layer: Path, any_layer: Path) -> None:
    metadata = [message_from_string(path.read_text()) for path in any_layer.glob("*.dist-info/METADATA")]
    versions = versions_in(layer) | versions_in(any_layer)
    assert {"pydantic", "aws-lambda-powertools", "pyyaml"} <= versions.keys()
    for entry in metadata:
        for line in entry.get_all("Requires-Dist", ()):
            requirement = Requirement(line)
            if requirement.name in _ONLY_FOR_WHAT_IS_LEFT_OUT and entry["Name"] == "kubernetes":
                continue
            if requirement.marker is None or requirement.marker.evaluate(ENVIRONMENT):
                assert versions[canonicalize_name(requirement.name)] in requirement.specifier, line


def test_layer_has_the_package_without_what_runs_on_peoples_machines(layer: Path) -> None:
    names = {path.name for path in (layer / "stix").iterdir()}
    assert {"__init__.py", "adapters", "agent", "model", "ports", "runtime"} <= names
    assert not names & {"cli", "sdk", "local", "_bundle"}


def test_layer_has_no_litter(any_layer: Path) -> None:
    names = {path.name for path in any_layer.rglob("*")}
    assert not names & {"RECORD", "INSTALLER", "tests", "bin"}


def code_of(bytecode: Path) -> CodeType:
    """Raises ``AssertionError`` unless it is this Python's, and taken whatever its source is."""
    data = bytecode.read_bytes()
    flags = int.from_bytes(data[4:8], "little")
    assert (data[:4], flags) == (importlib.util.MAGIC_NUMBER, 0b01), bytecode
    code: CodeType = marshal.loads(data[16:])
    return code


def test_every_module_of_the_core_layer_has_bytecode_beside_it(layer: Path) -> None:
    modules = {str(path.relative_to(layer)) for path in layer.rglob("*.py")}
    assert len(modules) > 400
    found = [code_of(path).co_filename for path in layer.rglob("*.pyc")]
    assert sorted(found) == sorted(f"/opt/python/{name}" for name in modules)


@pytest.mark.parametrize("any_layer", layers.LAYERS[1:], indirect=True)
def test_every_module_of_a_clouds_layer_is_bytecode(any_layer: Path) -> None:
    assert not list(any_layer.rglob("*.py"))
    assert not list(any_layer.rglob("__pycache__"))
    for path in any_layer.rglob("*.pyc"):
        assert code_of(path).co_filename == f"/opt/python/{path.relative_to(any_layer).with_suffix('.py')}"


def test_bytecode_is_the_same_when_it_is_compiled_elsewhere(layer: Path, tmp_path: Path) -> None:
    tree = tmp_path / "other"
    shutil.copytree(layer / "pydantic", tree, ignore=shutil.ignore_patterns("__pycache__"))
    bytecode.compile_tree(tree, "/opt/python/pydantic")
    assert files(tree) == files(layer / "pydantic")


def test_nothing_is_compiled_when_lambda_lacks_this_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bytecode, "_HERE", "3.99")
    (tmp_path / "module.py").write_text("")
    bytecode.compile_tree(tmp_path, "/opt/python")
    assert (bytecode.runtime(), bytecode.is_compiled_here()) == ("3.12", False)
    assert files(tmp_path).keys() == {"module.py"}


def test_layer_is_the_same_when_it_is_assembled_elsewhere(layer: Path, tmp_path: Path) -> None:
    wheels = layers.download("core", "arm64")
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / wheels.name).symlink_to(wheels)
    assert files(layers.assemble("core", "arm64", build=tmp_path) / "python") == files(layer)


def test_layer_is_assembled_again_when_the_package_changed(
    layer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "shared" / "stix"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    wheels = layers.download("core", "arm64")
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / wheels.name).symlink_to(wheels)
    monkeypatch.setattr(layers, "package_sources", lambda: [package])
    first = layers.assemble("core", "arm64", build=tmp_path) / "python" / "stix"
    assert names_of(first) == ["__init__", "__init__"]
    (package / "__init__.py").rename(package / "model.py")
    again = layers.assemble("core", "arm64", build=tmp_path) / "python" / "stix"
    assert names_of(again) == ["model", "model"]


def test_layer_is_missed_with_the_fix_when_it_was_never_downloaded(tmp_path: Path) -> None:
    with pytest.raises(layers.MissingLayerError, match="make layers"):
        layers.assemble("core", "arm64", build=tmp_path)


def test_every_module_of_the_layer_imports_without_what_was_left_out(layer: Path, tmp_path: Path) -> None:
    # This machine's wheels stand in for arm64's; the SDK is the runtime's, so it may come from here too.
    program = """
import importlib, pkgutil, sys
sys.path.insert(0, sys.argv[1])
import stix
assert stix.__file__.startswith(sys.argv[1]), stix.__file__
for module in pkgutil.walk_packages(stix.__path__, "stix."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""
    package = tmp_path / "stix"
    source = layer / "stix"
    for name, path in layers.package_files(source).items():
        target = package / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
