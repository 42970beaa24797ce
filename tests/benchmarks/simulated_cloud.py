"""A cloud of machines that are numbers, with their agents, as a process of its own: ``python -m`` this.

It speaks JSON lines on a loopback port: what ``SimulatedCompute`` asks for a control plane, and what a
benchmark wants of the machines. The agents call the control plane over HTTP as real ones do: they join, ask
for commands until they have their run, and report it, then send a heartbeat at every interval that they are
told. They hold no request open, and share some connections.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from stix.model.offer import Offer
from stix.ports.compute import GangRequest, Machine, MachineState, Place

_CONNECTIONS = 32
_BOOT_SECONDS = 1.0
_NOT_READY_SECONDS = 1.0
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 10.0
_PAGE = 500
_GRACE_SECONDS = 20.0


@dataclass
class _Machine:
    """``job`` is the run on it once it was told; ``outcome`` how that ends, when it ends."""

    id: str
    region: str
    tags: dict[str, str]
    join_token: str
    running: bool = True
    taken: bool = False
    noticed_at: float = 0.0
    token: str = ""
    job: int = 0
    beats: int = 0
    awake: asyncio.Event = field(default_factory=asyncio.Event)


class _Gone(Exception):
    """The control plane says that the cluster is gone."""


class _Http:
    """Requests over a few connections that stay open, each with one request at a time."""

    def __init__(self) -> None:
        self._address = ("", 0)
        self._free: asyncio.LifoQueue[Any] = asyncio.LifoQueue()

    def at(self, host: str, port: int) -> None:
        self._address = (host, port)
        for _ in range(_CONNECTIONS):
            self._free.put_nowait(None)

    async def post(self, path: str, token: str, body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        host, port = self._address
        content = json.dumps(body)
        request = (
            f"POST {path} HTTP/1.1\r\nhost: {host}:{port}\r\nauthorization: Bearer {token}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n{content}"
        ).encode()
        connection = await self._free.get()
        try:
            if connection is None:
                connection = await asyncio.open_connection(host, port)
            reader, writer = connection
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
            answer = await reader.readexactly(length)
        except (OSError, asyncio.IncompleteReadError):
            connection = None
            raise
        finally:
            self._free.put_nowait(connection)
        return int(head.split(b" ", 2)[1]), json.loads(answer)


class SimulatedCloud:
    """The machines and their agents, on one loop."""

    def __init__(self) -> None:
        self._machines: dict[str, _Machine] = {}
        self._gangs: dict[str, list[str]] = {}
        self._http = _Http()
        self._beat_seconds = 60.0
        self._agents: set[asyncio.Task[None]] = set()
        self._ending = False
        self.counts = {"heartbeats": 0, "refused": 0, "broken": 0}

    # --- what it is asked ---

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            asked = json.loads(line)
            answer = getattr(self, f"ask_{asked.pop('ask')}")(**asked)
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        writer.close()

    def ask_create(
        self, token: str, count: int, region: str, tags: dict[str, str], join_token: str, api_url: str
    ) -> list[str]:
        if token in self._gangs:
            return self._gangs[token]
        if not self._gangs:
            host, _, port = api_url.removeprefix("http://").partition(":")
            self._http.at(host, int(port))
        ids = [f"{token}-{rank}" for rank in range(count)]
        for id in ids:
            self._machines[id] = _Machine(id, region, tags, join_token)
            agent = asyncio.get_running_loop().create_task(self._agent(self._machines[id]))
            self._agents.add(agent)
            agent.add_done_callback(self._agents.discard)
        self._gangs[token] = ids
        return ids

    def ask_describe(self, ids: list[str]) -> list[Any]:
        return [self._seen(id) for id in ids]

    def ask_terminate(self, ids: list[str]) -> None:
        for machine in filter(None, map(self._machines.get, ids)):
            machine.running = False
            machine.awake.set()

    def ask_list(self, region: str, skip: int) -> list[Any]:
        alive = [one.id for one in self._machines.values() if one.running and one.region == region]
        return [self._seen(id) for id in alive[skip : skip + _PAGE]]

    def ask_counts(self) -> dict[str, int]:
        alive = [one for one in self._machines.values() if one.running]
        return {"machines": len(alive), "at_work": sum(bool(one.job) for one in alive), **self.counts}

    def ask_take(self, count: int) -> list[list[Any]]:
        """Give notice to the oldest machines that work: the cluster's name and the moment of each."""
        at_work = [one for one in self._machines.values() if one.running and one.job and not one.noticed_at]
        chosen = at_work[:count]
        for machine in chosen:
            machine.noticed_at = time.time()
            machine.awake.set()
        return [[machine.tags["stix-name"], machine.noticed_at] for machine in chosen]

    def ask_finish(self) -> None:
        """Every run ends well, now and from now on."""
        self._ending = True
        for machine in self._machines.values():
            machine.awake.set()

    def _seen(self, id: str) -> list[Any]:
        machine = self._machines.get(id)
        if machine is None:
            return [id, "terminated", {}, False]
        return [id, "running" if machine.running else "terminated", machine.tags, machine.taken]

    # --- agents ---

    async def _agent(self, machine: _Machine) -> None:
        await asyncio.sleep(_BOOT_SECONDS)
        with suppress(_Gone):
            await self._join(machine)
            await self._begin(machine)
            while machine.running:
                await self._live(machine)
        machine.running = False

    async def _call(self, machine: _Machine, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Until it is answered with 200. Raises ``_Gone``."""
        pause = _FIRST_PAUSE
        while machine.running:
            status = 0
            with suppress(OSError, asyncio.IncompleteReadError):
                token = machine.token or machine.join_token
                status, answer = await self._http.post(f"/agent/v1/{path}", token, body)
            if status == 200:
                return answer
            if status in (401, 410):
                break
            if status == 409:
                await asyncio.sleep(_NOT_READY_SECONDS)
                continue
            self.counts["refused" if status else "broken"] += 1
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        raise _Gone

    async def _join(self, machine: _Machine) -> None:
        told = {"machine_id": machine.id, "address": "10.0.0.1", "peer_port": 7000}
        machine.token = (await self._call(machine, "join", told))["node_token"]

    async def _begin(self, machine: _Machine) -> None:
        """Ask for the run until it comes; then take it and say that it runs."""
        pause = _FIRST_PAUSE
        known = {"peers_version": 0, "settings_version": 0, "follow_version": 0, "access_version": 0}
        while not machine.job:
            answer = await self._call(machine, "commands", {"after": 0, "wait": False, **known})
            for command in answer["commands"]:
                if command["type"] == "run":
                    machine.job = command["job"]["id"]
                known["after"] = command["seq"]
            if not machine.job:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
        await self._report(machine, status="RUNNING", started_at=time.time())
        await self._call(machine, "commands", {"wait": False, **known})

    async def _live(self, machine: _Machine) -> None:
        """Wait for the next heartbeat, or for what comes before it."""
        machine.awake.clear()
        if not self._ending and not machine.noticed_at:
            # Spread out from the first one on: a fleet that was launched at once must not call at once.
            share = random.Random(machine.id).random() if not machine.beats else 1.0
            with suppress(TimeoutError):
                await asyncio.wait_for(machine.awake.wait(), share * self._beat_seconds)
            machine.beats += 1
        if not machine.running:
            return
        if machine.noticed_at:
            notice = {"kind": "preemption", "at": machine.noticed_at + 120.0}
            await self._call(machine, "report", {"idle_since": None, "jobs": [], "notice": notice})
            await self._end(machine, status="FAILED_DRIVER", reason="the cloud takes this machine")
            await asyncio.sleep(_GRACE_SECONDS)
            machine.taken, machine.running = True, False
        elif self._ending:
            await self._end(machine, status="SUCCEEDED", exit_codes=[0])
            await machine.awake.wait()
        else:
            answer = await self._call(machine, "report", {"idle_since": None, "jobs": []})
            self.counts["heartbeats"] += 1
            self._beat_seconds = float(answer["report_seconds"])
            machine.running = answer["wanted"] == "UP"

    async def _end(self, machine: _Machine, **entry: Any) -> None:
        await self._report(machine, ended_at=time.time(), **entry)
        end = {"job": machine.job, "rank": 0, "chunks": 0, "bytes": {}, "sha256": {}}
        await self._call(machine, "logs", {"finished": [end]})

    async def _report(self, machine: _Machine, **entry: Any) -> None:
        jobs = [{"id": machine.job, **entry}]
        await self._call(machine, "report", {"idle_since": None, "jobs": jobs})


class CloudLine:
    """A line to the cloud's process; each thread has a connection of its own."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._local = threading.local()

    def ask(self, what: str, **about: Any) -> Any:
        file = getattr(self._local, "file", None)
        if file is None:
            with socket.create_connection(("127.0.0.1", self._port)) as connection:
                self._local.file = file = connection.makefile("rwb")  # which keeps it open
        file.write(json.dumps({"ask": what, **about}).encode() + b"\n")
        file.flush()
        return json.loads(file.readline())

    def close(self) -> None:
        """This thread's connection."""
        if hasattr(self._local, "file"):
            self._local.file.close()
            del self._local.file


class SimulatedCompute:
    """``Compute`` of a cloud in another process, with one machine type in three regions."""

    def __init__(self, cloud: str, port: int) -> None:
        self.cloud = cloud
        self._line = CloudLine(port)

    def offers(self) -> list[Offer]:
        shape = {"instance_type": "sim.large", "vcpus": 4, "memory_gib": 16}
        return [
            Offer(cloud=self.cloud, region=region, zone=f"{region}a", price=price, **shape)
            for region, price in (("north", 1.0), ("south", 1.1), ("west", 1.2))
        ]

    def create(self, request: GangRequest) -> list[str]:
        made: list[str] = self._line.ask(
            "create",
            token=request.token,
            count=request.count,
            region=request.offer.region,
            tags=dict(request.tags),
            join_token=request.join_token,
            api_url=request.api_url,
        )
        return made

    def describe(self, place: Place, machine_ids: Sequence[str]) -> list[Machine]:
        return [_machine(seen) for seen in self._line.ask("describe", ids=list(machine_ids))]

    def terminate(self, place: Place, machine_ids: Sequence[str]) -> None:
        self._line.ask("terminate", ids=list(machine_ids))

    def list_tagged(self, place: Place, deployment: str) -> Iterator[Machine]:
        skip = 0
        while page := self._line.ask("list", region=place.region, skip=skip):
            yield from map(_machine, page)
            skip += len(page)

    def identity(self) -> str:
        return "a simulated account"

    def stop(self, place: Place, machine_ids: Sequence[str]) -> None:
        raise NotImplementedError

    def start(self, place: Place, machine_ids: Sequence[str]) -> None:
        raise NotImplementedError


def _machine(seen: Sequence[Any]) -> Machine:
    id, state, tags, taken = seen
    return Machine(id, MachineState(state), tags, preempted=taken)


async def _main() -> None:
    cloud = SimulatedCloud()
    server = await asyncio.start_server(cloud.serve, "127.0.0.1", 0, limit=1 << 22)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main())
