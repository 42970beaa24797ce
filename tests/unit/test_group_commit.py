from __future__ import annotations

import threading
import time

import pytest

from stix.adapters.group_commit import GroupCommit
from stix.adapters.sqlite import SqliteStateStore
from stix.adapters.sqlite_database import SqliteDatabase
from stix.ports.state_store import Item, Key, Put, VersionConflictError

DEADLINE = 60


class Groups:
    """Records the groups; the first stays under way until ``go``."""

    def __init__(self, error: Exception | None = None) -> None:
        self.sizes: list[int] = []
        self.under_way, self.go = threading.Event(), threading.Event()
        self._error = error

    def do_all(self, works) -> None:
        self.sizes.append(len(works))
        if len(self.sizes) == 1:
            self.under_way.set()
            assert self.go.wait(DEADLINE)
        elif self._error:
            raise self._error
        for work in works:
            work.result = work.do("resource")


def _behind_one_another(group: GroupCommit, groups: Groups, count: int) -> dict[int, object]:
    """What each of ``count`` works ends with that all came while another was under way."""
    ends: dict[int, object] = {}

    def ask(number: int) -> None:
        try:
            ends[number] = group.do(lambda resource: (resource, number))
        except Exception as exc:
            ends[number] = exc

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(count)]
    threads[0].start()
    assert groups.under_way.wait(DEADLINE)
    for thread in threads[1:]:
        thread.start()
    until = time.monotonic() + DEADLINE
    while len(group._waiting) < count - 1 and time.monotonic() < until:
        threading.Event().wait(0.001)
    groups.go.set()
    for thread in threads:
        thread.join(DEADLINE)
    return ends


def test_works_are_done_together_when_they_come_while_another_is_under_way():
    groups = Groups()
    group: GroupCommit[str] = GroupCommit(groups.do_all)
    ends = _behind_one_another(group, groups, 6)
    assert groups.sizes == [1, 5]
    assert ends == {number: ("resource", number) for number in range(6)}
    assert group.do(lambda _: "afterwards") == "afterwards"
    assert groups.sizes == [1, 5, 1]


def test_all_works_of_a_group_fail_when_its_end_fails():
    lost = OSError("the disk is full")
    groups = Groups(error=lost)
    ends = _behind_one_another(GroupCommit(groups.do_all), groups, 4)
    assert ends[0] == ("resource", 0)
    assert [ends[number] for number in (1, 2, 3)] == [lost] * 3


def test_transaction_is_undone_alone_when_it_shares_a_commit(tmp_path, monkeypatch):
    """One of three conflicts: the two others are stored, and of its own two writes neither is."""
    database = SqliteDatabase(tmp_path / "state.db")
    store = SqliteStateStore(database)
    taken = store.put(Item(Key.top("w", "thing", "taken")))
    groups = Groups()
    do_all = database._commit_together

    def held(works) -> None:
        groups.sizes.append(len(works))
        if len(groups.sizes) == 1:
            groups.under_way.set()
            assert groups.go.wait(DEADLINE)
        do_all(works)

    group = GroupCommit(held)
    monkeypatch.setattr(database, "_group", group)
    ends: dict[str, object] = {}

    def write(name: str, *items: Item) -> None:
        try:
            ends[name] = store.transact([Put(item) for item in items])
        except VersionConflictError as exc:
            ends[name] = exc

    first, second, third = (Item(Key.top("w", "thing", name)) for name in ("first", "second", "third"))
    calls = [("first", first), ("conflict", second, taken.changed(version=7)), ("third", third)]
    threads = [threading.Thread(target=write, args=call) for call in calls]
    threads[0].start()
    assert groups.under_way.wait(DEADLINE)
    for thread in threads[1:]:
        thread.start()
    until = time.monotonic() + DEADLINE
    while len(group._waiting) < 2 and time.monotonic() < until:
        threading.Event().wait(0.001)
    groups.go.set()
    for thread in threads:
        thread.join(DEADLINE)

    assert groups.sizes == [1, 2]
    assert isinstance(ends["conflict"], VersionConflictError)
    assert ends["conflict"].keys == (taken.key,)
    found = store.get_many([item.key for item in (first, second, third)])
    assert [item is not None for item in found] == [True, False, True]
    store.close()


def test_write_is_refused_when_it_is_inside_another(tmp_path):
    database = SqliteDatabase(tmp_path / "state.db")
    with database.write(), pytest.raises(RuntimeError, match="nest"):
        database.write_together(lambda connection: connection.execute("SELECT 1"))
    database.close()
