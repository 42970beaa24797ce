"""What every object store promises, over local files and S3; signed URLs over real HTTP."""

from __future__ import annotations

import base64
import hashlib
from urllib.parse import parse_qs, urlsplit

import pytest

from stix.adapters.s3 import S3ObjectStore, create_s3_client
from stix.model.errors import UnavailableError
from stix.ports.object_store import ObjectNotFoundError

CONTENT = bytes(range(256)) * 3
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def test_object_comes_back_when_put(objects):
    store = objects.store
    store.put("logs/job 1/ünï+code%41.txt", CONTENT)
    store.put("empty", b"")
    assert store.get("logs/job 1/ünï+code%41.txt") == CONTENT
    assert store.size("logs/job 1/ünï+code%41.txt") == len(CONTENT)
    assert (store.get("empty"), store.size("empty")) == (b"", 0)


def test_object_is_replaced_when_put_again(objects):
    objects.store.put("a/b", b"long long ago")
    objects.store.put("a/b", b"now")
    assert objects.store.get("a/b") == b"now"
    assert list(objects.store.keys("")) == ["a/b"]


def test_absent_object_is_told_by_name_when_read(objects):
    for key in ("nothing", "no/thing", "folder"):
        objects.store.put("folder/x", b"")
        with pytest.raises(ObjectNotFoundError, match=key):
            objects.store.get(key)
        assert objects.store.size(key) is None


def test_delete_succeeds_when_the_object_is_absent(objects):
    store = objects.store
    store.put("a/b/c", b"1")
    store.put("a/d", b"2")
    for _ in range(2):
        store.delete("a/b/c")
        store.delete("a")
        store.delete("nothing/here")
    assert list(store.keys("")) == ["a/d"]
    store.put("a/b", b"a file where a folder was")
    assert store.get("a/b") == b"a file where a folder was"


def test_keys_come_in_the_order_of_their_bytes(objects):
    names = ["a/b", "a-b", "a.b", "a/b-", "a0", "b", "é", "z/1", "z/10", "z/2", "\U0001f600", "\uffee"]
    for name in names:
        if name != "a/b":
            objects.store.put(name, b"")
    objects.store.put("a/b.c/d", b"")
    expected = sorted([*names[1:], "a/b.c/d"], key=lambda name: name.encode())
    assert list(objects.store.keys("")) == expected
    assert list(objects.store.keys("a")) == [name for name in expected if name.startswith("a")]
    assert list(objects.store.keys("a/")) == ["a/b-", "a/b.c/d"]
    assert list(objects.store.keys("a/b.")) == ["a/b.c/d"]
    assert list(objects.store.keys("z/1")) == ["z/1", "z/10"]
    assert list(objects.store.keys("nothing/here")) == []


def test_keys_come_to_the_last_page_when_there_are_many(objects):
    pages = []
    if objects.technology == "s3":
        events = objects.store._client.meta.events
        events.register(
            "provide-client-params.s3.ListObjectsV2",
            lambda params, **_: pages.append(1) or {**params, "MaxKeys": 10},
            unique_id="short-pages",
        )
    names = [f"chunks/{n:06d}" for n in range(35)]
    for name in names:
        objects.store.put(name, b"")
    assert list(objects.store.keys("chunks/")) == names
    if objects.technology == "s3":
        events.unregister("provide-client-params.s3.ListObjectsV2", unique_id="short-pages")
        assert len(pages) == 4


@pytest.mark.parametrize(
    "key",
    ["", "/", "/etc/passwd", "a/", "a//b", ".", "..", "../a", "a/../../b", "a/./b", "a\\b", "a\0b", "a\nb"],
)
def test_key_is_refused_when_it_is_no_plain_path(objects, key):
    store = objects.store
    for operation in (
        store.get,
        store.size,
        store.delete,
        lambda key: store.put(key, b""),
        lambda key: store.sign_get(key, expires_seconds=60),
        lambda key: store.sign_put(key, size=1, expires_seconds=60),
    ):
        with pytest.raises(ValueError, match="object key"):
            operation(key)


def test_longest_key_is_stored(objects):
    key = "/".join(["é" * 127] * 3 + ["x" * 200])
    objects.store.put(key, b"1")
    assert list(objects.store.keys("")) == [key]
    for long in ("x" * 256, "/".join(["x" * 250] * 4)):
        with pytest.raises(ValueError, match="too long"):
            objects.store.put(long, b"")


def test_signed_get_reads_the_object_when_sent(objects):
    objects.store.put("logs/a b%2F+é.txt", CONTENT)
    signed = objects.store.sign_get("logs/a b%2F+é.txt", expires_seconds=60)
    answer = objects.send(signed)
    assert (answer.status, answer.content) == (200, CONTENT)
    assert signed.method == "GET"


def test_signed_get_says_not_found_when_the_object_is_absent(objects):
    assert objects.send(objects.store.sign_get("nothing", expires_seconds=60)).status == 404


@pytest.mark.parametrize("sha256", [DIGEST, None])
def test_signed_put_writes_the_object_when_sent(objects, sha256):
    signed = objects.store.sign_put("up/load é", size=len(CONTENT), sha256=sha256, expires_seconds=60)
    assert signed.headers["Content-Length"] == str(len(CONTENT))
    assert objects.send(signed, CONTENT).status == 200
    assert objects.store.get("up/load é") == CONTENT


def test_signed_put_takes_an_empty_object(objects):
    signed = objects.store.sign_put("empty", size=0, expires_seconds=60)
    assert objects.send(signed, b"").status == 200
    assert objects.store.size("empty") == 0


@pytest.mark.parametrize(
    "promise",
    [
        {"size": -1},
        {"size": 6 * 1024**3},
        {"size": 1, "sha256": "abc"},
        {"size": 1, "sha256": DIGEST.upper()},
        {"size": 1, "expires_seconds": 0},
        {"size": 1, "expires_seconds": 8 * 24 * 3600},
    ],
)
def test_url_is_refused_when_it_cannot_be_promised(objects, promise):
    with pytest.raises(ValueError, match=next(reversed(promise))):
        objects.store.sign_put("a", **{"expires_seconds": 60, **promise})


@pytest.mark.parametrize("objects", ["s3"], indirect=True)
def test_s3_url_binds_size_and_hash_when_signed(objects):
    """moto does not check signatures, AWS does: what it would check is in the URL."""
    signed = objects.store.sign_put("a/b", size=768, sha256=DIGEST, expires_seconds=900)
    query = parse_qs(urlsplit(signed.url).query)
    assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert query["X-Amz-Expires"] == ["900"]
    assert set(query["X-Amz-SignedHeaders"][0].split(";")) == {
        "content-length",
        "host",
        "x-amz-checksum-sha256",
    }
    assert signed.headers == {
        "Content-Length": "768",
        "x-amz-checksum-sha256": base64.b64encode(bytes.fromhex(DIGEST)).decode(),
    }
    unhashed = objects.store.sign_put("a/b", size=768, expires_seconds=900)
    assert parse_qs(urlsplit(unhashed.url).query)["X-Amz-SignedHeaders"] == ["content-length;host"]
    assert set(unhashed.headers) == {"Content-Length"}


@pytest.mark.parametrize("objects", ["s3"], indirect=True)
def test_s3_signature_changes_with_every_promise(objects):
    def signature(**changes) -> str:
        signed = objects.store.sign_put(
            **{"key": "a", "size": 1, "sha256": DIGEST, "expires_seconds": 60, **changes}
        )
        query = parse_qs(urlsplit(signed.url).query)
        return query["X-Amz-Signature"][0]

    variants = [
        {},
        {"key": "b"},
        {"size": 2},
        {"sha256": None},
        {"sha256": "0" * 64},
        {"expires_seconds": 61},
    ]
    assert len({signature(**variant) for variant in variants}) == len(variants)


def test_s3_store_says_so_when_the_bucket_is_absent(s3_client):
    store = S3ObjectStore("nowhere", s3_client)
    for operation in (
        lambda: store.get("a"),
        lambda: store.put("a", b""),
        lambda: store.delete("a"),
        lambda: list(store.keys("")),
    ):
        with pytest.raises(UnavailableError, match=r"bucket nowhere does not exist.*stix deploy"):
            operation()


def test_s3_store_is_unavailable_when_nothing_answers(monkeypatch, s3_client):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    client = create_s3_client(retries={"total_max_attempts": 1})
    with pytest.raises(UnavailableError, match=r"bucket b cannot be reached"):
        S3ObjectStore("b", client).put("a", b"1")


def test_s3_url_names_the_region_when_signed(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    signed = S3ObjectStore("bucket").sign_get("a/b", expires_seconds=60)
    assert signed.url.startswith("https://bucket.s3.eu-west-1.amazonaws.com/a/b?")
