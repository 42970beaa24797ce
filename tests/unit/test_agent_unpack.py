"""Unpacking what may be hostile."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from stix.agent.unpack import BadArchiveError, extract, merge


def pack(path: Path, *members: tuple[str, str, str]) -> str:
    """Members are (kind, name, content or link target)."""
    kinds = {
        "file": tarfile.REGTYPE,
        "dir": tarfile.DIRTYPE,
        "link": tarfile.SYMTYPE,
        "hard": tarfile.LNKTYPE,
    }
    with tarfile.open(path, "w:gz") as archive:
        for kind, name, content in members:
            entry = tarfile.TarInfo(name)
            entry.type = kinds.get(kind, tarfile.FIFOTYPE)
            entry.mode = 0o4755
            if kind == "file":
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content.encode()))
            else:
                entry.linkname = content
                archive.addfile(entry)
    return str(path)


HOSTILE = {
    "absolute": [("file", "/etc/owned", "x")],
    "parent": [("file", "a/../../owned", "x")],
    "absolute link": [("link", "l", "/etc")],
    "escaping link": [("link", "a/l", "../../outside")],
    "write through a link": [("link", "l", "../outside"), ("file", "l/owned", "x")],
    "link that climbs over a link": [
        ("dir", "p/q", ""),
        ("link", "p/q/up", "../.."),
        ("link", "m", "p/q/up/.."),
    ],
    "escaping hard link": [("hard", "h", "../../outside/secret")],
    "absolute hard link": [("hard", "h", "/etc/passwd")],
    "fifo": [("fifo", "f", "")],
}


@pytest.mark.parametrize("members", HOSTILE.values(), ids=HOSTILE.keys())
def test_archive_is_refused_and_leaves_nothing_when_it_is_hostile(tmp_path, members):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("kept")
    archive = pack(tmp_path / "a.tar.gz", *members)
    with pytest.raises(BadArchiveError):
        extract(archive, str(tmp_path / "in" / "staging"))
    assert not (tmp_path / "in" / "staging").exists()
    assert [p.name for p in outside.iterdir()] == ["secret"]


def test_archive_is_refused_when_it_is_cut_short(tmp_path):
    archive = Path(pack(tmp_path / "a.tar.gz", ("file", "a", "x" * 100_000)))
    archive.write_bytes(archive.read_bytes()[:-40])
    with pytest.raises(BadArchiveError):
        extract(str(archive), str(tmp_path / "staging"))


def test_modes_and_inner_links_are_kept_when_the_archive_is_good(tmp_path):
    archive = pack(tmp_path / "a.tar.gz", ("file", "bin/run", "x"), ("link", "run", "bin/run"))
    extract(archive, str(tmp_path / "staging"))
    merge(str(tmp_path / "staging"), str(tmp_path / "target"))
    assert (tmp_path / "target/bin/run").stat().st_mode & 0o7777 == 0o755
    assert os.readlink(tmp_path / "target/run") == "bin/run"


def test_merge_replaces_what_is_in_the_archive_and_keeps_the_rest(tmp_path):
    target, outside = tmp_path / "target", tmp_path / "outside"
    for folder in (target / "was_dir", outside):
        folder.mkdir(parents=True)
    (target / "mine").write_text("kept")
    (target / "was_file").write_text("old")
    (target / "linked").symlink_to(outside)
    archive = pack(
        tmp_path / "a.tar.gz",
        ("file", "was_dir", "1"),
        ("file", "was_file/x", "2"),
        ("file", "linked/y", "3"),
    )
    extract(archive, str(tmp_path / "staging"))
    merge(str(tmp_path / "staging"), str(target))
    assert (target / "mine").read_text() == "kept"
    assert (target / "was_dir").read_text() == "1"
    assert (target / "was_file/x").read_text() == "2"
    assert (target / "linked/y").read_text() == "3"
    assert list(outside.iterdir()) == []
