from __future__ import annotations

import json
import logging
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from stix.adapters.file_secrets import FileSecrets
from stix.adapters.system import LoggingEventBus, SystemClock, SystemIds
from stix.local.authorization import Authorization
from stix.local.http_events import HttpRequest
from stix.local.transfers import byte_range
from stix.model.errors import UnauthorizedError, UnavailableError
from stix.ports.surroundings import Event


def test_secrets_come_back_when_read_by_another_process(tmp_path: Path) -> None:
    values = {"TOKEN": "tüi\n", "EMPTY": ""}
    FileSecrets(tmp_path / "secrets").put("default/job/../../1", values)
    other = FileSecrets(tmp_path / "secrets")
    assert other.get("default/job/../../1") == values
    files = list((tmp_path / "secrets").iterdir())
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600]
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    other.delete("default/job/../../1")
    other.delete("default/job/../../1")
    with pytest.raises(KeyError):
        other.get("default/job/../../1")


@pytest.mark.parametrize("reference", ["..", ".", "a/b", "x" * 5000, "ä"])
def test_secrets_stay_apart_and_inside_when_references_are_odd(tmp_path: Path, reference: str) -> None:
    secrets = FileSecrets(tmp_path / "secrets")
    secrets.put(reference, {"A": "1"})
    secrets.put(reference + "b", {"A": "2"})
    assert secrets.get(reference) == {"A": "1"}
    assert [path.name for path in tmp_path.iterdir()] == ["secrets"]


def test_secrets_say_why_when_the_folder_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "secrets").write_text("")
    with pytest.raises(UnavailableError, match="cannot be used"):
        FileSecrets(tmp_path / "secrets").put("a", {})


def test_ids_are_unique_and_sorted_when_made_by_many_threads() -> None:
    ids = SystemIds()
    made: list[list[str]] = [[] for _ in range(4)]

    def make(mine: list[str]) -> None:
        mine.extend(ids.new("c") for _ in range(2000))

    threads = [threading.Thread(target=make, args=(mine,)) for mine in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(mine == sorted(mine) for mine in made)
    everything = [each for mine in made for each in mine]
    assert len(set(everything)) == 8000
    assert all(len(each) == 18 and each == each.lower() for each in everything)


def test_secret_and_time_are_the_systems_when_asked() -> None:
    assert len({SystemIds().secret() for _ in range(10)}) == 10
    assert SystemClock().now() > 1_700_000_000


def test_event_is_one_json_line_when_published(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        LoggingEventBus().publish(Event("ClusterLaunched", "default", "c-1", 1.5, {"a": 1}))
    assert json.loads(caplog.messages[0]) == {
        "event": "ClusterLaunched",
        "workspace": "default",
        "subject": "c-1",
        "at": 1.5,
        "detail": {"a": 1},
    }


@pytest.mark.parametrize(
    ("header", "size", "wanted"),
    [
        ("", 10, (0, 9)),
        ("bytes=2-4", 10, (2, 4)),
        ("bytes=2-", 10, (2, 9)),
        ("bytes=-3", 10, (7, 9)),
        ("bytes=-30", 10, (0, 9)),
        ("bytes=2-400", 10, (2, 9)),
        ("bytes=10-", 10, None),
        ("bytes=-0", 10, None),
        ("bytes=5-2", 10, (0, 9)),
        ("bytes=0-1,3-4", 10, (0, 9)),
        ("lines=1-2", 10, (0, 9)),
        ("", 0, (0, -1)),
        ("bytes=0-", 0, None),
    ],
)
def test_range_is_understood_when_asked_for(header: str, size: int, wanted: tuple[int, int] | None) -> None:
    assert byte_range(header, size) == wanted


class Gatekeeper:
    """An authorizer that lets tokens in, and how often it was asked."""

    def __init__(self) -> None:
        self.known = {"Bearer a", "Bearer b", "Bearer c"}
        self.asked = 0
        self.time = 0.0

    def invoke(self, function: str, event: dict[str, Any]) -> Any:
        assert function == "authorize"
        self.asked += 1
        token = event["identitySource"][0]
        return {"isAuthorized": token in self.known, "context": {"token": token}}


def ask(authorization: Authorization, token: str) -> Any:
    headers = (("authorization", token),) if token else ()
    return authorization.context(HttpRequest("GET", "/v1/x", "", headers, ""), "$default")


def test_authorizer_is_asked_again_when_its_answer_is_old() -> None:
    keeper = Gatekeeper()
    authorization = Authorization(keeper.invoke, seconds=30, now=lambda: keeper.time)
    assert ask(authorization, "Bearer a") == {"token": "Bearer a"}
    keeper.known.clear()
    keeper.time = 29.9
    assert ask(authorization, "Bearer a") == {"token": "Bearer a"}
    assert keeper.asked == 1
    keeper.time = 30.0
    with pytest.raises(UnauthorizedError):
        ask(authorization, "Bearer a")


def test_refusal_is_not_remembered_when_the_token_becomes_known() -> None:
    keeper = Gatekeeper()
    authorization = Authorization(keeper.invoke)
    with pytest.raises(UnauthorizedError):
        ask(authorization, "Bearer new")
    keeper.known.add("Bearer new")
    assert ask(authorization, "Bearer new") == {"token": "Bearer new"}


def test_authorizer_is_not_asked_when_there_is_no_token() -> None:
    keeper = Gatekeeper()
    with pytest.raises(UnauthorizedError, match="Bearer"):
        ask(Authorization(keeper.invoke), "")
    assert keeper.asked == 0


def test_remembered_tokens_are_bounded_when_many_come() -> None:
    keeper = Gatekeeper()
    authorization = Authorization(keeper.invoke, tokens=2)
    for token in ("Bearer a", "Bearer b", "Bearer c", "Bearer a"):
        ask(authorization, token)
    assert keeper.asked == 4
    assert len(authorization._known) == 2


def test_expired_tokens_are_forgotten_when_another_comes() -> None:
    keeper = Gatekeeper()
    authorization = Authorization(keeper.invoke, seconds=30, now=lambda: keeper.time)
    ask(authorization, "Bearer a")
    keeper.time = 20.0
    ask(authorization, "Bearer b")
    keeper.time = 30.0
    ask(authorization, "Bearer c")
    assert set(authorization._known) == {"Bearer b", "Bearer c"}
