"""Which HAProxy will do, and what is said of one that will not."""

from __future__ import annotations

import os

import pytest

from stix.gateway.__main__ import main
from stix.gateway.haproxy import HaproxyError, find_haproxy

FEATURES = "Feature list : +EPOLL +LUA +OPENSSL -QUIC"


def put(folder, version: str, features: str = FEATURES) -> None:
    program = folder / "haproxy"
    program.write_text(
        f"#!/bin/sh\necho 'HAProxy version {version} - https://haproxy.org/'\necho '{features}'\n"
    )
    program.chmod(0o755)


@pytest.mark.parametrize("version", ["2.6.12-1", "2.10.1", "3.0.0"])
def test_the_first_one_on_the_path_is_taken(tmp_path, monkeypatch, version):
    put(tmp_path, version)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert find_haproxy() == str(tmp_path / "haproxy")


@pytest.mark.parametrize(
    ("version", "features", "problem"),
    [
        ("2.4.22", FEATURES, "needs HAProxy 2.6 or newer"),
        ("1.8.0", FEATURES, "is version 1.8"),
        ("2.6.12", FEATURES.replace("+LUA", "-LUA"), "was built without LUA"),
        ("2.6.12", FEATURES.replace("+OPENSSL", "-OPENSSL"), "was built without OPENSSL"),
    ],
)
def test_one_that_will_not_do_is_refused_with_how_to_install_another(
    tmp_path, monkeypatch, version, features, problem
):
    put(tmp_path, version, features)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(HaproxyError, match=f"{problem}.*apt-get install haproxy"):
        find_haproxy()


def test_without_one_the_gateway_ends_with_2_and_says_how_to_install_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("stix.gateway.haproxy.shutil.which", lambda *_, **__: None)
    assert main(["--view", str(tmp_path / "view"), "--state", str(tmp_path / "state")]) == 2
    assert "this machine has none. Install it: `apt-get install haproxy`" in capsys.readouterr().err
