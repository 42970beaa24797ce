"""What stands in for another processor's files, and what may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.deployed.artifacts import content, put_in_compiled, unpack
from tests.deployed.stack import zipped


def tree(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_so", ".so")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_compiled_files_are_replaced_and_the_package_stays(tmp_path: Path) -> None:
    layer = tree(tmp_path / "arm64", lib__fast_arm_so="arm", lib__same="s", stix__own="ours")
    put_in_compiled(layer, tree(tmp_path / "host", lib__fast_host_so="host", lib__same="s"))
    found = {str(path): data.decode() for path, data in content(layer).items()}
    assert found == {"lib/fast_host.so": "host", "lib/same": "s", "stix/own": "ours"}


def test_layer_is_refused_when_it_differs_in_more_than_what_is_compiled(tmp_path: Path) -> None:
    layer = tree(tmp_path / "arm64", lib__code="one")
    with pytest.raises(ValueError, match="lib/code, lib/more"):
        put_in_compiled(layer, tree(tmp_path / "host", lib__code="two", lib__more="x"))


def test_folder_is_the_same_when_it_was_packed_and_unpacked(tmp_path: Path) -> None:
    folder = tree(tmp_path / "one", a__b="1", c="2")
    assert content(unpack(zipped(folder), tmp_path / "two")) == content(folder)
