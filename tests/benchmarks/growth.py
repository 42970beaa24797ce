"""Whether the control plane grows with what it has done: launches and teardowns, several in flight."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from stix.sdk.client import Client

from .control_plane import ControlPlane, control_plane
from .figures import Record
from .processes import rss_mib

LAUNCHES = 1000
BASELINE = 100
_IN_FLIGHT = 4


def measure(
    record: Record, *, launches: int = LAUNCHES, baseline: int = BASELINE, in_flight: int = _IN_FLIGHT
) -> None:
    """RSS after ``launches`` over RSS after ``baseline``, and the same of threads and open files. So many are
    in flight after the baseline."""
    with control_plane() as plane:
        began = time.perf_counter()
        _launch_and_end(plane, 0, baseline, _IN_FLIGHT)
        early = _look(plane, record, baseline, began)
        late, done = early, baseline
        while done < launches:
            step = min(baseline, launches - done)
            _launch_and_end(plane, done, done + step, in_flight)
            done += step
            late = _look(plane, record, done, began)
        record.add("rss_ratio", late[0] / early[0])
        record.add("threads_more", late[1] - early[1])
        record.add("open_files_more", late[2] - early[2])


def _launch_and_end(plane: ControlPlane, first: int, last: int, in_flight: int) -> None:
    own = threading.local()

    def once(number: int) -> None:
        if not hasattr(own, "plane"):
            # One connection a thread, as separate commands would have.
            client = Client(plane.endpoint)
            own.plane = ControlPlane(plane.home, plane.environ, plane.endpoint, client)
            clients.append(client)
        own.plane.launch(f"bench-{number}", run="true")
        own.plane.down(f"bench-{number}")

    clients: list[Client] = []
    with ThreadPoolExecutor(in_flight) as threads:
        for _ in threads.map(once, range(first, last)):
            pass
    for client in clients:
        client.close()


def _look(plane: ControlPlane, record: Record, done: int, began: float) -> tuple[float, int, int]:
    time.sleep(2)
    process = plane.process
    seen = rss_mib(process), process.num_threads(), process.num_fds()
    state = (plane.home / "state.db").stat().st_size / 1e6
    record.note(
        f"after {done:4d} in {time.perf_counter() - began:4.0f} s: {seen[0]:.1f} MiB, {seen[1]} threads, "
        f"{seen[2]} open files, state.db {state:.1f} MB"
    )
    return seen
