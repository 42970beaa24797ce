"""Random histories: no update is lost, and every store answers as the model does."""

from __future__ import annotations

from types import SimpleNamespace

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from stix.ports.state_store import SHARDS, Check, Delete, Item, Key, Put, VersionConflictError
from tests.contract.state_store_model import ModelStateStore

EXAMPLES = {"sqlite": 60, "dynamodb": 6}
STEPS = {"sqlite": 40, "dynamodb": 20}
COUNTERS = [Key.top("team", "counter", name) for name in "ab"]

technologies = pytest.mark.parametrize("technology", ["sqlite", "dynamodb"])


def _settings(technology: str, **extra) -> settings:
    return settings(
        max_examples=EXAMPLES[technology],
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        database=None,
        # Shrinking a failure on moto takes minutes; the model test on SQLite shrinks the same histories.
        phases=[Phase.explicit, Phase.generate, *([Phase.shrink] if technology == "sqlite" else [])],
        **extra,
    )


class Writer:
    """Reads both counters at one moment and adds one to some of them at another."""

    def __init__(self, store):
        self.store = store
        self.read: list[Item | None] = [None, None]
        self.successes = [0, 0]

    def look(self) -> None:
        self.read = [self.store.get(key) or Item(key, {"n": 0}) for key in COUNTERS]

    def add(self, which: list[int], in_transaction: bool) -> None:
        if None in self.read:
            return
        changed = [self.read[n].changed(body={"n": self.read[n].body["n"] + 1}) for n in which]
        try:
            if in_transaction or len(changed) > 1:
                # Also depends on the counter that it does not write.
                checks = [
                    Check(item.key, item.version)
                    for n, item in enumerate(self.read)
                    if n not in which and in_transaction
                ]
                self.store.transact([*(Put(item) for item in changed), *checks])
            else:
                self.store.put(changed[0])
        except VersionConflictError:
            return
        for n in which:
            self.successes[n] += 1


_steps = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.one_of(st.just(None), st.tuples(st.sampled_from([[0], [1], [0, 1], [1, 0]]), st.booleans())),
    ),
    min_size=4,
    max_size=24,
)


@technologies
def test_no_update_is_lost_when_two_writers_interleave(technology, make_store):
    conflicts_met = []

    @_settings(technology)
    @given(_steps)
    def check(steps) -> None:
        store = make_store(technology)
        writers = [Writer(store), Writer(store)]
        attempts = 0
        for who, action in steps:
            if action is None:
                writers[who].look()
            else:
                attempts += None not in writers[who].read
                writers[who].add(*action)
        for n, key in enumerate(COUNTERS):
            item = store.get(key)
            total = sum(writer.successes[n] for writer in writers)
            assert (item.body["n"] if item else 0) == total
            assert (item.version if item else 0) == total
        conflicts_met.append(attempts)

    check()
    assert sum(conflicts_met) > 0


class StoreAgainstModel(RuleBasedStateMachine):
    """Any sequence of writes and moments: the store answers as plain dictionaries do."""

    make = None
    clock = None

    ids = st.sampled_from(["1", "2", "é", "z"])
    parents = st.sampled_from(["p", "q"])
    keys = st.builds(lambda parent, id: Key("team", "node", parent, id), parents, ids)
    contents = st.builds(
        lambda live, due, listed, created, expires, body: {
            "live": live,
            "due_at": due if live or due < 50 else None,
            "listed": listed,
            "created_at": created,
            "expires_in": expires,
            "body": body,
            "status": "UP" if live else "",
        },
        st.booleans(),
        st.one_of(st.floats(1e-6, 100), st.just(0.0)),
        st.booleans(),
        st.sampled_from([0.0, 1.0, 1.5, 1_800_000_000.000001]),
        st.sampled_from([None, None, 3.0, 8.5]),
        st.dictionaries(
            st.text(max_size=3), st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.text())
        ),
    )

    @initialize()
    def begin(self) -> None:
        self.clock.now = 1_800_000_000.0
        self.store = type(self).make()
        self.model = ModelStateStore(self.clock)

    def item(self, key: Key, contents: dict, behind: int) -> Item:
        values = dict(contents)
        expires_in = values.pop("expires_in")
        values["expires_at"] = None if expires_in is None else self.clock.now + expires_in
        return Item(key, version=self.version(key, behind), **values)

    def version(self, key: Key, behind: int) -> int:
        stored = self.model.get(key)
        return max(0, (stored.version if stored else 0) - behind)

    def both(self, operation) -> None:
        results = []
        for store in (self.store, self.model):
            try:
                results.append(operation(store))
            except VersionConflictError as exc:
                results.append(set(exc.keys))
        assert results[0] == results[1]

    @rule(key=keys, contents=contents, behind=st.sampled_from([0, 0, 0, 1, -1]))
    def put(self, key, contents, behind) -> None:
        item = self.item(key, contents, behind)
        self.both(lambda store: store.put(item))

    @rule(key=keys, contents=contents)
    def overwrite(self, key, contents) -> None:
        if self.model.get(key) is None:
            # Whether a version counts on from an expired item depends on when the TTL came by.
            self.both(lambda store: store.delete(key))
        item = self.item(key, contents, 0)
        self.both(lambda store: store.put(item, unconditional=True))

    @rule(key=keys, behind=st.sampled_from([None, 0, 1]))
    def delete(self, key, behind) -> None:
        version = None if behind is None else self.version(key, behind)
        self.both(lambda store: store.delete(key, version=version))

    @rule(
        writes=st.dictionaries(
            keys,
            st.tuples(
                st.sampled_from(["put", "delete", "check", "drop"]), contents, st.sampled_from([0, 0, 0, 1])
            ),
            max_size=4,
        )
    )
    def transact(self, writes) -> None:
        transaction = []
        for key, (name, contents, behind) in writes.items():
            transaction.append(
                {
                    "put": Put(self.item(key, contents, behind)),
                    "delete": Delete(key, self.version(key, behind)),
                    "check": Check(key, self.version(key, behind)),
                    "drop": Delete(key),
                }[name]
            )
        self.both(lambda store: store.transact(transaction))

    @rule(seconds=st.sampled_from([0.5, 3.0, 10.0]))
    def wait(self, seconds) -> None:
        self.clock.now += seconds

    @rule(limit=st.integers(1, 5), newest_first=st.booleans(), parent=parents)
    def page_children(self, limit, newest_first, parent) -> None:
        def all_pages(store):
            found, after = [], None
            while True:
                page = store.children(
                    "team", "node", parent, after=after, limit=limit, newest_first=newest_first
                )
                found += page.items
                after = page.next
                if after is None:
                    return found

        self.both(all_pages)

    @rule(limit=st.integers(1, 5), live=st.sampled_from([None, True, False]))
    def page_list(self, limit, live) -> None:
        def all_pages(store):
            found, after = [], None
            while True:
                page = store.list("team", "node", live=live, after=after, limit=limit)
                found += page.items
                after = page.next
                if after is None:
                    return found

        self.both(all_pages)

    @rule(before=st.floats(0, 100))
    def look_for_due(self, before) -> None:
        # The index holds keys only: an expired item may still be in it, its reader finds it absent.
        for shard in range(SHARDS):
            entries = [entry for entry in self.store.due("node", shard, before) if self.store.get(entry.key)]
            assert sorted(entries, key=lambda entry: (entry.due_at, entry.key)) == sorted(
                self.model.due("node", shard, before), key=lambda entry: (entry.due_at, entry.key)
            )
            assert [entry.due_at for entry in entries] == sorted(entry.due_at for entry in entries)

    @invariant()
    def same_items(self) -> None:
        if hasattr(self, "store"):
            keys = [Key("team", "node", parent, id) for parent in "pq" for id in ("1", "2", "é", "z")]
            assert self.store.get_many(keys) == self.model.get_many(keys)


@technologies
def test_store_answers_as_the_model_when_anything_happens(technology, make_store, clock):
    machine = type("Machine", (StoreAgainstModel,), {})
    machine.make = staticmethod(lambda: make_store(technology))
    machine.clock = clock
    run_state_machine_as_test(machine, settings=_settings(technology, stateful_step_count=STEPS[technology]))


def test_interleaving_check_notices_when_a_store_ignores_versions(make_store):
    """The property above can fail: a store that overwrites loses updates in this history."""
    real = make_store("sqlite")
    careless = SimpleNamespace(get=real.get, put=lambda item: real.put(item, unconditional=True))
    first, second = Writer(careless), Writer(careless)
    first.look()
    second.look()
    first.add([0], in_transaction=False)
    second.add([0], in_transaction=False)
    assert first.successes[0] + second.successes[0] == 2
    assert real.get(COUNTERS[0]).body["n"] == 1
