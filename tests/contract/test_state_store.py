"""What every state store promises, over SQLite and DynamoDB, also while the indexes lag behind."""

from __future__ import annotations

import threading

import pytest

from stix.adapters.item_codec import BODY_BYTES
from stix.ports.state_store import (
    SHARDS,
    Check,
    Delete,
    Item,
    Key,
    Put,
    UnscheduledItemError,
    VersionConflictError,
)
from tests.contract.state_store_model import LaggingIndexes

CLUSTER = Key.top("team", "cluster", "train")


def node(id: str, **attributes) -> Item:
    return Item(Key("team", "node", "train", id), **attributes)


def test_get_is_none_when_absent(store):
    assert store.get(CLUSTER) is None


def test_item_comes_back_exactly_when_read(store):
    body = {
        "float": 0.1 + 0.2,
        "tiny": 5e-324,
        "huge": 1.7976931348623157e308,
        "int": 2**70,
        "empty": "",
        "text": "naïve \U0001f600 \u0000 end",
        "nested": {"list": [1, 1.0, True, None, [], {}], "": 0},
    }
    item = Item(
        CLUSTER,
        body,
        status="UP",
        live=True,
        due_at=1_800_000_123.456789,
        listed=True,
        created_at=1_799_999_999.000001,
        expires_at=1_900_000_000.0,
        schema_version=3,
    )
    written = store.put(item)
    assert written == item.changed(version=1)
    read = store.get(CLUSTER)
    assert read == written
    assert repr(read.body) == repr(body)


def test_moment_too_small_for_a_number_is_zero_when_stored(store):
    written = store.put(Item(CLUSTER, live=True, due_at=5e-324, created_at=1e-200))
    assert (written.due_at, written.created_at) == (0.0, 0.0)
    assert store.get(CLUSTER) == written


def test_smallest_item_comes_back_exactly_when_read(store):
    written = store.put(Item(CLUSTER))
    assert written == Item(CLUSTER, version=1)
    assert store.get(CLUSTER) == written


def test_optional_attributes_are_gone_when_overwritten_without_them(store, settle):
    full = Item(CLUSTER, live=True, due_at=5.0, listed=True, expires_at=1_900_000_000.0)
    for unconditional in (False, True):
        stored = store.put(full.changed(version=(store.get(CLUSTER) or full).version))
        store.put(Item(CLUSTER, version=stored.version), unconditional=unconditional)
        assert store.get(CLUSTER) == Item(CLUSTER, version=stored.version + 1)
        settle()
        assert store.list("team", "cluster").items == ()
        assert store.due("cluster", CLUSTER.shard, 10.0) == []


def test_put_is_refused_when_the_item_exists(store):
    store.put(Item(CLUSTER, {"by": "first"}))
    with pytest.raises(VersionConflictError) as refusal:
        store.put(Item(CLUSTER, {"by": "second"}))
    assert refusal.value.keys == (CLUSTER,)
    assert store.get(CLUSTER).body == {"by": "first"}


def test_put_is_refused_when_somebody_moved_the_item(store):
    read = store.put(Item(CLUSTER, {"n": 0}))
    moved = store.put(read.changed(body={"n": 1}))
    assert moved.version > read.version
    with pytest.raises(VersionConflictError):
        store.put(read.changed(body={"n": 2}))
    assert store.get(CLUSTER) == moved


def test_put_is_refused_when_the_item_was_deleted(store):
    read = store.put(Item(CLUSTER))
    store.delete(CLUSTER)
    with pytest.raises(VersionConflictError):
        store.put(read)
    assert store.get(CLUSTER) is None


def test_unconditional_put_invalidates_what_others_read(store):
    read = store.put(Item(CLUSTER, {"n": 0}))
    ahead = store.put(store.put(read))
    beaten = store.put(read.changed(body={"n": "heartbeat"}), unconditional=True)
    assert beaten.version > ahead.version
    assert store.get(CLUSTER) == beaten
    with pytest.raises(VersionConflictError):
        store.put(ahead)
    fresh = store.put(node("0", version=7), unconditional=True)
    assert store.get(fresh.key) == fresh == node("0", version=1)


def test_live_item_is_refused_when_nobody_is_due_to_look():
    with pytest.raises(UnscheduledItemError, match="PENDING"):
        Item(CLUSTER, status="PENDING", live=True)


def test_delete_depends_on_the_version_when_given(store):
    read = store.put(Item(CLUSTER))
    store.put(read)
    with pytest.raises(VersionConflictError):
        store.delete(CLUSTER, version=read.version)
    store.delete(CLUSTER, version=read.version + 1)
    assert store.get(CLUSTER) is None
    with pytest.raises(VersionConflictError):
        store.delete(CLUSTER, version=read.version)
    store.delete(CLUSTER)


def test_get_many_keeps_the_order_when_some_are_absent(store):
    items = [store.put(node(str(n), body={"n": n})) for n in range(3)]
    absent = Key.top("team", "cluster", "other")
    keys = [items[2].key, absent, items[0].key, items[2].key]
    assert store.get_many(keys) == [items[2], None, items[0], items[2]]
    assert store.get_many([]) == []
    assert store.get_many([node(str(n)).key for n in range(100)])[:4] == [*items, None]
    with pytest.raises(ValueError, match="101 keys"):
        store.get_many([node(str(n)).key for n in range(101)])


def test_transaction_writes_all_when_every_condition_holds(store):
    old, gone = store.put(node("old")), store.put(node("gone"))
    guard = store.put(Item(CLUSTER))
    written = store.transact(
        [
            Put(node("new", body={"n": 1})),
            Check(guard.key, guard.version),
            Put(old.changed(body={"n": 2})),
            Delete(gone.key, gone.version),
            Check(node("absent").key, 0),
            Delete(node("never").key),
        ]
    )
    assert written == [node("new", body={"n": 1}, version=1), old.changed(body={"n": 2}, version=2)]
    assert store.get_many([node("new").key, old.key, gone.key]) == [*written, None]
    assert store.get(guard.key) == guard
    assert store.transact([]) == []


def test_transaction_writes_nothing_and_names_all_failures_when_conditions_fail(store):
    moved, present = store.put(store.put(node("moved"))), store.put(node("present"))
    with pytest.raises(VersionConflictError) as refusal:
        store.transact(
            [
                Put(node("new")),
                Put(moved.changed(version=1)),
                Delete(present.key, 5),
                Check(CLUSTER, 1),
            ]
        )
    assert refusal.value.keys == (moved.key, present.key, CLUSTER)
    assert store.get_many([node("new").key, moved.key, present.key]) == [None, moved, present]


def test_unconditional_put_in_a_transaction_counts_on_from_what_is_stored(store):
    stored = store.put(store.put(node("0")))
    written = store.transact([Put(node("0", body={"n": 1}), unconditional=True), Put(node("1"))])
    assert [item.version for item in written] == [stored.version + 1, 1]
    assert store.get(stored.key) == written[0]
    with pytest.raises(VersionConflictError) as refusal:
        store.transact([Put(node("0"), unconditional=True), Put(node("1"))])
    assert refusal.value.keys == (node("1").key,)
    assert store.get(stored.key) == written[0]


def test_transaction_takes_a_hundred_writes_on_distinct_keys(store):
    store.transact([Put(node(f"{n:03d}")) for n in range(100)])
    assert len(store.children("team", "node", "train").items) == 100
    with pytest.raises(ValueError, match="101"):
        store.transact([Put(node(f"{n:03d}", version=1)) for n in range(101)])
    with pytest.raises(ValueError, match="once"):
        store.transact([Put(node("new")), Check(node("new").key, 0)])
    with pytest.raises(ValueError, match="bodies of the transaction"):
        store.transact([Put(node(f"big{n}", body={"x": "x" * 340_000})) for n in range(11)])
    assert store.get(node("new").key) is None


def test_body_is_refused_when_it_is_a_document(store):
    fits = "é" * ((BODY_BYTES - len('{"x":""}')) // 2)
    assert store.get(store.put(Item(CLUSTER, {"x": fits})).key).body == {"x": fits}
    with pytest.raises(ValueError, match="object store"):
        store.put(Item(CLUSTER, {"x": fits + "12"}), unconditional=True)


@pytest.mark.parametrize("value", [float("nan"), {1: "a"}, b"bytes", {"a": [{2: 3}]}, "\ud800", {1, 2}])
def test_body_is_refused_when_json_cannot_carry_it(store, value):
    with pytest.raises(ValueError, match="team/cluster/train: the body is not JSON"):
        store.put(Item(CLUSTER, {"value": value}))
    assert store.get(CLUSTER) is None


@pytest.mark.parametrize("name", ["workspace", "kind", "parent", "id"])
@pytest.mark.parametrize("part", ["", "a#b", "a\nb", "x" * 331])
def test_key_is_refused_when_a_part_cannot_be_stored(store, name, part):
    key = Key(**{"workspace": "w", "kind": "k", "parent": "p", "id": "i", name: part})
    for operation in (store.get, store.delete, lambda key: store.put(Item(key))):
        with pytest.raises(ValueError, match=name):
            operation(key)


def test_longest_key_is_stored_and_listed(store, settle):
    parts = ["é" * 165] * 4
    item = store.put(Item(Key(*parts), listed=True, live=True, due_at=1.0))
    settle()
    assert store.get(item.key) == item
    assert store.list(parts[0], parts[1]).items == (item,)
    assert [entry.key for entry in store.due(parts[1], item.key.shard, 2.0)] == [item.key]


@pytest.mark.parametrize("time", [-1.0, float("inf"), float("nan"), 1e12])
@pytest.mark.parametrize("name", ["due_at", "created_at", "expires_at"])
def test_item_is_refused_when_a_time_is_impossible(store, name, time):
    with pytest.raises(ValueError, match=name):
        store.put(Item(CLUSTER, **{name: time}))


def test_expired_item_is_absent_when_its_time_has_come(store, clock, settle):
    item = store.put(node("0", live=True, due_at=1.0, listed=True, expires_at=clock.now + 9.5))
    assert item.expires_at == clock.now + 9.75, "whole seconds, up"
    settle()
    clock.now = item.expires_at - 0.01
    assert store.get(item.key) == item
    assert store.list("team", "node").items == (item,)
    clock.now = item.expires_at
    assert store.get(item.key) is None
    assert store.get_many([item.key]) == [None]
    assert store.children("team", "node", "train").items == ()
    assert store.list("team", "node").items == ()
    with pytest.raises(VersionConflictError):
        store.put(item)
    with pytest.raises(VersionConflictError):
        store.delete(item.key, version=item.version)
    with pytest.raises(VersionConflictError):
        store.transact([Check(item.key, item.version)])
    again = store.put(node("0", body={"n": 2}))
    assert store.get(item.key) == again
    assert store.transact([Check(again.key, again.version)]) == []


def test_children_are_paged_by_id_when_there_are_many(store):
    items = [store.put(node(f"{n:02d}")) for n in (3, 1, 4, 0, 2)]
    store.put(Item(Key("team", "node", "other", "00")))
    store.put(Item(Key("team", "job", "train", "00")))
    store.put(Item(Key("teams", "node", "train", "00")))
    items.sort(key=lambda item: item.key)
    first = store.children("team", "node", "train", limit=2)
    second = store.children("team", "node", "train", limit=2, after=first.next)
    third = store.children("team", "node", "train", limit=2, after=second.next)
    assert [*first.items, *second.items, *third.items] == items
    assert (first.next, second.next, third.next) == ("01", "03", None)
    assert store.children("team", "node", "train", limit=5).next is None
    newest = store.children("team", "node", "train", limit=3, newest_first=True)
    assert newest.items == tuple(reversed(items[2:]))
    assert store.children("team", "node", "train", after=newest.next, newest_first=True).items == (
        items[1],
        items[0],
    )


def test_children_come_page_by_page_when_an_answer_is_too_long(store):
    items = [store.put(node(f"{n:02d}", body={"x": "x" * 300_000})) for n in range(9)]
    assert store.children("team", "node", "train").items == tuple(items)
    page = store.children("team", "node", "train", limit=8)
    assert page.items == tuple(items[:8])
    assert page.next == "07"


def test_children_are_all_found_when_most_have_expired(store, clock):
    for n in range(30):
        store.put(node(f"{n:02d}", expires_at=clock.now + 5))
    last = [store.put(node(f"{n:02d}")) for n in range(30, 33)]
    clock.now += 10
    found, after = [], None
    for _ in range(40):
        page = store.children("team", "node", "train", after=after, limit=2)
        found += page.items
        after = page.next
        if after is None:
            break
    assert found == last


def test_list_shows_live_then_done_newest_first(store, settle):
    def listed(id: str, live: bool, created_at: float) -> Item:
        return store.put(
            Item(
                Key.top("team", "cluster", id),
                live=live,
                due_at=9.0 if live else None,
                listed=True,
                created_at=created_at,
            )
        )

    done_old, live_old = listed("a", False, 1.0), listed("b", True, 2.0)
    live_new, done_new = listed("c", True, 1_800_000_000.0), listed("d", False, 1_799_999_999.999999)
    live_tie = listed("e", True, 2.0)
    store.put(Item(Key.top("team", "cluster", "hidden")))
    store.put(Item(Key.top("other", "cluster", "x"), listed=True))
    settle()
    expected = [live_new, live_old, live_tie, done_new, done_old]
    for limit in (1, 2, 3, 5, 100):
        assert list_all(store, limit=limit) == expected
        assert list_all(store, limit=limit, live=True) == expected[:3]
        assert list_all(store, limit=limit, live=False) == expected[3:]


def test_list_tells_apart_children_when_ids_and_times_are_equal(store, settle):
    items = [store.put(Item(Key("team", "job", parent, "1"), listed=True)) for parent in ("a", "ab", "b")]
    settle()
    assert list_all(store, kind="job", limit=1) == items


def list_all(store, *, kind="cluster", limit, live=None) -> list[Item]:
    found, after = [], None
    for _ in range(20):
        page = store.list("team", kind, live=live, limit=limit, after=after)
        assert len(page.items) <= limit
        found += page.items
        after = page.next
        if after is None:
            return found
    raise AssertionError("the list does not end")


def test_due_gives_live_items_earliest_first_over_all_workspaces(store, settle):
    keys = [Key.top(f"team{n}", "cluster", f"c{n}") for n in range(40)]
    shard = keys[0].shard
    chosen = [key for key in keys if key.shard == shard][:3]
    assert len(chosen) == 3
    for due_at, key in zip((30.5, 10.25, 20.0), chosen, strict=True):
        store.put(Item(key, live=True, due_at=due_at))
    done = Key.top("team", "cluster", next(f"d{n}" for n in range(99) if _shard(f"d{n}") == shard))
    store.put(Item(done, due_at=1.0))
    settle()
    entries = store.due("cluster", shard, 30.5)
    assert [(entry.key, entry.due_at) for entry in entries] == [
        (chosen[1], 10.25),
        (chosen[2], 20.0),
        (chosen[0], 30.5),
    ]
    assert [entry.due_at for entry in store.due("cluster", shard, 30.4)] == [10.25, 20.0]
    assert [entry.due_at for entry in store.due("cluster", shard, 99.0, limit=1)] == [10.25]
    assert store.due("job", shard, 99.0) == []
    assert store.due("cluster", (shard + 1) % SHARDS, 99.0) == []
    store.put(store.get(chosen[1]).changed(live=False))
    settle()
    assert [entry.due_at for entry in store.due("cluster", shard, 99.0)] == [20.0, 30.5]


def _shard(id: str) -> int:
    return Key.top("team", "cluster", id).shard


@pytest.mark.parametrize("technology", ["sqlite", "dynamodb"])
def test_arguments_are_refused_when_out_of_range(technology, make_store):
    store = make_store(technology)
    for limit in (0, -1, 1001):
        with pytest.raises(ValueError, match="limit"):
            store.children("team", "node", "train", limit=limit)
        with pytest.raises(ValueError, match="limit"):
            store.list("team", "node", limit=limit)
        with pytest.raises(ValueError, match="limit"):
            store.due("node", 0, 1.0, limit=limit)
    with pytest.raises(ValueError, match="after"):
        store.children("team", "node", "train", after="a#b")
    with pytest.raises(ValueError, match="shard"):
        store.due("node", SHARDS, 1.0)
    for cursor in ("", "2", "0#", "0##" + "x" * 2000):
        with pytest.raises(ValueError, match="cursor"):
            store.list("team", "node", after=cursor)


@pytest.mark.parametrize("technology", ["sqlite", "dynamodb"])
def test_list_of_live_items_is_empty_when_the_cursor_lies_among_the_done(technology, make_store):
    store = make_store(technology)
    for n in range(3):
        store.put(Item(Key.top("team", "cluster", str(n)), listed=True))
    cursor = store.list("team", "cluster", limit=1).next
    assert store.list("team", "cluster", live=True, after=cursor).items == ()
    assert len(store.list("team", "cluster", live=False, after=cursor).items) == 2


def test_reads_by_key_are_current_when_the_indexes_lag(store, settle):
    """Which reads may be believed: ``get``, ``get_many`` and ``children``, never ``list`` and ``due``."""
    first = store.put(node("0", status="INIT", live=True, due_at=5.0, listed=True))
    settle()
    second = store.put(first.changed(status="DONE", live=False, due_at=None))
    assert store.get(first.key) == second
    assert store.get_many([first.key]) == [second]
    assert store.children("team", "node", "train").items == (second,)
    if isinstance(store, LaggingIndexes):
        (stale,) = store.list("team", "node").items
        assert stale == first
        assert [entry.key for entry in store.due("node", first.key.shard, 9.0)] == [first.key]
        with pytest.raises(VersionConflictError):
            store.put(stale.changed(status="UP"))
    settle()
    assert store.list("team", "node").items == (second,)
    assert store.due("node", first.key.shard, 9.0) == []


@pytest.mark.parametrize("technology", ["sqlite", "dynamodb"])
def test_counter_loses_nothing_when_threads_write_at_once(technology, make_store):
    store = make_store(technology)
    store.put(Item(CLUSTER, {"n": 0}))
    rounds = 40 if technology == "sqlite" else 6
    failures: list[BaseException] = []

    def count(unconditional_neighbour: Key) -> None:
        try:
            done = 0
            while done < rounds:
                read = store.get(CLUSTER)
                try:
                    store.put(read.changed(body={"n": read.body["n"] + 1}))
                    done += 1
                except VersionConflictError:
                    store.put(Item(unconditional_neighbour), unconditional=True)
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=count, args=(node(str(n)).key,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert store.get(CLUSTER).body == {"n": 4 * rounds}
    assert store.get(CLUSTER).version == 4 * rounds + 1
