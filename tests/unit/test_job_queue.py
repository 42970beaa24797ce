"""The queue of managed jobs with filters: what is found, in which order, and how little is read for it."""

from __future__ import annotations

from typing import Any

import pytest

from stix.application.job_entries import entry_writes
from stix.application.job_queue import JobFilter, job_filter, list_jobs
from stix.application.records import put
from stix.application.tokens import UserPrincipal, authenticate, create_user_token
from stix.model.errors import InvalidInputError
from stix.model.managed_job import JobTask, ManagedJob
from stix.model.status import ManagedJobStatus
from tests.unit.managed_jobs import JobsPlane
from tests.unit.world import WORKSPACE

S = ManagedJobStatus
PLACES = ("aws/us-east-1/us-east-1a", "aws/us-west-2/us-west-2b", "gcp/europe-west4/europe-west4-a")


@pytest.fixture
def plane(tmp_path):
    made = JobsPlane(tmp_path)
    yield made
    made.close()


def add(plane: JobsPlane, number: int, status: ManagedJobStatus, user: str = "ann", place: int = 0) -> None:
    at = float(number)  # Submitted one a second.
    task = JobTask(index=0, since=at, request_key="", task_id="", policy="FAILOVER", place=PLACES[place])
    job = ManagedJob(
        workspace=WORKSPACE,
        id=number,
        uid=str(number),
        name="x",
        user=user,
        status=status,
        since=at,
        created_at=at,
        due_at=None if status.terminal else at,
        tasks=(task,),
    )
    plane.store.transact([put(job), *(entry_writes(job) if status.terminal else [])])


@pytest.fixture
def filled(plane):
    """Of a hundred: every tenth goes on, every third of the others failed, bob's are every fourth."""
    for number in range(1, 101):
        status = S.RUNNING if number % 10 == 0 else S.FAILED if number % 3 == 0 else S.SUCCEEDED
        add(plane, number, status, "bob" if number % 4 == 0 else "ann", number % 3)
    return plane


def everything(plane: JobsPlane, asked: JobFilter, *, limit: int = 7, **fields: Any) -> list[int]:
    found, after = [], None
    while True:
        page = list_jobs(
            plane.world, WORKSPACE, asked, **({"skip_finished": False} | fields), after=after, limit=limit
        )
        assert len(page["jobs"]) <= limit
        found += [job["id"] for job in page["jobs"]]
        after = page["next"]
        if after is None:
            return found


def expected(takes: Any) -> list[int]:
    live = [one for one in range(100, 0, -1) if one % 10 == 0]
    ended = [one for one in range(100, 0, -1) if one % 10]
    return [one for one in (*live, *ended) if takes(one)]


@pytest.mark.parametrize("limit", [1, 7, 200])
@pytest.mark.parametrize(
    ("asked", "takes"),
    [
        ({}, lambda n: True),
        ({"user": "me"}, lambda n: n % 4),
        ({"user": "bob"}, lambda n: n % 4 == 0),
        ({"status": "FAILED"}, lambda n: n % 10 and n % 3 == 0),
        ({"status": "failed,succeeded"}, lambda n: n % 10),
        ({"status": "RUNNING"}, lambda n: n % 10 == 0),
        ({"status": "RUNNING,FAILED", "user": "bob"}, lambda n: n % 4 == 0 and (n % 10 == 0 or n % 3 == 0)),
        ({"infra": "aws"}, lambda n: n % 3 != 2),
        ({"infra": "aws/us-east-1"}, lambda n: n % 3 == 0),
        ({"infra": "GCP/europe-west4/europe-west4-a", "user": "me"}, lambda n: n % 3 == 2 and n % 4),
        ({"since": "61"}, lambda n: n >= 61),
        ({"since": "61", "user": "bob"}, lambda n: n >= 61 and n % 4 == 0),
    ],
)
def test_filter_finds_its_jobs_in_the_order_of_the_queue(filled, asked, takes, limit):
    given = {"status": "", "user": "", "infra": "", "since": ""} | asked
    assert everything(filled, job_filter("ann", **given), limit=limit) == expected(takes)


def test_ended_jobs_are_left_out_when_that_is_asked(filled):
    found = everything(filled, JobFilter(user="ann"), skip_finished=True)
    assert found == [one for one in range(100, 0, -10) if one % 4]


def test_few_of_many_ended_jobs_are_read_when_a_filter_names_few(plane, monkeypatch):
    for number in range(1, 301):
        add(plane, number, S.FAILED if number % 100 == 0 else S.SUCCEEDED)
    read: list[int] = []
    for name in ("list", "children", "get_many"):
        plain = getattr(plane.store, name)

        def counted(*given: Any, _plain: Any = plain, **fields: Any) -> Any:
            answer = _plain(*given, **fields)
            read.append(len(getattr(answer, "items", answer)))
            return answer

        monkeypatch.setattr(plane.store, name, counted)
    page = list_jobs(
        plane.world, WORKSPACE, JobFilter(frozenset({S.FAILED})), skip_finished=False, after=None, limit=50
    )
    assert [job["id"] for job in page["jobs"]] == [300, 200, 100]
    assert page["next"] is None
    assert sum(read) <= 6


def test_job_is_found_by_all_it_was_when_it_has_ended(plane):
    cluster = plane.run_job()
    plane.tell(cluster, "SUCCEEDED", exit_codes=[0])
    for asked in (JobFilter(user="ann"), JobFilter(frozenset({S.SUCCEEDED})), JobFilter(infra="fake/north")):
        assert everything(plane, asked) == [1]
    assert everything(plane, JobFilter(user="bob")) == []
    assert everything(plane, JobFilter(infra="fake/south")) == []


def test_jobs_are_found_by_a_user_whose_name_no_key_can_hold(plane):
    create_user_token(plane.world, token="t", workspace=WORKSPACE, user="dömain\n#ann" + "é" * 100)
    who = authenticate(plane.world, "t")
    assert isinstance(who, UserPrincipal)
    assert who.user == "dömain__ann" + "é" * 53
    job_filter(who.user, status="", user="me", infra="", since="")
    assert everything(plane, JobFilter(user=who.user)) == []


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"status": "DONE"}, "status: 'DONE'"),
        ({"since": "yesterday"}, "since: 'yesterday'"),
        ({"user": "a#b"}, "user: 'a#b' can be no user"),
        ({"user": "é" * 151}, "can be no user"),
        ({"infra": "aws/us-east-1/\x04"}, r"infra: 'aws/us-east-1/\\x04' can be no place"),
    ],
)
def test_filter_is_refused_when_it_is_none(asked, words):
    with pytest.raises(InvalidInputError, match=words):
        job_filter("ann", **({"status": "", "user": "", "infra": "", "since": ""} | asked))


@pytest.mark.parametrize("asked", [{"user": "é" * 150}, {"infra": "kubernetes/arn:aws:eks:x:1:cluster/ö @"}])
def test_filter_that_nothing_meets_finds_nothing(filled, asked):
    given = {"status": "", "user": "", "infra": "", "since": ""} | asked
    assert everything(filled, job_filter("ann", **given)) == []


@pytest.mark.parametrize("after", ["nonsense", "live|%%%", "done|%%%", "list|"])
def test_cursor_is_refused_when_it_is_none(filled, after):
    with pytest.raises(InvalidInputError, match="after"):
        list_jobs(filled.world, WORKSPACE, JobFilter(user="ann"), skip_finished=False, after=after, limit=5)
