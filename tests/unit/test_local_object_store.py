"""Local files as an object store: its links, its writer, its folder."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from stix.adapters.local_files import LocalObjectStore
from stix.adapters.signed_paths import Permission, UrlSigner
from stix.model.errors import ForbiddenError, InvalidInputError, UnavailableError
from stix.ports.object_store import ObjectNotFoundError

NOW = 1_800_000_000.5
DIGEST = hashlib.sha256(b"content").hexdigest()


@pytest.fixture
def store(tmp_path) -> LocalObjectStore:
    return LocalObjectStore(tmp_path, "http://127.0.0.1:1234/", b"k" * 32, clock=lambda: NOW)


def _request(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.path, parts.query


def test_signed_put_is_opened_when_it_comes_back(store):
    signed = store.sign_put("a b/ü", size=7, sha256=DIGEST, expires_seconds=60)
    assert signed.url.startswith("http://127.0.0.1:1234/objects/a%20b/%C3%BC?method=PUT&expires=")
    opened = store.open_signed("PUT", *_request(signed.url), now=NOW + 59)
    assert (opened.key, opened.size, opened.sha256) == ("a b/ü", 7, DIGEST)
    with store.writer(opened.key, opened.size, opened.sha256) as writer:
        writer.write(b"cont")
        writer.write(b"ent")
    assert opened.path.read_bytes() == b"content"
    assert store.get("a b/ü") == b"content"


def test_signed_get_is_opened_with_the_size_when_it_comes_back(store):
    store.put("a", b"content")
    opened = store.open_signed("GET", *_request(store.sign_get("a", expires_seconds=60).url), now=NOW)
    assert (opened.path.read_bytes(), opened.size) == (b"content", 7)
    store.delete("a")
    with pytest.raises(ObjectNotFoundError):
        store.open_signed("GET", *_request(store.sign_get("a", expires_seconds=60).url), now=NOW)


def test_base_url_is_asked_when_it_is_known_late(tmp_path):
    ports = iter([80, 81])
    store = LocalObjectStore(tmp_path, lambda: f"http://localhost:{next(ports)}", b"k" * 32)
    assert store.sign_get("a", expires_seconds=1).url.startswith("http://localhost:80/objects/a?")
    assert store.sign_get("a", expires_seconds=1).url.startswith("http://localhost:81/objects/a?")


def test_link_is_refused_when_it_has_expired(store):
    path, query = _request(store.sign_put("a", size=7, expires_seconds=60).url)
    store.open_signed("PUT", path, query, NOW + 60)
    with pytest.raises(ForbiddenError, match="expired") as refusal:
        store.open_signed("PUT", path, query, NOW + 61)
    assert refusal.value.code == "signed_url_expired"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("/objects/a/b", "/objects/a/c"),
        ("/objects/a/b", "/objects/a%2F..%2Fb"),
        ("/objects/a/b", "/objects/../b"),
        ("/objects/a/b", "/objects/%FF"),
        ("/objects/a/b", "/other/a/b"),
        ("method=PUT", "method=GET"),
        ("size=7", "size=8"),
        ("size=7", "size=07"),
        ("size=7&", ""),
        ("size=7", "size=x"),
        ("expires=1800", "expires=1900"),
        (DIGEST, DIGEST[::-1]),
        (f"&sha256={DIGEST}", ""),
        ("signature=", "signature=é"),
        ("signature=", "signature=0"),
        ("&signature=", "&size=7&signature="),
        ("&signature=", "&extra=1&signature="),
        ("&signature=", "&"),
    ],
)
def test_link_is_refused_when_anything_was_changed(store, old, new):
    signed = store.sign_put("a/b", size=7, sha256=DIGEST, expires_seconds=60)
    store.open_signed("PUT", *_request(signed.url), now=NOW)
    assert old in signed.url
    changed = signed.url.replace(old, new)
    if new == "size=07":
        # The same number written otherwise is the same promise.
        assert (
            store.open_signed("PUT", *changed.removeprefix("http://127.0.0.1:1234").split("?"), NOW).size == 7
        )
        return
    path, _, query = changed.removeprefix("http://127.0.0.1:1234").partition("?")
    for method in ("PUT", "GET"):
        with pytest.raises(ForbiddenError) as refusal:
            store.open_signed(method, path, query, NOW)
        assert refusal.value.code == "signed_url_invalid"


def test_link_is_refused_when_used_for_another_method_or_store(store, tmp_path):
    store.put("a", b"content")
    request = _request(store.sign_get("a", expires_seconds=60).url)
    for method in ("PUT", "DELETE", "HEAD"):
        with pytest.raises(ForbiddenError, match="allows GET"):
            store.open_signed(method, *request, now=NOW)
    other = LocalObjectStore(tmp_path, "http://x", b"o" * 32)
    with pytest.raises(ForbiddenError, match="signature"):
        other.open_signed("GET", *request, now=NOW)


@settings(max_examples=60, derandomize=True, database=None)
@given(st.text(min_size=1, max_size=20), st.integers(0, 10**6), st.sampled_from([None, DIGEST]))
def test_permission_comes_back_exactly_when_signed(key, size, sha256):
    signer = UrlSigner(b"k" * 32)
    permission = Permission("PUT", key, 2_000_000_000, size, sha256)
    try:
        path, query = signer.target(permission).split("?")
        assert signer.check("PUT", path, query, NOW) == permission
    except ForbiddenError as exc:
        assert "object key" in str(exc)  # noqa: PT017 - keys that no store takes are refused too
    except UnicodeEncodeError:
        assert any("\ud800" <= character <= "\udfff" for character in key)


def test_signing_key_is_refused_when_short(tmp_path):
    with pytest.raises(ValueError, match="32"):
        LocalObjectStore(tmp_path, "http://x", b"short")


def _upload(store: LocalObjectStore, pieces: Iterable[bytes], sha256: str | None) -> None:
    with store.writer("a", 7, sha256) as writer:
        for piece in pieces:
            writer.write(piece)


@pytest.mark.parametrize(
    ("pieces", "sha256", "words"),
    [
        ([b"conten"], None, "ended after 6 of 7 bytes"),
        ([b"content", b"!"], None, "larger than its 7 bytes"),
        ([b"CONTENT"], DIGEST, "not " + DIGEST),
        ([], None, "ended after 0"),
    ],
)
def test_object_stays_as_it_was_when_an_upload_is_wrong(store, tmp_path, pieces, sha256, words):
    store.put("a", b"before")
    with pytest.raises(InvalidInputError, match=words):
        _upload(store, pieces, sha256)
    assert store.get("a") == b"before"
    assert list((tmp_path / "incoming").iterdir()) == []


def test_caller_sees_its_own_error_when_an_upload_breaks_off(store, tmp_path):
    def broken():
        yield b"con"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        _upload(store, broken(), None)
    assert store.size("a") is None
    assert list((tmp_path / "incoming").iterdir()) == []


def test_leftovers_of_killed_writers_are_dropped_when_old(tmp_path):
    LocalObjectStore(tmp_path, "http://x", b"k" * 32)
    for name, age in (("old", 25 * 3600), ("young", 60)):
        (tmp_path / "incoming" / name).write_bytes(b"")
        os.utime(tmp_path / "incoming" / name, (NOW - age, NOW - age))
    LocalObjectStore(tmp_path, "http://x", b"k" * 32, clock=lambda: NOW)
    assert [path.name for path in (tmp_path / "incoming").iterdir()] == ["young"]


def test_folders_are_gone_when_their_last_object_is(store, tmp_path):
    store.put("a/b/c", b"")
    store.put("a/d", b"")
    store.delete("a/b/c")
    assert [path.name for path in (tmp_path / "objects" / "a").iterdir()] == ["d"]
    store.delete("a/d")
    assert list((tmp_path / "objects").iterdir()) == []


def test_key_is_refused_when_another_is_its_folder(store):
    store.put("a/b", b"1")
    for key in ("a", "a/b/c", "a/b/c/d"):
        with pytest.raises(ValueError, match="in the way"):
            store.put(key, b"2")
    assert list(store.keys("")) == ["a/b"]


def test_puts_and_deletes_do_not_disturb_each_other_when_they_share_a_folder(store):
    failures: list[BaseException] = []

    def churn(who: int) -> None:
        try:
            for n in range(60):
                store.put(f"shared/folder/{who}", str(n).encode())
                assert store.get(f"shared/folder/{who}") == str(n).encode()
                store.delete(f"shared/folder/{who}")
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=churn, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert list(store.keys("")) == []


def test_files_are_private_when_made(store, tmp_path):
    store.put("a/b", b"")
    for path in (tmp_path / "objects", tmp_path / "incoming", tmp_path / "objects" / "a"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


def test_folder_is_named_when_it_cannot_be_used(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UnavailableError, match=str(tmp_path / "file")):
        LocalObjectStore(Path(tmp_path / "file"), "http://x", b"k" * 32)
