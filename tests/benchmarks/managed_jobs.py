"""Managed jobs where nothing carries them out: what accepting one costs, and a list beside 100,000 others.

An answer means that the job is on the disk. The 8 threads are those of the embedded control plane, each with
a client's request.
"""

from __future__ import annotations

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from stix.adapters.sqlite import SqliteStateStore
from stix.application.records import put
from stix.local.composition import WORKSPACE, compose
from stix.local.functions import Handler, import_handlers
from stix.local.home import Home
from stix.model.managed_job import JobTask, ManagedJob
from stix.model.status import ManagedJobStatus
from stix.ports.state_store import Put
from stix.runtime.bootstrap import install
from tests.contract.functions_client import send

from .figures import Record, median

FINISHED = 100_000
_SUBMITTED = 600
_CLIENTS = 8
_LISTS = 40
_AT_ONCE = 100


def measure(record: Record, *, finished: int = FINISHED) -> None:
    with tempfile.TemporaryDirectory(prefix="stix-bench-") as folder:
        home = Home(Path(folder))
        home.prepare()
        # Never started: what is accepted stays as it is.
        embedded = compose(home, import_handlers(), local_url=lambda: "http://127.0.0.1:1", environ={})
        install(embedded.world)
        try:
            handler = import_handlers(["api"])["api"]
            assert isinstance(embedded.world.store, SqliteStateStore)
            fill(embedded.world.store, finished)
            token = home.token()
            record.add("submit_rate", _submit(handler, token))
            record.add("queue_page", _lists(handler, token))
        finally:
            install(None)
            embedded.stop(5.0)


def fill(store: SqliteStateStore, count: int) -> None:
    """Jobs that have ended."""
    now = time.time()
    for start in range(0, count, _AT_ONCE):
        store.transact([_finished(number, now) for number in range(start + 1, start + _AT_ONCE + 1)])


def _finished(number: int, now: float) -> Put:
    task = JobTask(
        index=0,
        name="train",
        status=ManagedJobStatus.SUCCEEDED,
        since=now,
        request_key="requests/default/x.json",
        task_id=f"stix-managed-{number}",
        policy="EAGER_NEXT_REGION",
        place="aws/us-east-1/us-east-1a",
        lost_at={f"aws/us-east-1/us-east-1{zone}": now for zone in "abc"},
    )
    job = ManagedJob(
        workspace=WORKSPACE,
        # Far from those that the benchmark submits.
        id=1_000_000 + number,
        uid=f"mj-{number:016d}",
        name="train",
        status=ManagedJobStatus.SUCCEEDED,
        since=now,
        created_at=now - number,
        ended_at=now,
        tasks=(task,),
    )
    return put(job)


def _submit(handler: Handler, token: str) -> float:
    """Jobs a second."""

    def submit(number: int) -> None:
        task = {"name": "train", "run": f"python train.py {number}"}
        answer = send(handler, "POST", "/v1/jobs", {"tasks": [{"task": task}]}, token=token)
        if answer.status != 202:
            raise RuntimeError(f"a job was not accepted: {answer.body}")

    began = time.perf_counter()
    with ThreadPoolExecutor(_CLIENTS) as clients:
        list(clients.map(submit, range(_SUBMITTED)))
    return _SUBMITTED / (time.perf_counter() - began)


def _lists(handler: Handler, token: str) -> float:
    """Milliseconds of the first page, live jobs and finished ones, in the median."""
    seconds = []
    for _ in range(_LISTS):
        began = time.perf_counter()
        answer = send(handler, "GET", "/v1/jobs", token=token, query="limit=50")
        seconds.append(time.perf_counter() - began)
        if len(answer.body["jobs"]) != 50:
            raise RuntimeError("the page is not full")
    return median(seconds) * 1000
