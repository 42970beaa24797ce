from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import os
import shutil
import socket
import subprocess
import tarfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import example, given, seed, settings
from hypothesis import strategies as st

from stix.model.errors import InvalidInputError, UnavailableError
from stix.sdk import packing
from stix.sdk.packing import pack


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    root.mkdir()
    return root


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def write(root: Path, *names: str, text: str = "x") -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def members(path: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(path, "r:gz") as archive:
        return {one.name: one for one in archive}


def files(root: Path, out: Path) -> list[str]:
    return [name for name, one in members(pack(root, into=out).path).items() if one.isreg()]


def test_the_archive_holds_the_content_when_unpacked(tree: Path, out: Path):
    write(tree, "a.txt", text="hello")
    write(tree, "b/c.sh", text="#!/bin/sh\n")
    (tree / "b/c.sh").chmod(0o755)
    (tree / "key").write_text("k")
    (tree / "key").chmod(0o600)
    (tree / "empty").mkdir()
    (tree / "b/link").symlink_to("../a.txt")
    (tree / "dangling").symlink_to("nowhere")
    packed = pack(tree, into=out)
    found = members(packed.path)
    assert sorted(found) == ["a.txt", "b", "b/c.sh", "b/link", "dangling", "empty", "key"]
    assert found["b/c.sh"].mode == 0o755
    assert found["key"].mode == 0o600
    assert found["empty"].isdir()
    assert found["b/link"].linkname == "../a.txt"
    assert {(one.mtime, one.uid, one.gid, one.uname, one.gname) for one in found.values()} == {
        (0, 0, 0, "", "")
    }
    with tarfile.open(packed.path) as archive:
        assert archive.extractfile("a.txt").read() == b"hello"
    assert (packed.files, packed.content_bytes) == (3, 5 + 10 + 1)
    assert packed.size == packed.path.stat().st_size
    assert packed.sha256 == hashlib.sha256(packed.path.read_bytes()).hexdigest()
    assert packed.warnings == ()


def test_equal_trees_give_equal_bytes_when_times_order_and_umask_differ(tmp_path: Path, out: Path):
    names = ["z", "a", "m/é", "m/b", "m.txt", "M"]
    shas = set()
    for number, (order, umask) in enumerate([(names, 0o022), (names[::-1], 0o002), (sorted(names), 0o022)]):
        root = tmp_path / f"tree-{number}"
        before = os.umask(umask)
        try:
            write(root, *order)
            (root / "link").symlink_to("a")
            packed = pack(root, into=out)
        finally:
            os.umask(before)
        os.utime(root / "a", (number * 1000, number * 1000))
        shas |= {packed.sha256, pack(root, into=out).sha256}
    assert len(shas) == 1


def test_the_bytes_differ_when_content_or_a_mode_does(tree: Path, out: Path):
    write(tree, "a")
    first = pack(tree, into=out).sha256
    (tree / "a").chmod(0o755)
    second = pack(tree, into=out).sha256
    write(tree, "a", text="y")
    assert len({first, second, pack(tree, into=out).sha256}) == 3


def test_a_hard_link_is_a_file_of_its_own_when_packed(tree: Path, out: Path):
    write(tree, "a")
    os.link(tree / "a", tree / "b")
    assert files(tree, out) == ["a", "b"]


def test_a_single_file_keeps_its_name_when_packed_or_linked_to(tree: Path, out: Path):
    write(tree, "config.yaml")
    (tree / "link.yaml").symlink_to("config.yaml")
    assert files(tree / "config.yaml", out) == ["config.yaml"]
    assert files(tree / "link.yaml", out) == ["link.yaml"]


def test_names_of_any_bytes_and_length_survive_when_packed(tree: Path, out: Path):
    deep = "/".join(["d" * 60] * 5)
    odd = os.fsdecode(b"\xff\xfe")
    write(tree, f"{deep}/file", odd, "new\nline")
    with tarfile.open(pack(tree, into=out).path, encoding="utf-8", errors="surrogateescape") as archive:
        assert {f"{deep}/file", odd, "new\nline"} <= set(archive.getnames())


def test_git_s_rules_decide_when_there_are_no_others(tree: Path, out: Path):
    (tree / ".git/info").mkdir(parents=True)
    write(tree, ".git/HEAD", "a.log", "keep.log", "build/x", "sub/build/y", "sub/a.log", "sub/deep/t.tmp")
    write(tree, "secret.txt", "sub/only-here", "only-here", "a/1/2/gen", "sub/.git")
    write(tree, ".git/info/exclude", text="secret.txt\nkeep.log\n")
    write(tree, ".gitignore", text="*.log\n!keep.log\n/build/\na/**/gen\n# note\n\n*.tmp\n[z-a]\n!\n")
    write(tree, "sub/.gitignore", text="/only-here\n!a.log\n")
    assert files(tree, out) == [
        ".gitignore",
        "keep.log",
        "only-here",
        "sub/.gitignore",
        "sub/a.log",
        "sub/build/y",
    ]


PIECES = [
    "a",
    "b",
    "ab",
    "*",
    "**",
    "?",
    "[ab]",
    "[!a]",
    "[a-b]",
    "[b-a]",
    "[]a]",
    "[",
    "\\a",
    "[[:alpha:]]",
    "*b",
    "a*",
    "/",
]
LINES = st.lists(st.sampled_from(PIECES), min_size=1, max_size=5).map("".join)
IGNORE_FILE = st.lists(
    st.tuples(
        st.sampled_from(["", "", "!", "/", "!/"]), LINES, st.sampled_from(["", "", "/", " ", "\\ "])
    ).map("".join),
    max_size=5,
).map("\n".join)
PATHS = [
    "/".join(path)
    for depth in (1, 2, 3)
    for path in itertools.product(
        *[["a", "b"]] * (depth - 1), ["a.x", "b", "ab", "[", "c "] if depth == 3 else ["f", "ba"]
    )
]


@seed(20240603)
@given(IGNORE_FILE, IGNORE_FILE, IGNORE_FILE)
@settings(max_examples=150, database=None)
@example("*\n!*/\n!f\n!.gitignore", "", "")
@example("a/**\n!a/f", "!b", "")
@example("b**/a\na/b**", "***/f", "[b-a]")
@example("a/\n!a/b", "**/b\n!/b/", "f\n")
def test_packing_agrees_with_git_when_both_judge_one_tree(
    git_tree: Path, top: str, nested: str, exclude: str
):
    (git_tree / ".gitignore").write_text(top)
    (git_tree / "a/.gitignore").write_text(nested)
    (git_tree / ".git/info/exclude").write_text(exclude)
    listed = subprocess.run(
        [
            "git",
            "-C",
            str(git_tree),
            "-c",
            "core.excludesFile=/dev/null",
            "ls-files",
            "-z",
            "-o",
            "--exclude-standard",
        ],
        check=True,
        capture_output=True,
        timeout=60,
    ).stdout
    packed = pack(git_tree)
    try:
        kept = sorted(name for name, one in members(packed.path).items() if one.isreg())
    finally:
        packed.path.unlink()
    assert kept == sorted(os.fsdecode(name) for name in listed.split(b"\0") if name)


@pytest.fixture(scope="module")
def git_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("git"):
        pytest.skip("git is not installed")
    root = tmp_path_factory.mktemp("git-tree")
    subprocess.run(["git", "init", "-q", str(root)], check=True, timeout=60)
    write(root, *PATHS)
    return root


def test_the_repository_s_rules_count_when_a_folder_of_it_is_packed(tree: Path, out: Path):
    (tree / ".git").mkdir()
    write(tree, ".gitignore", text="*.pyc\nproject/data/\nbuild/\n")
    write(tree, "project/a.pyc", "project/a.py", "project/data/x", "build/b.py", "build/b.pyc")
    assert files(tree / "project", out) == ["a.py"]
    assert files(tree / "build", out) == ["b.py", "b.pyc"], (
        "a folder asked for by name is not ignored as a whole"
    )


@pytest.mark.parametrize("name", [".skyignore", ".stixignore"])
def test_own_ignore_files_replace_git_s_when_present(tree: Path, out: Path, name: str):
    write(tree, ".gitignore", text="a\n")
    write(tree, name, text="b\n")
    write(tree, "a", "b", "c/b", "c/a", ".git/HEAD")
    write(tree, "c/.gitignore", text="a\n")
    assert files(tree, out) == [".gitignore", name, "a", "c/.gitignore", "c/a"]


def test_both_own_ignore_files_count_when_both_are_there(tree: Path, out: Path):
    write(tree, ".skyignore", text="a\n*.bin\n")
    write(tree, ".stixignore", text="b\n!keep.bin\n")
    write(tree, "a", "b", "c", "x.bin", "keep.bin")
    assert files(tree, out) == [".skyignore", ".stixignore", "c", "keep.bin"]


def test_links_that_leave_the_folder_are_named_when_refused(tree: Path, out: Path):
    (tree / "up").symlink_to("../elsewhere")
    (tree / "absolute").symlink_to("/etc/passwd")
    (tree / "here").symlink_to(".")
    (tree / "sneaky").symlink_to("here/../outside")
    with pytest.raises(InvalidInputError) as caught:
        pack(tree, into=out)
    message = str(caught.value)
    assert "absolute -> /etc/passwd" in message
    assert "up -> ../elsewhere" in message
    assert "sneaky -> here/../outside" in message
    assert "here -> ." not in message
    assert ".stixignore" in message
    assert list(out.iterdir()) == [], "a refused archive is not left behind"
    write(tree, ".stixignore", text="up\nabsolute\nsneaky\n")
    assert "here" in members(pack(tree, into=out).path)


def test_sockets_and_pipes_are_left_out_with_a_warning_when_met(tree: Path, out: Path):
    write(tree, "a")
    os.mkfifo(tree / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(tree / "sock"))
        packed = pack(tree, into=out)
    assert list(members(packed.path)) == ["a"]
    assert [text.split()[0] for text in packed.warnings] == ["pipe", "sock"]


def test_a_vanished_file_is_left_out_with_a_warning_when_listed_before(tree: Path, out: Path, monkeypatch):
    write(tree, "a", "b")
    listed = os.listdir(tree)
    monkeypatch.setattr(packing.os, "listdir", lambda path: [*listed, "gone"])
    packed = pack(tree, into=out)
    assert list(members(packed.path)) == ["a", "b"]
    assert packed.warnings == ("gone was left out: it vanished while it was packed.",)


def test_an_unreadable_file_is_named_when_met(tree: Path, out: Path, monkeypatch):
    write(tree, "a/secret")
    real = os.open

    def refuse(path, flags, *rest, **more):
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(packing.os, "open", refuse)
    with pytest.raises(
        InvalidInputError, match=r"workdir: a/secret cannot be read: Permission denied. Allow"
    ):
        pack(tree, into=out)
    assert list(out.iterdir()) == []


def test_a_shrinking_file_is_named_when_it_ends_early(tree: Path, out: Path, monkeypatch):
    write(tree, "log", text="x" * 100)
    real = os.fstat

    def longer(descriptor):
        found = real(descriptor)
        return os.stat_result((*found[:6], found.st_size + 1, *found[7:]))

    monkeypatch.setattr(packing.os, "fstat", longer)
    with pytest.raises(InvalidInputError, match="log shrank while it was packed"):
        pack(tree, into=out)


def test_a_source_that_is_no_folder_or_file_is_explained_when_packed(tmp_path: Path, out: Path):
    with pytest.raises(InvalidInputError, match=r'^file_mounts: ".*nowhere" does not exist. Create it'):
        pack(tmp_path / "nowhere", field="file_mounts", into=out)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidInputError, match="neither a folder nor a file"):
        pack(tmp_path / "pipe", into=out)


def test_a_full_or_missing_target_is_explained_when_packing(tree: Path, tmp_path: Path):
    with pytest.raises(UnavailableError, match=r"packing into .*none failed: No such file"):
        pack(tree, into=tmp_path / "none")


def test_memory_stays_small_when_a_file_is_large(tree: Path, out: Path):
    with (tree / "big").open("wb") as big:
        big.truncate(64 * 1024 * 1024)
    tracemalloc.start()
    try:
        packed = pack(tree, into=out)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert packed.content_bytes == 64 * 1024 * 1024
    assert peak < 8 * 1024 * 1024


def test_the_compressed_stream_is_plain_gzip_when_read_by_others(tree: Path, out: Path):
    write(tree, "a")
    data = pack(tree, into=out).path.read_bytes()
    assert data[4:8] == b"\0\0\0\0", "the header holds no time"
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(data))) as archive:
        assert archive.getnames() == ["a"]
