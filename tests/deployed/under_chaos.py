"""People use a deployment, and machines are lost, while everything in it goes wrong."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx

from stix.local.http_events import HttpRequest
from stix.sdk.client import Client
from stix.sdk.endpoint import Endpoint
from stix.sdk.errors import SdkError
from tests.deployed.account import REGION, Account

__all__ = ["People", "Transport"]

_MOST_CLUSTERS, _MOST_JOBS = 4, 2
_STEPS = (0, 0, 0, 61, 130, 700)
_PATIENCE = 15.0


class Transport(httpx.BaseTransport):
    """To the stack's own HTTP API, its routes and its authorizer, without the network in between."""

    def __init__(self, account: Account) -> None:
        assert account.fronts is not None
        (self._front,) = account.fronts.http.values()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        headers = tuple((name.lower(), value) for name, value in request.headers.items())
        url = request.url
        asked = HttpRequest(
            request.method, url.path, url.query.decode(), headers, "127.0.0.1", body=request.read()
        )
        answer = self._front.answer(asked)
        return httpx.Response(answer.status, headers=list(answer.headers), content=answer.body)


class People:
    """``step`` does one operation of those that ``chance`` draws, and lets some time pass.

    Every job leaves a line in a file of its own below ``out`` when it begins, and one when it is done.
    """

    def __init__(self, account: Account, token: str, chance: random.Random, out: Path) -> None:
        self._account, self._chance, self._out = account, chance, out
        self.client = Client(Endpoint("https://stix.test", token), Transport(account))
        self.done: Counter[str] = Counter()
        self.downed: set[str] = set()
        """Ids of clusters whose end was promised."""
        self.cancelled: set[int] = set()
        """Managed jobs whose end was promised."""
        self.taken: list[str] = []
        """Machines that were taken or died."""
        self.tasks: set[str] = set()
        self._verbs: dict[str, tuple[int, Callable[[], bool]]] = {
            "launch": (4, self._launch),
            "exec": (6, self._exec),
            "cancel": (2, self._cancel),
            "autostop": (2, self._autostop),
            "stop": (1, self._stop),
            "start": (1, self._start),
            "down": (3, self._down),
            "jobs launch": (2, self._launch_job),
            "jobs cancel": (1, self._cancel_job),
            "spot interruption": (2, self._interrupt),
            "machine ended": (1, self._end_machine),
            "machine dead": (1, self._kill_machine),
        }

    def step(self) -> None:
        """One operation; where there is nothing to do it on, another. A refusal is an outcome like any."""
        weights = [weight for weight, _ in self._verbs.values()]
        for verb in self._chance.choices(list(self._verbs), weights, k=50):
            try:
                if not self._verbs[verb][1]():
                    continue
            except SdkError as error:
                self.done[f"{verb}: {error.http_status or 'no answer'}"] += 1
            else:
                self.done[verb] += 1
            break
        time.sleep(self._chance.uniform(0.1, 0.6))
        if step := self._chance.choice(_STEPS):
            self._account.pass_time(step)

    # --- clusters ---

    def clusters(self, *statuses: str) -> list[dict[str, Any]]:
        """Of people, not of jobs, that nobody has taken down; oldest first."""
        found = [dict(one) for one in self.client.clusters(verbose=True)]
        return [
            one
            for one in reversed(found)
            if not one["owner"]
            and one["id"] not in self.downed
            and (not statuses or one["status"] in statuses)
        ]

    def _one(self, *statuses: str) -> dict[str, Any] | None:
        """One of them, waited for where none is there yet."""
        until = time.monotonic() + _PATIENCE
        while there := self.clusters():
            if found := [one for one in there if one["status"] in statuses]:
                return self._chance.choice(found)
            if time.monotonic() > until:
                break
            time.sleep(1.0)
        return None

    def _launch(self) -> bool:
        if len(self.clusters()) >= _MOST_CLUSTERS:
            return False
        name = self._name("c")
        self.client.launch(
            {
                "cluster": name,
                "task": self._task(
                    name, nodes=self._chance.choice((1, 1, 2)), spot=self._chance.random() < 0.5
                ),
                "retry_until_up": self._chance.random() < 0.3,
            }
        )
        return True

    def _exec(self) -> bool:
        cluster = self._one("UP")
        if cluster is None:
            return False
        self.client.exec(cluster["name"], {"task": self._task(self._name("e"), nodes=1)})
        return True

    def _cancel(self) -> bool:
        cluster = self._one("UP")
        jobs = [] if cluster is None else list(self.client.jobs(cluster["name"], skip_finished=True))
        if cluster is None or not jobs:
            return False
        self.client.cancel(cluster["name"], [self._chance.choice(jobs)["id"]])
        return True

    def _autostop(self) -> bool:
        cluster = self._one("UP", "INIT")
        if cluster is None:
            return False
        down = cluster["spot"] or self._chance.random() < 0.5
        minutes = self._chance.choice((0, 5, 20))
        self.client.autostop(
            cluster["name"], {"idle_minutes": minutes, "down": down, "wait_for": "jobs_and_ssh"}
        )
        return True

    def _stop(self) -> bool:
        cluster = self._one("UP")
        if cluster is None or cluster["spot"]:
            return False
        self.client.stop(cluster["name"])
        return True

    def _start(self) -> bool:
        stopped = self.clusters("STOPPED")
        if not stopped:
            return False
        self.client.start(self._chance.choice(stopped)["name"])
        return True

    def _down(self) -> bool:
        found = self.clusters()
        if not found:
            return False
        cluster = self._chance.choice(found)
        self.client.down(cluster["name"])
        self.downed.add(cluster["id"])
        return True

    # --- managed jobs ---

    def jobs(self) -> list[int]:
        """That have not ended, and that nobody has cancelled."""
        going_on = [job["id"] for job in self.client.managed_jobs(skip_finished=True)]
        return sorted(set(going_on) - self.cancelled)

    def _launch_job(self) -> bool:
        if len(self.jobs()) >= _MOST_JOBS:
            return False
        name = self._name("m")
        self.client.launch_job({"name": name, "tasks": [{"task": self._task(name, nodes=1, spot=True)}]})
        return True

    def _cancel_job(self) -> bool:
        jobs = self.jobs()
        if not jobs:
            return False
        number = self._chance.choice(jobs)
        self.client.cancel_jobs([number], grace_seconds=1.0)
        self.cancelled.add(number)
        return True

    # --- machines ---

    def _running(self, *, spot: bool = False) -> list[str]:
        filters = [{"Name": "instance-state-name", "Values": ["running"]}]
        found = self._account.client("ec2").describe_instances(Filters=filters)["Reservations"]
        machines = [one for group in found for one in group["Instances"]]
        return sorted(one["InstanceId"] for one in machines if not spot or "InstanceLifecycle" in one)

    def _take(self, machines: Sequence[str], how: Callable[[str], Any]) -> bool:
        if not machines:
            return False
        machine = self._chance.choice(machines)
        self.taken.append(machine)
        how(machine)
        return True

    def _interrupt(self) -> bool:
        return self._take(self._running(spot=True), self._account.interrupt_spot)

    def _end_machine(self) -> bool:
        """Its provider ends it without a word."""
        return self._take(self._running(), self._account.preempt)

    def _kill_machine(self) -> bool:
        """Nothing on it runs any more, and its provider says that it runs."""
        return self._take(self._running(), lambda machine: self._account.machines[machine].power_off())

    # --- the end ---

    def unkept(self) -> list[str]:
        """Clusters that were taken down and are there, and managed jobs that have not ended."""
        there = {one["id"]: one["name"] for one in self.client.clusters()}
        jobs = [str(job["id"]) for job in self.client.managed_jobs(skip_finished=True)]
        return [name for id, name in there.items() if id in self.downed] + jobs

    def take_all_down(self) -> None:
        for cluster in self.client.clusters():
            if cluster["id"] in self.downed or cluster["owner"]:
                continue
            try:
                self.client.down(cluster["name"])
            except SdkError as error:
                # Its autostop came first.
                if error.http_status not in (404, 409):
                    raise
            self.downed.add(cluster["id"])

    # --- tasks ---

    def _name(self, kind: str) -> str:
        name = f"{kind}{len(self.tasks) + 1}"
        self.tasks.add(name)
        return name

    def _task(self, name: str, *, nodes: int, spot: bool = False) -> dict[str, Any]:
        file = self._out / name
        seconds = self._chance.choice((0.1, 0.1, 1.0, 4.0))
        run = 'echo "begun $STIX_JOB_KEY" >> {0}; sleep {1}; echo "done $STIX_JOB_KEY" >> {0}'
        return {
            "name": name,
            "num_nodes": nodes,
            "resources": {"infra": f"aws/{REGION}", "cpus": 2, "use_spot": spot},
            "run": f'[ "$STIX_NODE_RANK" = 0 ] || exit 0\n{run.format(file, seconds)}\n',
        }
