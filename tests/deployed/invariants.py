"""What holds of a deployment at its end, whatever went wrong in it."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TypeVar

from stix.adapters.dynamodb import DynamoStateStore
from stix.adapters.dynamodb_table import key_of
from stix.application.records import load
from stix.model.cluster import Intent
from stix.model.job import Job
from stix.model.ledger import LedgerEntry
from stix.model.record import Record
from stix.model.status import JobStatus
from stix.ports.state_store import Item
from tests.deployed.account import Account

__all__ = ["MachineTime", "Settling", "wrong_jobs", "wrong_times"]

R = TypeVar("R", bound=Record)

_ROUNDS = 60
_RARELY = 600
_PATIENCE, _LONGEST = 30.0, 120.0
_MOMENT = 30.0
"""A provider's clock knows whole seconds, and answers take a while on a busy machine."""


class MachineTime:
    """When each machine ran, as its provider saw it: told by ``AwsServer.on_change``."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._began: dict[str, float] = {}
        self.seconds: dict[str, float] = defaultdict(float)
        self.history: dict[str, list[tuple[float, bool]]] = defaultdict(list)

    def __call__(self, machine_id: str, runs: bool) -> None:
        self.history[machine_id].append((self._now(), runs))
        if runs:
            self._began.setdefault(machine_id, self._now())
        elif (began := self._began.pop(machine_id, None)) is not None:
            self.seconds[machine_id] += self._now() - began

    @property
    def running(self) -> list[str]:
        return sorted(self._began)


class Settling:
    """Time passes, and the deployment comes to rest. ``stuck`` are items that were due and were not moved."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._items = _Items(account)
        self.stuck: list[str] = []
        self.rounds = 0

    def until(self, what: str, done: Callable[[], bool]) -> None:
        """Ten minutes at a time, each time to the minute in which every kind of item is looked at."""
        for _ in range(_ROUNDS):
            if done():
                return
            self.rounds += 1
            now = self._account.computers.now()
            step = _RARELY - now % _RARELY + 1
            # At least as far as from one sweep to the next.
            self._account.advance(step if step > 61 else step + _RARELY)
            now = self._account.computers.now()
            due = [item for item in self.live_items() if item.due_at is not None and item.due_at <= now]
            self._account.pass_time(0)
            self._await_quiet()
            self.stuck += [f"{item.key} {item.body}" for item in self._unmoved(due)]
        left = "; ".join(f"{item.key} {item.body}"[:300] for item in self.live_items())
        raise AssertionError(f"{what}: not within {_ROUNDS} rounds: {left}")

    def _unmoved(self, due: list[Item]) -> list[Item]:
        """Those that nobody has looked at, however busy this machine is."""

        def is_as_it_was(item: Item) -> bool:
            current = self._items.get(item)
            return current is not None and current.live and current.version == item.version

        until = time.monotonic() + _LONGEST
        while (due := [item for item in due if is_as_it_was(item)]) and time.monotonic() < until:
            time.sleep(0.4)
        return due

    def live_items(self) -> list[Item]:
        return [item for item in self._items.all() if item.live]

    def _await_quiet(self) -> None:
        """Until no run of a state machine is under way, or they wait for what only time brings."""
        runs = self._account.client("stepfunctions")
        machines = [one["stateMachineArn"] for one in runs.list_state_machines()["stateMachines"]]
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until and any(
            runs.list_executions(stateMachineArn=arn, statusFilter="RUNNING")["executions"]
            for arn in machines
        ):
            time.sleep(0.4)
            # For runs that wait to try again.
            self._account.advance(3)


class _Items:
    """The table itself, past all indexes."""

    def __init__(self, account: Account) -> None:
        self._client, self._table = account.client("dynamodb"), account.outputs["TableName"]
        self._store = DynamoStateStore(self._table, self._client)

    def get(self, item: Item) -> Item | None:
        return self._store.get(item.key)

    def all(self, kind: str = "") -> Iterator[Item]:
        for page in self._client.get_paginator("scan").paginate(TableName=self._table):
            for row in page["Items"]:
                key = key_of(row["pk"]["S"], row["sk"]["S"])
                # What is due is live, and most is not.
                if (kind == key.kind if kind else "due_pk" in row) and (
                    item := self._store.get(key)
                ) is not None:
                    yield item

    def records(self, model: type[R]) -> list[R]:
        return [load(model, item) for item in self.all(model.kind)]


def wrong_times(account: Account, machine_time: MachineTime) -> list[str]:
    """Creations for which the ledger has other machine seconds than the provider saw, with all that is known.

    Where the answer of the call that made them was lost, they began at some time between the intent and the
    acceptance: the ledger may be wrong by as much.
    """
    intents = {intent.token: intent for intent in _Items(account).records(Intent)}
    ledger: dict[str, float] = defaultdict(float)
    entries: dict[str, list[str]] = defaultdict(list)
    for entry in _Items(account).records(LedgerEntry):
        ledger[entry.token] += entry.seconds(account.computers.now()) * entry.count
        entries[entry.token].append(f"{entry.count}: {entry.started_at}..{entry.ended_at} {entry.reason}")
    seen: dict[str, float] = defaultdict(float)
    machines: Counter[str] = Counter()
    for group in account.client("ec2").describe_instances()["Reservations"]:
        for instance in group["Instances"]:
            tags = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
            if instance["InstanceId"] in machine_time.seconds:
                seen[tags["stix-intent"]] += machine_time.seconds[instance["InstanceId"]]
                machines[tags["stix-intent"]] += 1
    wrong = []
    for token, seconds in seen.items():
        unknown = max(0.0, intents[token].accepted_at - intents[token].created_at)
        if abs(ledger[token] - seconds) > (_MOMENT + unknown) * machines[token]:
            history = [moment for one in intents[token].machine_ids for moment in machine_time.history[one]]
            wrong.append(
                f"{ledger[token]} s entered, {seconds} s seen; {entries[token]}; {history}; {intents[token]}"
            )
    return wrong


def wrong_jobs(account: Account, out: Path, names: Collection[str]) -> list[str]:
    """Jobs of these names that ran more often than they were to, or whose success nobody saw.

    ``out`` has a file for each task, with a line when a run of it begins, and one when it is done: each names
    the cluster and the job there.
    """
    wrong = []
    successes: dict[str, list[str]] = defaultdict(list)
    for job in _Items(account).records(Job):
        if job.status is JobStatus.SUCCEEDED and job.name in names:
            successes[job.name].append(f"{job.cluster_id}/{job.id}")
    files = {file.name: file.read_text().splitlines() for file in sorted(out.iterdir())}
    for name, runs in successes.items():
        done = [run for run in runs if f"done {run}" not in files.get(name, [])]
        if len(runs) > 1 or done:
            wrong.append(f"{name} succeeded as {runs}, of which {done} were never done")
    for name, lines in files.items():
        again = [line for line, times in Counter(lines).items() if times > 1]
        # Only a managed job's task may begin again, as another run.
        begun = [line for line in lines if line.startswith("begun")]
        if again or (len(begun) > 1 and not name.startswith("m")):
            wrong.append(f"{name}: {lines}")
    return wrong
