from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stix.sdk.client import Client
from stix.sdk.endpoint import Endpoint
from stix.sdk.log_download import FileSink
from stix.sdk.log_stream import LogReader
from stix.sdk.log_tail import read_tail
from stix.sdk.logs import Frame, FrameDecoder, LogFormatError, decode_chunk, encode_frame
from tests.unit.scripted_api import URL, ScriptedApi, chunk, cluster, error, job

frames = st.lists(
    st.builds(Frame, st.integers(1, 9), st.integers(0, 2**63), st.binary(max_size=300)), max_size=8
)


class Recorder:
    def __init__(self) -> None:
        self.frames: list[tuple[int, Frame]] = []
        self.flushes = 0

    def write(self, rank: int, frame: Frame) -> None:
        self.frames.append((rank, frame))

    def flush(self) -> None:
        self.flushes += 1

    @property
    def text(self) -> list[str]:
        return [frame.payload.decode() for _, frame in self.frames]


@pytest.fixture
def api() -> ScriptedApi:
    return ScriptedApi(clusters=[cluster("dev")], job_states=[job()])


@pytest.fixture
def reader(api: ScriptedApi):
    with (
        Client(Endpoint(URL, "t"), api.transport, pace=api.pace) as client,
        LogReader(client, "dev", "latest") as reader,
    ):
        yield reader


@given(frames, st.randoms(use_true_random=False))
def test_decoder_gives_the_same_frames_however_the_bytes_are_cut(
    frames: list[Frame], chance: random.Random
) -> None:
    data = b"".join(encode_frame(frame) for frame in frames)
    decoder, found = FrameDecoder(), []
    while data:
        cut = chance.randint(1, len(data))
        found += decoder.feed(data[:cut])
        data = data[cut:]
    decoder.close()
    assert found == frames


def test_header_is_thirteen_bytes_in_network_order() -> None:
    assert (
        encode_frame(Frame(2, 0x0102030405060708, b"hi"))
        == bytes.fromhex("02000000020102030405060708") + b"hi"
    )


@pytest.mark.parametrize("cut", [1, 12, 13, 15])
def test_decoder_refuses_a_chunk_that_is_cut_off(cut: int) -> None:
    data = encode_frame(Frame(1, 0, b"abc"))[:cut]
    with pytest.raises(LogFormatError, match="cut off at byte 0"):
        list(decode_chunk(data))


def test_decoder_refuses_a_frame_that_is_too_long() -> None:
    with pytest.raises(LogFormatError, match="4294967295 bytes"):
        list(decode_chunk(bytes.fromhex("01ffffffff") + bytes(8)))


def test_ranks_are_merged_by_time_and_each_stays_in_order(api: ScriptedApi, reader: LogReader) -> None:
    api.logs["dev", 1] = {
        0: [chunk((1, "a", 10), (1, "d", 40)), chunk((1, "c2", 30))],
        1: [chunk((1, "b", 20), (2, "e", 50))],
    }
    sink = Recorder()
    reader.copy(sink, follow=False)
    assert sink.text == ["a", "b", "d", "c2", "e"]


def test_chunks_are_written_in_order_when_their_downloads_end_out_of_order(
    api: ScriptedApi, reader: LogReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.logs["dev", 1] = {0: [chunk((1, f"{n} ")) for n in range(100)]}
    second_done = threading.Event()
    get = reader.client.objects.get

    def late_first(url: str, headers: Any) -> bytes | None:
        if "/0/0?" in url:
            assert second_done.wait(60)
        data = get(url, headers)
        second_done.set()
        return data

    monkeypatch.setattr(reader.client.objects, "get", late_first)
    sink = Recorder()
    reader.copy(sink, follow=False)
    assert "".join(sink.text).split() == [str(n) for n in range(100)]
    # 100 chunks in pages of 32, and the page that says that there is no more.
    assert api.pages == 4


def test_few_chunks_are_in_memory_when_the_log_is_long(
    api: ScriptedApi, reader: LogReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.logs["dev", 1] = {0: [chunk((1, "x")) for _ in range(64)]}
    get = reader.client.objects.get
    fetched: list[str] = []
    sink = Recorder()
    most = 0

    def counting(url: str, headers: Any) -> bytes | None:
        nonlocal most
        fetched.append(url)
        most = max(most, len(fetched) - len(sink.frames))
        return get(url, headers)

    monkeypatch.setattr(reader.client.objects, "get", counting)
    reader.copy(sink, follow=False)
    assert len(sink.frames) == 64
    assert most <= 6


def test_follow_shows_each_line_when_it_comes_and_ends_with_the_job(
    api: ScriptedApi, reader: LogReader
) -> None:
    api.job_states = [job(status="PENDING"), job(status="RUNNING"), job(status="RUNNING"), job()]
    chunks: list[bytes | None] = []
    api.logs["dev", 1] = {0: chunks}
    sink = Recorder()
    seen_at_page: list[int] = []

    def on_page(count: int) -> None:
        seen_at_page.append(len(sink.frames))
        if count in {1, 2}:
            chunks.append(chunk((1, f"line {count}\n")))

    api.on_page = on_page
    states: list[str] = []
    ended = reader.copy(sink, follow=True, on_job=lambda one: states.append(one["status"]))
    assert sink.text == ["line 1\n", "line 2\n"]
    assert seen_at_page == [0, 0, 1, 2]
    assert states == ["PENDING", "RUNNING", "RUNNING", "SUCCEEDED"]
    assert ended["status"] == "SUCCEEDED"
    assert all(call.query["follow"] == "true" for call in api.calls if call.path.endswith("/logs"))
    assert [call.query.get("wait") for call in api.calls if call.path.endswith("/logs")] == [
        None,
        "20",
        "20",
        "20",
    ]
    # Every page brought something, so nothing was waited for on this side.
    assert api.slept == []


def test_follow_rests_a_second_when_the_server_does_not_hold_the_request(
    api: ScriptedApi, reader: LogReader
) -> None:
    api.job_states = [job(status="RUNNING")] * 4 + [job()]
    api.logs["dev", 1] = {0: []}
    reader.copy(Recorder(), follow=True)
    assert api.slept == [1.0, 1.0, 1.0]


def test_follow_stays_with_its_job_when_a_newer_one_starts(api: ScriptedApi, reader: LogReader) -> None:
    api.job_states = [job(7, "RUNNING"), job(7)]
    reader.copy(Recorder(), follow=True)
    assert [call.path for call in api.calls] == [
        "/v1/clusters/dev/jobs/latest/logs",
        "/v1/clusters/dev/jobs/7/logs",
    ]


def test_expired_url_is_renewed_and_no_line_is_lost_or_doubled(api: ScriptedApi, reader: LogReader) -> None:
    api.logs["dev", 1] = {0: [chunk((1, "a")), chunk((1, "b"))], 1: [chunk((1, "c", 5))]}
    api.scripted["GET", "/objects/dev/1/0/1"] = [httpx.Response(403), httpx.Response(403)]
    sink = Recorder()
    reader.copy(sink, follow=False)
    assert sorted(sink.text) == ["a", "b", "c"]
    renewals = [call.query for call in api.calls if call.query.get("rank") == "0"]
    assert [query["cursor"] for query in renewals] == ["0:1", "0:1"]


def test_missing_or_damaged_chunk_is_noted_and_the_rest_is_shown(api: ScriptedApi, reader: LogReader) -> None:
    api.logs["dev", 1] = {0: [chunk((1, "a")), None, b"\x01\x00", chunk((1, "z"))]}
    sink = Recorder()
    reader.copy(sink, follow=False)
    assert [frame.kind for _, frame in sink.frames] == [1, 5, 5, 1]
    assert "log chunk 1 of rank 0 cannot be shown" in sink.text[1]


def test_tail_reads_backwards_and_only_what_it_needs(api: ScriptedApi, reader: LogReader) -> None:
    api.logs["dev", 1] = {0: [chunk((1, f"line {n}\n")) for n in range(500)]}
    tail = read_tail(reader, 3)
    fetched = [call.path for call in api.calls if call.path.startswith("/objects/")]
    assert [frame.payload for frame in tail.frames[0]][-3:] == [b"line 497\n", b"line 498\n", b"line 499\n"]
    assert len(fetched) <= 8
    assert tail.cursor == "0:500"


def test_tail_is_everything_when_the_log_is_short(api: ScriptedApi, reader: LogReader) -> None:
    api.logs["dev", 1] = {0: [chunk((1, "only\n"))], 1: []}
    tail = read_tail(reader, 50)
    assert [frame.payload for frame in tail.frames[0]] == [b"only\n"]
    assert tail.frames[1] == []


def test_log_survives_a_short_outage_of_the_object_store(api: ScriptedApi, reader: LogReader) -> None:
    api.logs["dev", 1] = {0: [chunk((1, "a"))]}
    api.scripted["GET", "/objects/dev/1/0/0"] = [
        httpx.ConnectError("x"),
        httpx.Response(500),
        error(503, "a", "b"),
    ]
    sink = Recorder()
    reader.copy(sink, follow=False)
    assert sink.text == ["a"]


def test_files_hold_the_raw_bytes_of_each_stream_of_each_rank(
    api: ScriptedApi, reader: LogReader, tmp_path: Path
):
    binary = bytes(range(256))
    api.logs["dev", 1] = {
        0: [
            chunk((3, "setting up\n"), (1, binary)),
            chunk((1, binary), (2, "oops"), (5, "note\n"), (77, "new")),
        ],
        1: [chunk((1, "one"))],
    }
    with FileSink(tmp_path / "out") as sink:
        reader.copy(sink, follow=False)
    files = {
        str(path.relative_to(tmp_path / "out")): path.read_bytes() for path in (tmp_path / "out").rglob("*/*")
    }
    assert files == {
        "rank-0/stdout": binary * 2,
        "rank-0/stderr": b"oops",
        "rank-0/setup": b"setting up\n",
        "rank-0/notes": b"note\n",
        "rank-1/stdout": b"one",
        "rank-1/stderr": b"",
    }
