"""Many short jobs on one cluster, submitted as fast as the API takes them."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from .control_plane import control_plane
from .figures import Record
from .processes import cpu_seconds

SINGLES, PAIRS = 400, 100
_SENDERS = 4


def measure(record: Record, *, singles: int = SINGLES, pairs: int = PAIRS) -> None:
    # Every fifth job takes both nodes, so that gangs and single jobs compete all the time.
    sizes = [2 if number % 5 == 4 else 1 for number in range(singles + pairs)]
    with control_plane() as plane:
        plane.launch("queue", num_nodes=2)
        cpu, began = cpu_seconds(plane.process), time.perf_counter()
        with ThreadPoolExecutor(_SENDERS) as senders:
            job_ids = list(senders.map(lambda size: plane.submit("queue", "true", num_nodes=size), sizes))
        submitted = time.perf_counter() - began
        outcomes = plane.await_jobs("queue", job_ids)
        done = time.perf_counter() - began
        spent = cpu_seconds(plane.process) - cpu
        if set(outcomes.values()) != {"SUCCEEDED"}:
            raise RuntimeError(f"not every job succeeded: {Counter(outcomes.values())}")
        record.add("submit_rate", len(sizes) / submitted)
        record.add("done", done)
        record.add("server_cpu_per_job", spent / len(sizes) * 1000)
