"""The queue of managed jobs, filtered. What has not ended is read in pages of its own; of what has ended only
the jobs that a filter names, by entries that are written with their end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from heapq import merge
from typing import Any

from stix.application.job_entries import ENTRY
from stix.application.managed_job_views import job_body
from stix.application.records import cursor_of_request, load, managed_job_key
from stix.application.world import World
from stix.model.errors import InvalidInputError
from stix.model.managed_job import ManagedJob
from stix.model.status import ManagedJobStatus
from stix.ports.state_store import NOT_IN_PART, Page

__all__ = ["FILTERS", "JobFilter", "job_filter", "list_jobs"]

FILTERS = ("status", "user", "infra", "since")
"""Names in a request."""

_LONGEST = 300
"""Bytes of a user or a place, which are part of an entry's key."""
_MOST_QUERIES = 8
"""Of one request: a page is short where more would have to be read, and says where to go on."""


@dataclass(frozen=True, slots=True)
class JobFilter:
    """``statuses``: none for all. ``infra``: ``cloud[/region[/zone]]`` of any task's last place. ``since``:
    submitted then or later, epoch seconds. ``user``: who submitted it."""

    statuses: frozenset[ManagedJobStatus] = frozenset()
    user: str = ""
    infra: str = ""
    since: float | None = None

    def takes(self, job: ManagedJob) -> bool:
        fits = not self.statuses or job.status in self.statuses
        fits &= not self.user or job.user == self.user
        fits &= self.since is None or job.created_at >= self.since
        return fits and (not self.infra or any(_is_in(task.place, self.infra) for task in job.tasks))

    @property
    def entries(self) -> list[str]:
        """The entries of ended jobs that it names, of the field that leaves the fewest; none where all ended
        jobs have to be read."""
        if self.infra:
            return [f"infra={self.infra}"]
        if self.statuses:
            return sorted(f"status={one}" for one in self.statuses if one.terminal)
        return [f"user={self.user}"] if self.user else []


def job_filter(caller: str, *, status: str, user: str, infra: str, since: str) -> JobFilter:
    """From the texts of a request, empty ones for what is not asked. Raises ``InvalidInputError``."""
    given = [one.strip().upper() for one in status.split(",") if one.strip()]
    unknown = [one for one in given if one not in ManagedJobStatus.__members__]
    if unknown:
        known = ", ".join(ManagedJobStatus.__members__)
        raise InvalidInputError(f"status: {unknown[0]!r:.40} is not a status.", hint=f"Write one of {known}.")
    moment = None
    if since:
        try:
            moment = float(since)
        except ValueError:
            raise InvalidInputError(
                f"since: {since!r:.40} is not a moment.", hint="Write seconds since 1970."
            ) from None
    for field, value, kind in (("user", user, "user"), ("infra", infra, "place")):
        if NOT_IN_PART.search(value) or len(value.encode()) > _LONGEST:
            raise InvalidInputError(
                f"{field}: {value!r:.40} can be no {kind}.", hint="Write it as `stix jobs queue` shows it."
            )
    return JobFilter(
        statuses=frozenset(ManagedJobStatus(one) for one in given),
        user=caller if user == "me" else user,
        infra=infra.strip("/").lower(),
        since=moment,
    )


def _is_in(place: str, infra: str) -> bool:
    return place == infra or place.startswith(f"{infra}/")


def list_jobs(
    world: World, workspace: str, asked: JobFilter, *, skip_finished: bool, after: str | None, limit: int
) -> dict[str, Any]:
    """The body of ``ManagedJobList``: jobs that have not ended, then the others, each newest first.

    A page may be short though more follow: ``next`` says so. Raises ``InvalidInputError`` for a cursor that
    is none.
    """
    if asked == JobFilter():
        with cursor_of_request(after):
            live = True if skip_finished else None
            page = world.store.list(workspace, ManagedJob.kind, live=live, after=after, limit=limit)
        return _page([load(ManagedJob, item) for item in page.items], page.next)
    half, _, cursor = ("live|" if after is None else after).partition("|")
    if half not in ("live", "done"):
        raise InvalidInputError(
            f"after: {after!r:.80} is not a cursor of this list.", hint="Send back what the last page gave."
        )
    found: list[ManagedJob] = []
    queries = _MOST_QUERIES
    if half == "live":
        wanted = not asked.statuses or any(not one.terminal for one in asked.statuses)
        queries, cursor = _fill(
            _listed(world, workspace, live=True), asked, found, cursor, limit, queries, wanted
        )
        if cursor:
            return _page(found, f"live|{cursor}")
        if skip_finished or (asked.statuses and not any(one.terminal for one in asked.statuses)):
            return _page(found, None)
        if len(found) >= limit or queries == 0:
            return _page(found, "done|")
    read = _listed(world, workspace, live=False)
    if asked.entries:
        read = _entered(world, workspace, asked.entries)
    _, cursor = _fill(read, asked, found, cursor, limit, queries, True)
    return _page(found, f"done|{cursor}" if cursor else None)


def _page(jobs: Iterable[ManagedJob], after: str | None) -> dict[str, Any]:
    return {"jobs": [job_body(job) for job in jobs], "next": after}


_Read = Callable[[str, int], tuple[list[ManagedJob], str]]


def _fill(
    read: _Read,
    asked: JobFilter,
    found: list[ManagedJob],
    cursor: str,
    limit: int,
    queries: int,
    wanted: bool,
) -> tuple[int, str]:
    """Read on until there are ``limit`` jobs, or no more: queries that are left, and where to go on."""
    while wanted and queries > 0 and len(found) < limit:
        jobs, cursor = read(cursor, limit - len(found))
        queries -= 1
        found += [job for job in jobs if asked.takes(job)]
        past = asked.since is not None and bool(jobs) and jobs[-1].created_at < asked.since
        if not cursor or past:
            return queries, ""
    return queries, cursor


def _listed(world: World, workspace: str, *, live: bool) -> _Read:
    def read(cursor: str, count: int) -> tuple[list[ManagedJob], str]:
        with cursor_of_request(cursor):
            page = world.store.list(workspace, ManagedJob.kind, live=live, after=cursor or None, limit=count)
        return [load(ManagedJob, item) for item in page.items], page.next or ""

    return read


def _entered(world: World, workspace: str, entries: list[str]) -> _Read:
    def read(cursor: str, count: int) -> tuple[list[ManagedJob], str]:
        if cursor and not (cursor.isascii() and cursor.isdigit()):
            raise InvalidInputError(f"after: {cursor!r:.80} is not a cursor of this list.")
        pages: list[Page] = [
            world.store.children(workspace, ENTRY, name, after=cursor or None, limit=count, newest_first=True)
            for name in entries
        ]
        merged = merge(*([item.key.id for item in page.items] for page in pages), reverse=True)
        numbers = list(dict.fromkeys(merged))
        more = len(numbers) > count or any(page.next is not None for page in pages)
        numbers = numbers[:count]
        items = world.store.get_many([managed_job_key(workspace, int(number)) for number in numbers])
        jobs = [load(ManagedJob, item) for item in items if item is not None]
        return jobs, numbers[-1] if more and numbers else ""

    return read
