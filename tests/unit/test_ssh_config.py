"""The hosts that plain ssh knows: our file, one line in the person's, and nothing else of theirs changed."""

from __future__ import annotations

import json
import os
import stat
import subprocess

import pytest

from stix.sdk.errors import SdkError
from stix.sdk.ssh_config import Host, ManagedHosts, alias_of, hosts_of, with_include

LINE = "Include ~/.stix/ssh/config"
THEIRS = b"""# mine
Host old
    HostName 192.0.2.1
Match host *.corp exec "true"
    User me
Host *
    ForwardAgent no"""
KEYS = ("ssh-ed25519 AAAA", "ssh-rsa BBBB")


@pytest.fixture
def managed(tmp_path):
    return ManagedHosts(tmp_path / ".stix", tmp_path / ".ssh")


def host(cluster="dev", rank=0, plane="embedded", **fields):
    values = {"user": "root", "host_keys": KEYS} | fields
    return Host(alias_of(cluster, rank), cluster, rank, plane, **values)


def names(managed):
    return [line.split()[1] for line in managed.config.read_text().splitlines() if line.startswith("Host ")]


@pytest.mark.parametrize(
    "content",
    [b"", b"Host a\n", THEIRS, b"\xff\xfe not UTF-8\n", b"\n\n"],
    ids=["empty", "one", "match", "bytes", "blank"],
)
def test_line_comes_first_and_every_byte_of_theirs_stays(content):
    changed = with_include(content, LINE)
    assert changed == LINE.encode() + b"\n" + content
    assert with_include(changed, LINE) is None


def test_line_ends_as_the_others_do_when_they_end_in_crlf():
    content = b"Host a\r\n  User b\r\n"
    changed = with_include(content, LINE)
    assert changed == LINE.encode() + b"\r\n" + content
    assert with_include(changed, LINE) is None


def test_line_is_left_where_the_person_moved_it():
    assert with_include(b"Host a\n\n  " + LINE.encode() + b"\n", LINE) is None


def test_folder_and_file_are_made_private_when_there_are_none(managed, tmp_path):
    assert managed.include()
    assert (tmp_path / ".ssh/config").read_text() == LINE + "\n"
    assert stat.S_IMODE((tmp_path / ".ssh").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / ".ssh/config").stat().st_mode) == 0o600
    assert not managed.include()
    assert (tmp_path / ".ssh/config").read_text() == LINE + "\n"


def test_link_and_mode_stay_when_the_file_is_somewhere_else(managed, tmp_path):
    real = tmp_path / "dotfiles"
    real.mkdir()
    (real / "ssh_config").write_bytes(THEIRS)
    (real / "ssh_config").chmod(0o644)
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/config").symlink_to("../dotfiles/ssh_config")
    managed.include()
    assert (tmp_path / ".ssh/config").is_symlink()
    assert (real / "ssh_config").read_bytes() == LINE.encode() + b"\n" + THEIRS
    assert stat.S_IMODE((real / "ssh_config").stat().st_mode) == 0o644
    assert sorted(path.name for path in real.iterdir()) == ["ssh_config"]


def test_error_tells_the_line_when_the_file_cannot_be_written(managed, tmp_path):
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/config").symlink_to(tmp_path / "absent/config")
    with pytest.raises(SdkError) as caught:
        managed.include()
    assert LINE in caught.value.hint


def test_home_elsewhere_is_included_by_its_whole_path_in_quotes_when_it_has_a_space(tmp_path):
    there = ManagedHosts(tmp_path / "a b", tmp_path / "person/.ssh")
    assert there.include_line() == f'Include "{tmp_path}/a b/ssh/config"'


def test_openssh_reads_what_is_written(managed, tmp_path):
    managed.write([host(), host(rank=1, user="ubuntu")])
    managed.include()
    (tmp_path / ".ssh/config").write_text(f"Include {managed.config}\nHost *\n  User theirs\n  Port 2222\n")
    asked = ["ssh", "-G", "-F", str(tmp_path / ".ssh/config"), "dev-worker1"]
    answer = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()
    assert "user ubuntu" in answer
    assert "hostkeyalias dev-worker1" in answer
    assert "stricthostkeychecking true" in answer
    assert f"userknownhostsfile {managed.known_hosts}" in answer
    [command] = [line for line in answer if line.startswith("proxycommand ")]
    assert command.endswith("ssh-proxy dev 1")
    assert command.split()[1].startswith(("/", "env"))
    assert managed.known_hosts.read_text().count("dev-worker1 ssh-") == 2


def test_hosts_of_other_clusters_and_planes_stay_when_one_is_written_or_gone(managed):
    managed.write([host(), host(rank=1)])
    managed.write([host("far", plane="https://a"), host("other")])
    managed.write([host()])
    assert sorted(names(managed)) == ["dev", "far", "other"]
    managed.keep("embedded", {"dev"})
    assert sorted(names(managed)) == ["dev", "far"]
    managed.keep("embedded", (), among=("nothing",))
    assert sorted(names(managed)) == ["dev", "far"]
    managed.keep("embedded", (), among=("dev",))
    assert names(managed) == ["far"]
    assert "dev" not in managed.known_hosts.read_text()


def test_host_of_another_plane_is_replaced_when_it_has_the_same_name(managed):
    managed.write([host(plane="https://a", user="far")])
    managed.write([host()])
    assert names(managed) == ["dev"]
    assert "User root" in managed.config.read_text()


def test_list_that_is_damaged_is_begun_anew(managed):
    managed.write([host()])
    (managed.folder / "hosts.json").write_text("{")
    managed.write([host("new")])
    assert names(managed) == ["new"]
    assert len(json.loads((managed.folder / "hosts.json").read_text())) == 1


def test_key_is_made_once_and_is_its_owners_alone(managed):
    key = managed.public_key()
    assert key.startswith("ssh-ed25519 ")
    assert managed.public_key() == key
    private = managed.folder / "id_ed25519"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert stat.S_IMODE(managed.folder.stat().st_mode) == 0o700
    assert sorted(os.listdir(managed.folder)) == ["id_ed25519", "id_ed25519.pub", "lock"]


def test_node_that_has_not_answered_is_taken_to_be_like_its_head():
    node = {"rank": 0, "user": "root", "host_keys": ["k"]}
    access = {"cluster": "dev", "nodes": [node, {"rank": 1, "user": "", "host_keys": []}]}
    assert [(one.alias, one.user) for one in hosts_of(access, "p")] == [
        ("dev", "root"),
        ("dev-worker1", "root"),
    ]
