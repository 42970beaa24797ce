"""Asks the replicas whether they are ready, each in a task of its own."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Callable, Dict, Optional, Tuple

from .files import Json
from .health import Health, judge
from .view import Probe, Replica, View

Key = Tuple[str, str]
"""A service's name and a replica's key."""

_NO_PROBE = Probe("/", timeout_seconds=5, interval_seconds=5)
_EAGER_SECONDS = 0.5
_MOST_ANSWER = 1 << 16
_ANSWER_SECONDS = 1.0


class Prober:
    """Keeps ``health`` of the replicas of a view that are not draining; ``changed`` is called when one
    changes.

    Without a probe a replica is ready when its port takes connections.
    """

    def __init__(self, changed: Callable[[], None], clock: Callable[[], float] = time.time) -> None:
        self.health: Dict[Key, Health] = {}
        self._changed, self._clock = changed, clock
        self._tasks: Dict[Key, asyncio.Task[None]] = {}
        self._wanted: Dict[Key, Tuple[Replica, Optional[Probe]]] = {}
        self._hurry: Dict[Key, asyncio.Event] = {}

    def update(self, view: View) -> None:
        wanted = {
            (service.name, replica.key): (replica, replica.probe or service.probe)
            for service in view.services
            for replica in service.replicas
            if replica.state != "draining"
        }
        for key in self._tasks.keys() - wanted.keys():
            self._tasks.pop(key).cancel()
            del self.health[key], self._hurry[key]
        self._wanted = wanted
        for key in wanted.keys() - self._tasks.keys():
            now = self._clock()
            self.health.setdefault(key, Health(now, now))
            self._hurry[key] = asyncio.Event()
            self._tasks[key] = asyncio.get_running_loop().create_task(self._watch(key))

    def restore(self, kept: Json) -> None:
        """What ``to_json`` gave to the process before: its replicas stay in the rotation meanwhile."""
        for name, replicas in kept.items():
            for key, values in replicas.items():
                with contextlib.suppress(TypeError):
                    self.health[name, key] = Health(**values)

    def forget_absent(self) -> None:
        """After ``restore`` and ``update``: drops what the view no longer has."""
        for key in self.health.keys() - self._tasks.keys():
            del self.health[key]

    def to_json(self) -> Json:
        kept: Json = {}
        for (name, key), health in self.health.items():
            kept.setdefault(name, {})[key] = dict(vars(health))
        return kept

    def hurry(self, key: Key) -> None:
        """Probes now: something else says that the replica does not answer."""
        if key in self._hurry:
            self._hurry[key].set()

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, key: Key) -> None:
        while True:
            replica, given = self._wanted[key]
            probe = given or _NO_PROBE
            failure = await ask(replica, given, probe.timeout_seconds)
            before = self.health[key]
            after = judge(before, failure, probe, self._clock())
            self.health[key] = after
            if (after.state, after.reason) != (before.state, before.reason):
                self._changed()
            pause = probe.interval_seconds
            if after.state != "ready":
                # Whoever waits for it waits no longer than needed.
                pause = min(pause, _EAGER_SECONDS)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._hurry[key].wait(), pause)
            self._hurry[key].clear()


async def ask(replica: Replica, probe: Optional[Probe], timeout: float) -> Optional[str]:
    """None when the replica is ready, or why not."""
    try:
        return await asyncio.wait_for(_ask(replica, probe), timeout)
    except asyncio.TimeoutError:
        return f"no answer within {timeout:g} s"
    except ConnectionRefusedError:
        return f"nothing listens on {replica.address}:{replica.port}"
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as exc:
        return f"the connection failed ({exc or type(exc).__name__})"


async def _ask(replica: Replica, probe: Optional[Probe]) -> Optional[str]:
    reader, writer = await asyncio.open_connection(replica.address, replica.port)
    try:
        if probe is None:
            return None
        writer.write(_request(replica, probe))
        line = (await reader.readuntil(b"\n")).decode("latin-1").split(None, 2)
        if len(line) < 2 or not line[0].startswith("HTTP/") or not line[1].isdigit():
            return "the answer is not HTTP"
        with contextlib.suppress(asyncio.TimeoutError, OSError):
            # Servers complain of a connection that is cut while they answer.
            await asyncio.wait_for(reader.read(_MOST_ANSWER), _ANSWER_SECONDS)
        return None if line[1][0] == "2" else f"{probe.path} answers {' '.join(line[1:]).strip()}"
    finally:
        writer.transport.abort()


def _request(replica: Replica, probe: Probe) -> bytes:
    host = f"[{replica.address}]" if ":" in replica.address else replica.address
    headers = {"Host": f"{host}:{replica.port}", "User-Agent": "stix-gateway", "Accept": "*/*"}
    body = (probe.body or "").encode()
    if probe.body is not None:
        headers["Content-Type"] = "application/json"
    given = {name.lower() for name in probe.headers}
    headers = {name: text for name, text in headers.items() if name.lower() not in given}
    headers.update(probe.headers)
    headers["Connection"] = "close"
    if probe.body is not None:
        headers["Content-Length"] = str(len(body))
    lines = [f"{'GET' if probe.body is None else 'POST'} {probe.path} HTTP/1.1"]
    lines += [f"{name}: {text}" for name, text in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("utf-8") + body
