"""The embedded control plane and an agent while nothing happens."""

from __future__ import annotations

import time

from stix.local.daemon import ensure_running, stop

from .control_plane import control_plane
from .figures import Record, median
from .processes import cpu_share, rss_mib

SETTLE_SECONDS = 3.0
SERVER_SECONDS = 60.0
AGENT_SECONDS = 30.0
STARTS = 5


def measure(
    record: Record, *, server_seconds: float = SERVER_SECONDS, agent_seconds: float = AGENT_SECONDS
) -> None:
    with control_plane() as plane:
        time.sleep(SETTLE_SECONDS)
        record.add("server_cpu", cpu_share(plane.process, server_seconds))
        record.add("server_rss", rss_mib(plane.process))

        plane.launch("idle", run="true")
        time.sleep(SETTLE_SECONDS)
        (agent,) = plane.agents().values()
        record.add("agent_cpu", cpu_share(agent, agent_seconds))
        record.add("agent_rss", rss_mib(agent))
        (machine,) = plane.machines().values()
        record.add("node_rss", rss_mib(agent) + rss_mib(machine))
        plane.down("idle")

        readies = []
        for _ in range(STARTS):
            stop(plane.home)
            began = time.perf_counter()
            ensure_running(plane.home)
            readies.append(time.perf_counter() - began)
        record.add("ready", median(readies))
