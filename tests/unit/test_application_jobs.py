"""Logs, secrets, downloads and uploads; cancelling jobs."""

from __future__ import annotations

import hashlib

import pytest

from stix.api.v1 import UploadRequest
from stix.application import want
from stix.application.cancel_jobs import cancel
from stix.application.logs import download_urls, log_page, node_secrets, parse_cursor, ship
from stix.application.records import child_records
from stix.application.uploads import upload_key, upload_target
from stix.model.errors import ForbiddenError, InvalidInputError, NotFoundError
from stix.model.job import JobLog
from stix.model.status import JobStatus
from tests.unit.world import ANN, WORKSPACE


@pytest.fixture
def cluster(plane):
    task = {"num_nodes": 2, "secrets": {"TOKEN": None}}
    return plane.bring_up(task=task, secrets={"TOKEN": "hush"})


def chunk(n, rank=0, size=10):
    return {"job": 1, "rank": rank, "n": n, "size": size}


def end(chunks, rank=0):
    return {"job": 1, "rank": rank, "chunks": chunks, "bytes": {"stdout": 1}, "sha256": {"stdout": "x"}}


def send(plane, cluster, **request):
    return ship(plane.world, plane.node_principal(cluster), request)


def page(plane, cluster, cursor="", **fields):
    return log_page(plane.world, cluster, plane.job(cluster), cursor=cursor, follow=False, **fields)


def shown(body):
    return {node["rank"]: [c["n"] for c in node["chunks"]] for node in body["nodes"]}


def finish_job(plane, cluster):
    entry = {"id": 1, "status": "SUCCEEDED", "started_at": 1.0, "ended_at": plane.clock.now()}
    plane.report(cluster, jobs=[entry])


def test_manifest_only_grows_when_chunks_are_told_again_or_late(plane, cluster):
    send(plane, cluster, uploaded=[chunk(0), chunk(1)])
    send(plane, cluster, uploaded=[chunk(2)])
    send(plane, cluster, uploaded=[chunk(0), chunk(1)])
    (log,) = child_records(plane.world, JobLog, WORKSPACE, f"{cluster.id}.1")
    assert (log.chunks, log.size, log.complete) == (3, 30, False)
    send(plane, cluster, finished=[end(3)])
    send(plane, cluster, uploaded=[chunk(2)])
    (log,) = child_records(plane.world, JobLog, WORKSPACE, f"{cluster.id}.1")
    assert (log.chunks, log.complete, log.sha256) == (3, True, {"stdout": "x"})


def test_upload_urls_are_given_for_the_nodes_own_cluster(plane, cluster):
    (url,) = send(plane, cluster, wanted=[chunk(0, size=99)])["urls"]
    assert url["method"] == "PUT"
    assert f"logs/{WORKSPACE}/{cluster.id}/1/0/00000000" in url["url"]
    for size in (0, -1, 3 * 1024 * 1024):
        with pytest.raises(InvalidInputError, match="size"):
            send(plane, cluster, wanted=[chunk(0, size=size)])


def test_pages_follow_the_cursor_when_chunks_come_meanwhile(plane, cluster):
    body, news = page(plane, cluster)
    assert (shown(body), body["cursor"], news) == ({0: [], 1: []}, "0:0,1:0", False)
    send(plane, cluster, uploaded=[chunk(0), chunk(0, rank=1)])
    body, news = page(plane, cluster, body["cursor"])
    assert (shown(body), body["cursor"], news) == ({0: [0], 1: [0]}, "0:1,1:1", True)
    send(plane, cluster, uploaded=[chunk(1, rank=1)])
    body, _ = page(plane, cluster, body["cursor"])
    assert shown(body) == {0: [], 1: [1]}


def test_page_is_full_when_there_are_many_chunks(plane, cluster):
    send(plane, cluster, uploaded=[chunk(39), chunk(39, rank=1)])
    seen, cursor = {0: [], 1: []}, ""
    for _ in range(3):
        body, _ = page(plane, cluster, cursor)
        assert sum(map(len, shown(body).values())) <= 32
        seen = {rank: seen[rank] + chunks for rank, chunks in shown(body).items()}
        cursor = body["cursor"]
    assert seen == {0: list(range(40)), 1: list(range(40))}


def test_one_rank_is_shown_when_it_is_asked_for(plane, cluster):
    send(plane, cluster, uploaded=[chunk(0), chunk(0, rank=1)])
    body, _ = page(plane, cluster, rank=1)
    assert shown(body) == {1: [0]}
    finish_job(plane, cluster)
    send(plane, cluster, finished=[end(1, rank=1)])
    body, _ = page(plane, cluster, body["cursor"], rank=1)
    assert body["done"]


def test_counts_only_are_shown_when_the_cursor_is_the_end(plane, cluster):
    send(plane, cluster, uploaded=[chunk(4)])
    body, _ = page(plane, cluster, "end")
    assert shown(body) == {0: [], 1: []}
    assert [node["count"] for node in body["nodes"]] == [5, 0]
    assert body["cursor"] == "0:5,1:0"


def test_log_is_done_only_when_every_rank_is_complete_and_listed(plane, cluster):
    send(plane, cluster, uploaded=[chunk(0)], finished=[end(1)])
    finish_job(plane, cluster)
    body, _ = page(plane, cluster)
    assert not body["done"]
    send(plane, cluster, uploaded=[chunk(39, rank=1)], finished=[end(40, rank=1)])
    body, _ = page(plane, cluster, body["cursor"])
    assert not body["done"]
    body, _ = page(plane, cluster, body["cursor"])
    assert body["done"]


def test_log_is_done_when_its_node_had_time_enough_or_is_gone(plane, cluster):
    finish_job(plane, cluster)
    assert not page(plane, cluster)[0]["done"]
    plane.pass_time(61)
    assert page(plane, cluster)[0]["done"]


def test_log_is_done_when_the_job_never_started(plane, cluster):
    want.take_down(plane.world, ANN, "train", purge=True, key=None)
    assert page(plane, plane.by_id(cluster))[0]["done"]


def test_following_is_renewed_at_half_time_when_somebody_reads_on(plane, cluster):
    def version():
        item = plane.store.get(follow_key(WORKSPACE, cluster.id))
        return 0 if item is None else item.version

    from stix.application.agents import follow_key

    for expected in (1, 1, 2):
        log_page(plane.world, cluster, plane.job(cluster), cursor="", follow=True)
        assert version() == expected
        plane.pass_time(20)


@pytest.mark.parametrize("cursor", ["x", "0", "0:1:2", "0:a"])
def test_cursor_is_refused_when_it_makes_no_sense(cursor):
    with pytest.raises(InvalidInputError, match="cursor"):
        parse_cursor(cursor)


# Secrets and files


def test_secrets_are_given_to_nodes_of_the_cluster_when_the_job_has_not_ended(plane, cluster):
    for rank in (0, 1):
        answer = node_secrets(plane.world, plane.node_principal(cluster, rank), 1)
        assert answer == {"secrets": {"TOKEN": "hush"}}


def test_secrets_are_not_found_when_asked_from_another_cluster_or_too_late(plane, cluster):
    other = plane.bring_up("other")
    with pytest.raises(NotFoundError):
        node_secrets(plane.world, plane.node_principal(other), 1)
    with pytest.raises(NotFoundError):
        node_secrets(plane.world, plane.node_principal(cluster), 2)
    finish_job(plane, cluster)
    with pytest.raises(NotFoundError):
        node_secrets(plane.world, plane.node_principal(cluster), 1)


@pytest.mark.parametrize("purge", [True, False])
def test_secrets_are_gone_when_the_cluster_is_taken_down(plane, cluster, purge):

    want.take_down(plane.world, ANN, "train", purge=purge, key=None)
    plane.run_terminate(cluster)
    assert plane.secrets.kept == {}


def test_secrets_are_nowhere_but_in_their_store(plane, cluster):
    rows = plane.store._database.connection().execute("SELECT * FROM items").fetchall()
    assert rows
    assert "hush" not in str(rows)
    assert all(b"hush" not in plane.objects.get(key) for key in plane.objects.keys(""))


def test_downloads_are_limited_to_uploads_of_the_nodes_workspace(plane, cluster):
    who = plane.node_principal(cluster)
    key = upload_key(WORKSPACE, "ab")
    assert download_urls(plane.world, who, [key])["urls"][0]["key"] == key
    for foreign in (upload_key("else", "ab"), f"logs/{WORKSPACE}/x", f"specs/{WORKSPACE}/x", "uploads/team"):
        with pytest.raises(ForbiddenError):
            download_urls(plane.world, who, [foreign])


def test_nothing_is_sent_twice_when_the_content_is_stored(plane):
    data = b"content"
    request = UploadRequest(sha256=hashlib.sha256(data).hexdigest(), size=len(data))
    target = upload_target(plane.world, WORKSPACE, request)
    assert target["url"]
    plane.objects.put(target["key"], data)
    assert upload_target(plane.world, WORKSPACE, request) == {"key": target["key"], "url": None}


# Cancelling


def test_job_ends_at_once_when_it_is_cancelled_before_its_cluster_is_up(plane):
    plane.launch()
    (job,) = cancel(plane.world, plane.cluster(), [1], every=False)
    assert (job.status, job.reason) == (JobStatus.CANCELLED, "cancelled before its cluster was up")


@pytest.mark.parametrize("status", ["PENDING", "RUNNING"])
def test_head_is_told_when_a_job_it_may_know_is_cancelled(plane, cluster, status):
    plane.report(cluster, jobs=[{"id": 1, "status": status}])
    plane.commands(cluster, after=1)
    (job,) = cancel(plane.world, cluster, [1, 1], every=False)
    assert (str(job.status), job.cancel_requested) == (status, True)
    assert plane.commands(cluster, after=1)["commands"] == [{"seq": 2, "type": "cancel", "job_id": 1}]


def test_all_unfinished_jobs_are_cancelled_when_all_are_asked_for(plane, cluster):
    finish_job(plane, cluster)
    for _ in range(65):
        plane.execute()
    jobs = cancel(plane.world, cluster, [], every=True)
    assert [job.id for job in jobs] == list(range(2, 67))
    assert all(job.cancel_requested for job in jobs)
    assert cancel(plane.world, cluster, [1], every=False) == []


def test_cancelling_is_refused_when_it_is_unclear_what_is_meant(plane, cluster):
    for job_ids, every in (([], False), ([1], True)):
        with pytest.raises(InvalidInputError):
            cancel(plane.world, cluster, job_ids, every=every)
    with pytest.raises(NotFoundError, match="no job 9"):
        cancel(plane.world, cluster, [9], every=False)
