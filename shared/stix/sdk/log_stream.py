"""Reading a job's log from the object store: in order, with bounded memory, to its end."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal, Protocol

from stix.sdk.errors import LinkExpiredError
from stix.sdk.follow import rest
from stix.sdk.logs import NOTE, Frame, LogFormatError, decode_chunk
from stix.sdk.responses import Job, LogChunk, LogPage, NodeLog

if TYPE_CHECKING:
    from stix.sdk.client import Client

__all__ = ["LogReader", "LogSink", "cursor_at"]

_THREADS = 4
# Chunks of one rank that are fetched ahead of the reader: at most a page's 32 chunks of 1 MiB are in memory.
_AHEAD = 4
JobId = int | Literal["latest"]


class LogSink(Protocol):
    """Where frames go."""

    def write(self, rank: int, frame: Frame) -> None: ...

    def flush(self) -> None:
        """Called when everything that exists now has been written."""
        ...


def cursor_at(positions: dict[int, int]) -> str:
    """The cursor that begins at chunk ``positions[rank]`` of each rank."""
    return ",".join(f"{rank}:{n}" for rank, n in sorted(positions.items()))


class LogReader:
    """Reads one job's log. ``rank`` narrows it to one node. A context manager: it holds a few threads."""

    def __init__(self, client: Client, cluster: str, job_id: JobId, *, rank: int | None = None):
        self.client = client
        self.cluster = cluster
        self.job_id: JobId = job_id
        self.rank = rank
        self._threads = ThreadPoolExecutor(_THREADS, "stix-log")

    def __enter__(self) -> LogReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def page(
        self, cursor: str, *, follow: bool = False, hold: bool = False, rank: int | None = None
    ) -> LogPage:
        """One page; "latest" is settled by the first, so that a newer job does not take over."""
        page = self.client.log_page(
            self.cluster,
            self.job_id,
            cursor=cursor,
            follow=follow,
            hold=hold,
            rank=self.rank if rank is None else rank,
        )
        self.job_id = page["job"]["id"]
        return page

    def copy(
        self,
        sink: LogSink,
        *,
        follow: bool,
        cursor: str = "",
        on_job: Callable[[Job], None] = lambda job: None,
    ) -> Job:
        """Write everything from ``cursor`` on, up to the job's end with ``follow``, else what exists now. The
        job as last seen; ``on_job`` gets it with every page, before that page's frames."""
        last: Job | None = None
        while True:
            asked_at = self.client.pace.monotonic()
            # The first page shows what there is; from then on the server may hold the request.
            page = self.page(cursor, follow=follow, hold=follow and last is not None)
            job = page["job"]
            on_job(job)
            for rank, frame in self.frames(page):
                sink.write(rank, frame)
            sink.flush()
            news = any(node["chunks"] for node in page["nodes"])
            if page["done"] or not (news or follow):
                return job
            if not news and last is not None and last["status"] == job["status"]:
                rest(self.client, asked_at)
            cursor, last = page["cursor"], job

    def frames(self, page: LogPage) -> Iterator[tuple[int, Frame]]:
        """The page's frames; each rank's in order, the ranks merged by time."""
        ranks = [self._rank_frames(node) for node in page["nodes"] if node["chunks"]]
        if len(ranks) == 1:
            return ranks[0]
        return heapq.merge(*ranks, key=lambda item: item[1].time_ms)

    def _rank_frames(self, node: NodeLog) -> Iterator[tuple[int, Frame]]:
        rank = node["rank"]
        waiting = deque(node["chunks"])
        fetching: deque[tuple[int, Future[bytes | None]]] = deque()
        while waiting or fetching:
            while waiting and len(fetching) < _AHEAD:
                chunk = waiting.popleft()
                fetching.append((chunk["n"], self._threads.submit(self._fetch, rank, chunk)))
            n, future = fetching.popleft()
            data = future.result()
            try:
                if data is None:
                    raise LogFormatError("it is no longer in the object store")
                for frame in decode_chunk(data):
                    yield rank, frame
            except LogFormatError as exc:
                # One bad chunk must not hide the rest of the log.
                yield rank, Frame(NOTE, 0, f"log chunk {n} of rank {rank} cannot be shown: {exc}\n".encode())

    def _fetch(self, rank: int, chunk: LogChunk) -> bytes | None:
        for _ in range(3):
            try:
                return self.client.objects.get(chunk["url"], chunk["headers"])
            except LinkExpiredError:
                fresh = self._chunk(rank, chunk["n"])
                if fresh is None:
                    return None
                chunk = fresh
        return self.client.objects.get(chunk["url"], chunk["headers"])

    def _chunk(self, rank: int, n: int) -> LogChunk | None:
        page = self.page(cursor_at({rank: n}), rank=rank)
        chunks = (chunk for node in page["nodes"] if node["rank"] == rank for chunk in node["chunks"])
        return next((chunk for chunk in chunks if chunk["n"] == n), None)
