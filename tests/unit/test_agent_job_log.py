"""Chunks: complete, immutable, resumable."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stix.agent.job_log import JobLog
from stix.agent.log_frames import read_frames
from stix.agent.tunables import Tunables

SMALL = Tunables(chunk_bytes=2000, spooled_chunks=1000)


def drain(log: JobLog, now: float = 1e6) -> None:
    log.closing = True
    while not log.complete:
        log.seal(now)


def streams(log: JobLog) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for n in range(log.next_chunk):
        for kind, _, payload in read_frames(log.chunk(n)):
            found[kind] = found.get(kind, b"") + payload
    return found


@given(
    writes=st.lists(
        st.tuples(
            st.sampled_from(["run.out", "run.err", "setup.out"]), st.binary(max_size=5000), st.booleans()
        ),
        max_size=12,
    )
)
@settings(max_examples=40)
def test_no_byte_is_lost_or_doubled_when_the_agent_restarts_at_any_write(tmp_path_factory, writes):
    folder = tmp_path_factory.mktemp("job")
    log = JobLog(str(folder), 1, 0, SMALL)
    written: dict[str, bytes] = {}
    sealed: dict[int, bytes] = {}
    for now, (name, data, restart) in enumerate(writes):
        with open(folder / name, "ab") as stream:
            stream.write(data)
        written[name] = written.get(name, b"") + data
        log.seal(float(now))
        if restart:
            log = JobLog(str(folder), 1, 0, SMALL)
        for n, _ in log.unsent():
            assert sealed.setdefault(n, log.chunk(n)) == log.chunk(n)
    drain(log)
    found = streams(log)
    assert found.get(1, b"") == written.get("run.out", b"")
    assert found.get(2, b"") == written.get("run.err", b"")
    assert found.get(3, b"") == written.get("setup.out", b"")
    finish = log.finish()
    assert finish["chunks"] == log.next_chunk
    assert finish["bytes"] == {"stdout": len(found.get(1, b"")), "stderr": len(found.get(2, b""))}
    assert finish["sha256"]["stdout"] == hashlib.sha256(found.get(1, b"")).hexdigest()
    assert all(size <= SMALL.chunk_bytes for _, size in log.unsent())


def test_chunk_is_taken_up_when_the_agent_died_before_recording_it(tmp_path):
    (tmp_path / "run.out").write_bytes(b"x" * 3000)
    log = JobLog(str(tmp_path), 1, 0, SMALL)
    log.seal(0.0)
    before = log.chunk(0)
    (tmp_path / "log.json").unlink()
    again = JobLog(str(tmp_path), 1, 0, SMALL)
    assert again.next_chunk == 1
    drain(again)
    assert again.chunk(0) == before
    assert streams(again)[1] == b"x" * 3000


def test_chunk_is_made_again_when_a_power_loss_tore_it(tmp_path):
    (tmp_path / "run.out").write_bytes(b"x" * 500)
    (tmp_path / "chunks").mkdir()
    (tmp_path / "chunks" / "00000000").write_bytes(b"\x01\x00\x00")
    log = JobLog(str(tmp_path), 1, 0, SMALL)
    drain(log)
    assert streams(log) == {1: b"x" * 500}


@pytest.mark.parametrize(
    ("follow_until", "first_age", "next_age"), [(0.0, 10.0, 10.0), (1e9, 0.2, 1.0)], ids=["quiet", "followed"]
)
def test_chunk_is_sealed_at_its_age_when_it_is_small(tmp_path, follow_until, first_age, next_age):
    log = JobLog(str(tmp_path), 1, 0, Tunables())
    log.follow_until = follow_until
    out = tmp_path / "run.out"
    out.write_bytes(b"one")
    assert not log.seal(0.0)
    assert not log.seal(first_age - 0.01)
    assert log.seal(first_age)
    out.write_bytes(b"onetwo")
    assert not log.seal(50.0)
    assert not log.seal(50.0 + next_age - 0.01)
    assert log.seal(50.0 + next_age)
    assert streams(log)[1] == b"onetwo"


def test_sealing_stops_when_the_spool_is_full_and_goes_on_when_it_is_not(tmp_path):
    (tmp_path / "run.out").write_bytes(b"x" * 20_000)
    log = JobLog(str(tmp_path), 1, 0, Tunables(chunk_bytes=2000, spooled_chunks=3))
    log.closing = True
    log.seal(0.0)
    assert log.unsent_count() == 3
    while not log.complete:
        log.drop_chunk(log.unsent()[0][0])
        log.seal(0.0)
    assert log.finish()["bytes"]["stdout"] == 20_000


def test_output_is_gone_when_everything_was_acknowledged(tmp_path):
    (tmp_path / "run.out").write_bytes(b"x")
    log = JobLog(str(tmp_path), 1, 0, SMALL)
    drain(log)
    log.drop_chunk(0)
    log.acknowledge()
    assert [path.name for path in tmp_path.iterdir()] == ["log.json"]
    assert JobLog(str(tmp_path), 1, 0, SMALL).acknowledged


def test_frames_keep_the_order_of_the_looks_when_streams_alternate(tmp_path):
    log = JobLog(str(tmp_path), 1, 0, SMALL)
    for now, (name, data) in enumerate([("run.out", b"1"), ("run.err", b"2"), ("run.out", b"3")]):
        with open(tmp_path / name, "ab") as stream:
            stream.write(data)
        log.seal(float(now))
    drain(log)
    assert [(kind, ms, data) for kind, ms, data in read_frames(log.chunk(0))] == [
        (1, 0, b"1"),
        (2, 1000, b"2"),
        (1, 2000, b"3"),
    ]
