"""``python -m tests.benchmarks [name ...]``: figures beside their limits; exit code 1 when one is over."""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from collections.abc import Callable

from . import (
    cloud_layers,
    commands,
    deployed_artifacts,
    first_output,
    gateway,
    growth,
    http_api,
    http_load,
    idle,
    idle_services,
    install,
    job_fleet,
    job_queue,
    launching,
    log_volume,
    managed_jobs,
    optimizer,
    serving,
    simulating,
    spot_replays,
    state_store,
)
from . import workflow_engine as engine
from .figures import Figure, Record, read_limits, table

BENCHMARKS: dict[str, Callable[..., None]] = {
    "commands": commands.measure,
    "idle": idle.measure,
    "state_store": state_store.measure,
    "workflow_engine": engine.measure,
    "optimizer": optimizer.measure,
    "simulating": simulating.measure,
    "spot_policies": simulating.measure_published,
    "serving": serving.measure,
    "spot_serving": serving.measure_published,
    "launching": launching.measure,
    "http_api": http_api.measure,
    "http_load": http_load.measure,
    "job_queue": job_queue.measure,
    "log_volume": log_volume.measure,
    "managed_jobs": managed_jobs.measure,
    "job_notices": job_fleet.measure_notices,
    "job_fleet": job_fleet.measure,
    "first_output": first_output.measure,
    "gateway": gateway.measure,
    "idle_services": idle_services.measure,
    "install": install.measure,
    "cloud_layers": cloud_layers.measure,
    "deployed_artifacts": deployed_artifacts.measure,
    "growth": growth.measure,
}
# The default run leaves out what takes a quarter of an hour or more, and replays of traces that are not
# there; its name runs it.
LONG = frozenset(
    {"growth", "job_fleet"}
    | (set() if spot_replays.present() else {"spot_policies"})
    | (set() if serving.present() else {"spot_serving"})
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"any of: {', '.join(BENCHMARKS)}")
    parser.add_argument("--launches", type=int, default=growth.LAUNCHES, help="of growth (%(default)s)")
    parser.add_argument("--jobs", type=int, default=job_fleet.JOBS, help="of job_fleet (%(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=job_fleet.SECONDS, help="that job_fleet watches them (%(default)g)"
    )
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")

    _allow_open_files()
    sizes = {
        "growth": {"launches": options.launches},
        "job_fleet": {"jobs": options.jobs, "seconds": options.seconds},
    }
    limits = read_limits()
    figures: list[Figure] = []
    failed: list[str] = []
    speeds = [_fixed_work()]
    for name in options.names or [name for name in BENCHMARKS if name not in LONG]:
        record = Record(name, limits[name])
        began = time.perf_counter()
        try:
            BENCHMARKS[name](record, **sizes.get(name, {}))
            record.check_complete()
        except Exception as exc:
            record.note(f"FAILED: {type(exc).__name__}: {exc}")
            failed.append(name)
        record.note(f"took {time.perf_counter() - began:.0f} s")
        figures += record.figures
        speeds.append(_fixed_work())

    print(f"\n{os.cpu_count()} cores, Python {sys.version.split()[0]}")
    print(f"Work that is always the same took {min(speeds):.3f} to {max(speeds):.3f} s of CPU.\n")
    print(table(figures))
    over = [figure.name for figure in figures if figure.over]
    for what, names in (("over the limit", over), ("failed", failed)):
        if names:
            print(f"\n{what}: {', '.join(names)}")
    return 1 if over or failed else 0


def _fixed_work() -> float:
    """CPU seconds: how fast this machine is just now, which changes where others share it."""
    began = time.process_time()
    sum(number * number for number in range(2_000_000))
    return time.process_time() - began


def _allow_open_files() -> None:
    """Parked requests are a connection each."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    sys.exit(main())
