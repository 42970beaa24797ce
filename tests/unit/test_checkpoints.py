"""Checkpoints: stored by content, restored on the next machine, and never changed by a run that is over."""

from __future__ import annotations

import hashlib
import os
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from stix.agent import checkpoints as agent_side
from stix.agent.checkpoints import Checkpoints, CheckpointThread, checkpoint_folder
from stix.agent.http_channel import RefusedError
from stix.application.checkpoints import exchange, forget
from stix.model.errors import ConflictError, InvalidInputError, NotFoundError
from tests.unit.managed_jobs import JobsPlane


@pytest.fixture
def plane(tmp_path):
    made = JobsPlane(tmp_path / "plane")
    yield made
    made.close()


class Channel:
    """Carries out signed URLs against the plane's own store; counts what is sent."""

    plane: JobsPlane
    sent: list[str]

    def put(self, url: str, data: bytes, headers: Any, timeout: float, method: str) -> None:
        path, _, query = url.removeprefix("http://api").partition("?")
        allowed = self.plane.objects.open_signed(method, path, query, self.plane.clock.now())
        assert len(data) == allowed.size
        assert hashlib.sha256(data).hexdigest() == allowed.sha256
        self.plane.objects.put(allowed.key, data)
        self.sent.append(allowed.key.rpartition("/")[2])

    def download(self, url: str, headers: Any, out: BytesIO, timeout: float) -> None:
        path, _, query = url.removeprefix("http://api").partition("?")
        allowed = self.plane.objects.open_signed("GET", path, query, self.plane.clock.now())
        out.write(self.plane.objects.get(allowed.key))

    def close(self) -> None:
        return None


class Membership:
    def __init__(self, plane: JobsPlane, cluster: Any) -> None:
        self._plane, self._who = plane, plane.node_principal(cluster)

    def call(self, channel: Any, name: str, body: dict[str, Any]) -> dict[str, Any]:
        assert name == "checkpoints"
        try:
            return exchange(self._plane.world, self._who, body)
        except ConflictError as exc:
            raise RefusedError(409, exc.code, exc.message) from exc


@pytest.fixture
def machine(plane, monkeypatch, tmp_path):
    """Makes the agent's side on a new machine for a cluster's run."""
    Channel.plane, Channel.sent = plane, []
    monkeypatch.setattr(agent_side, "HttpChannel", Channel)
    monkeypatch.setattr(agent_side, "CHUNK_BYTES", 1000)

    def make(cluster: Any, number: int) -> Checkpoints:
        folder = tmp_path / f"machine-{number}" / "ck"
        return Checkpoints(Membership(plane, cluster), str(folder), 1, 0, 5.0)

    return make


def written(folder: str, name: str, data: bytes, *, age: float = 60.0) -> None:
    path = Path(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    moment = time.time() - age
    os.utime(path, (moment, moment))


def recovered(plane: JobsPlane) -> Any:
    """The first machine is taken; the cluster of the next run."""
    cluster = plane.held()
    plane.report(cluster, notice={"kind": "preemption", "at": plane.clock.now() + 100})
    plane.settle()
    return plane.start_cluster()


def stored_keys(plane: JobsPlane) -> list[str]:
    return list(plane.objects.keys("checkpoints/"))


def test_checkpoint_is_there_on_the_next_machine(plane, machine):
    first = machine(plane.run_job(), 1)
    assert first.restore() == ""
    big = bytes(range(256)) * 20
    written(first.folder, "model/weights.bin", big)
    written(first.folder, "epoch", b"7")
    assert first.store(time.time() - 100, last=False)
    second = machine(recovered(plane), 2)
    assert second.restore().startswith("restored 2 files")
    assert Path(second.folder, "model/weights.bin").read_bytes() == big
    assert Path(second.folder, "epoch").read_text() == "7"


def test_only_what_changed_is_sent(plane, machine):
    first = machine(plane.run_job(), 1)
    first.restore()
    written(first.folder, "a", os.urandom(5000))
    written(first.folder, "b", b"one")
    first.store(time.time() - 100, last=False)
    Channel.sent.clear()
    assert not first.store(time.time() - 100, last=False)
    assert Channel.sent == []
    written(first.folder, "b", b"other")
    assert first.store(time.time() - 100, last=False)
    assert len(Channel.sent) == 2  # one chunk and the manifest
    # What only the checkpoint before named is gone: five chunks, one, and the manifest.
    assert len(stored_keys(plane)) == 5 + 1 + 1


def test_nothing_is_sent_again_after_a_restore(plane, machine):
    first = machine(plane.run_job(), 1)
    first.restore()
    written(first.folder, "a", os.urandom(3000))
    first.store(time.time() - 100, last=False)
    second = machine(recovered(plane), 2)
    second.restore()
    Channel.sent.clear()
    assert not second.store(time.time(), last=True)
    assert Channel.sent == []


def test_file_that_is_being_written_is_left_as_it_was(plane, machine):
    first = machine(plane.run_job(), 1)
    first.restore()
    written(first.folder, "state", b"whole")
    first.store(time.time() - 100, last=False)
    written(first.folder, "state", b"half of the nex", age=0.1)
    assert not first.store(time.time() - 100, last=False)
    second = machine(recovered(plane), 2)
    second.restore()
    assert Path(second.folder, "state").read_bytes() == b"whole"


def test_file_written_just_before_the_end_is_stored(plane, machine):
    first = machine(plane.run_job(), 1)
    first.restore()
    written(first.folder, "state", b"last words", age=0.0)
    assert first.store(time.time() - 100, last=True)


def test_run_that_is_over_changes_nothing_when_a_newer_one_has_begun(plane, machine):
    first = machine(plane.run_job(), 1)
    first.restore()
    written(first.folder, "state", b"of the first")
    first.store(time.time() - 100, last=False)
    second = machine(recovered(plane), 2)
    second.restore()
    written(first.folder, "state", b"too late")
    assert not first.store(time.time() - 100, last=True)
    third = machine(recovered(plane), 3)
    third.restore()
    assert Path(third.folder, "state").read_bytes() == b"of the first"


def test_work_is_counted_from_the_newest_file(plane, machine):
    from stix.application.job_offers import work_done

    cluster = plane.run_job({"deadline": "20h", "estimated_duration": "2h"})
    first = machine(cluster, 1)
    first.restore()
    begun = time.time() - 1000
    written(first.folder, "state", b"x", age=400)
    first.store(begun, last=False)
    done = work_done(plane.world, cluster.workspace, 1, plane.task())
    assert done == pytest.approx(600, abs=5)
    second = machine(recovered(plane), 2)
    second.restore()
    written(second.folder, "state", b"y", age=100)
    second.store(time.time() - 300, last=False)
    assert work_done(plane.world, cluster.workspace, 1, plane.task()) == pytest.approx(800, abs=10)


def test_checkpoints_go_with_the_job(plane, machine):
    cluster = plane.run_job()
    first = machine(cluster, 1)
    first.restore()
    written(first.folder, "state", os.urandom(9000))
    first.store(time.time() - 100, last=False)
    assert stored_keys(plane)
    plane.tell(cluster, "SUCCEEDED", exit_codes=[0])
    assert plane.managed().status == "SUCCEEDED"
    assert stored_keys(plane) == []


def test_very_many_objects_are_deleted_in_portions(plane, machine, monkeypatch):
    from stix.application import checkpoints

    monkeypatch.setattr(checkpoints, "_FORGOTTEN_AT_ONCE", 4)
    cluster = plane.run_job()
    first = machine(cluster, 1)
    first.restore()
    written(first.folder, "state", os.urandom(9000))
    first.store(time.time() - 100, last=False)
    assert not forget(plane.world, plane.managed())
    plane.tell(cluster, "SUCCEEDED", exit_codes=[0])
    for _ in range(4):
        plane.pass_time(61)
        plane.sweep()
    assert plane.managed().status == "SUCCEEDED"
    assert stored_keys(plane) == []


def test_damaged_chunk_is_noticed(plane, machine):
    from stix.agent.mounts import MountRetryError

    first = machine(plane.run_job(), 1)
    first.restore()
    written(first.folder, "state", b"good")
    first.store(time.time() - 100, last=False)
    [chunk] = [key for key in stored_keys(plane) if "/chunks/" in key]
    plane.objects.put(chunk, b"evil")
    with pytest.raises(MountRetryError, match="damaged"):
        machine(recovered(plane), 2).restore()


def test_store_answers_no_when_the_control_plane_is_away(plane, machine, monkeypatch):
    first = machine(plane.run_job(), 1)
    first.restore()
    written(first.folder, "state", b"x")

    def away(*_: Any, **__: Any) -> None:
        raise agent_side.UnreachableError("away")

    monkeypatch.setattr(Membership, "call", away)
    assert not first.store(time.time() - 100, last=False)


def test_thread_stores_again_and_again_and_at_the_end():
    told: list[bool] = []

    class Recorder:
        def store(self, started_at: float, *, last: bool) -> bool:
            told.append(last)
            return True

    thread = CheckpointThread(Recorder(), 0.0, 0.01)
    while len(told) < 3:
        time.sleep(0.01)
    thread.finish(store=True)
    assert told[-1] is True
    assert not any(told[:-1])


def test_folder_is_the_tasks_own():
    assert checkpoint_folder("/home/x/sky_workdir", {"job": 3, "task": 1}).endswith("/3-1")


@pytest.mark.parametrize(
    ("request_", "error", "words"),
    [
        ({"job": 9, "rank": 0}, NotFoundError, "no run of a managed job"),
        ({"job": 1, "rank": 5}, InvalidInputError, "rank"),
        ({"job": 1, "rank": 0, "put": [{"sha256": "a" * 64, "size": 1 << 40}]}, InvalidInputError, "size"),
        ({"job": 1, "rank": 0, "get": ["a" * 64] * 101}, InvalidInputError, "at most"),
        (
            {"job": 1, "rank": 0, "commit": {"sha256": "b" * 64, "size": 3}},
            InvalidInputError,
            "not in the store",
        ),
    ],
)
def test_exchange_is_refused_when_it_is_wrong(plane, request_, error, words):
    cluster = plane.run_job()
    with pytest.raises(error, match=words):
        exchange(plane.world, plane.node_principal(cluster), request_)


def test_plain_job_keeps_no_checkpoints(plane):
    cluster = plane.bring_up()
    with pytest.raises(NotFoundError):
        exchange(plane.world, plane.node_principal(cluster), {"job": 1, "rank": 0, "restore": True})
