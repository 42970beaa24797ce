"""logs: prefixes, streams, tails and files."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from stix.cli.log_output import LogPrinter
from stix.sdk.logs import Frame
from tests.unit.scripted_api import Cli, ScriptedApi, chunk, cluster, job


@pytest.fixture
def api() -> ScriptedApi:
    api = ScriptedApi(clusters=[cluster("dev")], job_states=[job()])
    api.logs["dev", 1] = {0: [chunk((3, "setting\nup"), (1, "hello\n"), (2, "careful\n"), (5, "moved\n"))]}
    return api


@pytest.fixture
def cli(api, capsys, monkeypatch, tmp_path) -> Cli:
    monkeypatch.chdir(tmp_path)
    return Cli(api, capsys, monkeypatch, str(tmp_path / "home"))


def test_one_node_is_shown_as_it_is_and_setup_and_notes_are_marked(cli: Cli) -> None:
    result = cli("logs", "dev", "1")
    assert result.code == 0
    assert result.out == "(setup) setting\nhello\n(setup) up\n"
    assert result.err == "careful\n(stix) moved\nJob 1 SUCCEEDED.\n"


def test_several_nodes_are_shown_line_by_line_with_their_rank(cli: Cli, api: ScriptedApi) -> None:
    api.job_states = [job(num_nodes=3, exit_codes=[0, 0, 0])]
    api.logs["dev", 1] = {
        0: [chunk((3, "install\n", 1), (1, "a", 3), (1, "b\n\nc", 6))],
        1: [chunk((1, "one\n", 4), (2, "warn\n", 5))],
        2: [chunk((1, "two\n", 2))],
    }
    result = cli("logs", "dev")
    assert result.out.splitlines() == [
        "(setup, rank=0) install",
        "(worker2, rank=2) two",
        "(worker1, rank=1) one",
        "(head, rank=0) ab",
        "(head, rank=0) ",
        "(head, rank=0) c",
    ]
    assert result.err.splitlines()[0] == "(worker1, rank=1) warn"


def test_bytes_of_one_node_pass_unchanged() -> None:
    out, err = io.BytesIO(), io.BytesIO()
    printer = LogPrinter(out=out, err=err)
    data = bytes(range(256)) * 3
    for at in range(0, len(data), 7):
        printer.write(0, Frame(1, 0, data[at : at + 7]))
    printer.close()
    assert out.getvalue() == data


def test_note_does_not_tear_a_progress_bar() -> None:
    out = io.BytesIO()
    printer = LogPrinter(out=out, err=out)
    printer.write(0, Frame(1, 0, b"50 %\r"))
    printer.write(0, Frame(5, 0, b"stopping soon\n"))
    assert out.getvalue() == b"50 %\r\n(stix) stopping soon\n"


def test_endless_line_is_cut_and_not_kept_in_memory() -> None:
    out = io.BytesIO()
    printer = LogPrinter(prefixed=True, out=out, err=out)
    for _ in range(5):
        printer.write(0, Frame(1, 0, b"x" * 64 * 1024))
    assert len(out.getvalue()) > 256 * 1024


def test_frames_of_unknown_kind_are_skipped() -> None:
    out = io.BytesIO()
    LogPrinter(out=out, err=out).write(0, Frame(99, 0, b"from the future"))
    assert out.getvalue() == b""


@pytest.mark.parametrize(
    ("lines", "expected"),
    [(1, ["5"]), (2, ["4", "5"]), (4, ["2", "3", "4", "5"]), (9, ["1", "2", "3", "4", "5"])],
)
def test_tail_shows_the_last_lines_of_all_nodes_in_order(
    cli: Cli, api: ScriptedApi, lines: int, expected: list[str]
) -> None:
    api.job_states = [job(num_nodes=2)]
    api.logs["dev", 1] = {
        0: [chunk((1, "1\n", 10)), chunk((1, "2\n4", 20), (1, "\n", 40))],
        1: [chunk((1, "3\n", 30)), chunk((1, "5", 50))],
    }
    shown = cli("logs", "dev", "1", "--tail", str(lines), "--no-follow").out.splitlines()
    assert [line.rpartition(" ")[2] for line in shown] == expected


def test_tail_goes_on_with_what_comes_later(cli: Cli, api: ScriptedApi) -> None:
    api.job_states = [job(status="RUNNING")] * 5 + [job()]
    chunks = [chunk((1, f"{n}\n")) for n in range(10)]
    api.logs["dev", 1] = {0: chunks}

    def on_page(count: int) -> None:
        if count in {3, 4}:
            chunks.append(chunk((1, f"late {count}\n")))

    api.on_page = on_page
    assert cli("logs", "dev", "--tail", "2").out == "8\n9\nlate 3\nlate 4\n"


def test_no_follow_shows_what_there_is_and_ends_with_0(cli: Cli, api: ScriptedApi) -> None:
    api.job_states = [job(status="RUNNING")]
    result = cli("logs", "dev", "1", "--no-follow")
    assert result.code == 0
    assert "hello" in result.out
    assert api.slept == []
    assert all("follow" not in call.query for call in api.calls)


def test_no_follow_ends_with_the_code_of_a_job_that_failed(cli: Cli, api: ScriptedApi) -> None:
    api.job_states = [job(status="FAILED", exit_code=9, exit_codes=[9])]
    assert cli("logs", "dev", "1", "--no-follow").code == 9


def test_worker_shows_one_node(cli: Cli, api: ScriptedApi) -> None:
    api.job_states = [job(num_nodes=2)]
    api.logs["dev", 1] = {0: [chunk((1, "zero\n"))], 1: [chunk((1, "one\n"))]}
    assert cli("logs", "dev", "1", "-w", "1").out == "(worker1, rank=1) one\n"


@pytest.mark.parametrize(("status", "code"), [("SUCCEEDED", 0), ("FAILED", 1), ("RUNNING", 1)])
def test_status_prints_the_status_alone(cli: Cli, api: ScriptedApi, status: str, code: int) -> None:
    api.job_states = [job(status=status)]
    result = cli("logs", "dev", "1", "--status")
    assert (result.code, result.out, result.err) == (code, f"{status}\n", "")


def test_sync_down_saves_raw_streams_in_the_given_folder(cli: Cli, tmp_path: Path) -> None:
    result = cli("logs", "dev", "1", "--sync-down", "saved")
    assert (result.code, result.out) == (0, "saved\n")
    assert (tmp_path / "saved/rank-0/stdout").read_bytes() == b"hello\n"
    assert (tmp_path / "saved/rank-0/stderr").read_bytes() == b"careful\n"


def test_sync_down_chooses_a_folder_when_none_is_given(cli: Cli, tmp_path: Path) -> None:
    assert cli("logs", "dev", "-s").out == "stix-logs/dev/1\n"
    assert (tmp_path / "stix-logs/dev/1/rank-0/stdout").exists()


def test_sync_down_explains_itself_when_it_took_the_cluster_for_a_folder(cli: Cli, api: ScriptedApi) -> None:
    result = cli("logs", "-s", "dev", "1")
    assert result.code == 2
    assert "stix logs dev 1 --sync-down" in result.err
    assert api.calls == []


def test_sync_down_names_the_folder_that_cannot_be_written(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = cli("logs", "dev", "1", "--sync-down", "file/below")
    assert result.code == 2
    assert "file/below" in result.err


def test_waiting_setup_and_run_are_announced_as_they_come(cli: Cli, api: ScriptedApi) -> None:
    api.logs["dev", 1] = {0: []}
    states = [
        ("PENDING", "2 of 2 CPUs are in use"),
        ("SETTING_UP", ""),
        ("RUNNING", ""),
        ("FAILED", "rank 1 failed"),
    ]
    api.job_states = [
        job(status=status, reason=why, num_nodes=2, exit_codes=[0, 3]) for status, why in states
    ]
    assert cli("logs", "dev", "1").err.splitlines() == [
        "Job 1 waits for its turn (2 of 2 CPUs are in use).",
        "Job 1 is being set up.",
        "Job 1 runs on 2 nodes.",
        "Job 1 FAILED: rank 1 failed (exit codes: rank 1: 3).",
    ]
