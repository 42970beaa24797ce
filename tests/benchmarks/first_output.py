"""From a command to the first line of the job's output, as a person sees it."""

from __future__ import annotations

import time

from .control_plane import ControlPlane, control_plane
from .figures import Record, median, percentile

IDLE_SECONDS = 120.0
BETWEEN_SECONDS = 5.0
EXECS = 30
LAUNCHES = 10


def measure(
    record: Record, *, idle: float = IDLE_SECONDS, between: float = BETWEEN_SECONDS, execs: int = EXECS
) -> None:
    with control_plane() as plane:
        waits = []
        for number in range(LAUNCHES):
            waits.append(_first_line(plane, "launch", "-y", "-c", f"bench-{number}", "--", "echo", "ready"))
            plane.down(f"bench-{number}")
        record.add("launch_median", median(waits))
        record.note(f"launch: {_spread(waits)}")

        plane.launch("idle")
        record.note(f"the agent idles for {idle:g} s once, then {between:g} s before each exec")
        time.sleep(idle)
        waits = []
        for _ in range(execs):
            waits.append(_first_line(plane, "exec", "idle", "--", "echo", "ready"))
            time.sleep(between)
        record.add("exec_after_idle", waits[0])
        record.add("exec_median", median(waits))
        record.add("exec_p95", percentile(waits, 95))
        record.note(f"exec: {_spread(waits)}")


def _first_line(plane: ControlPlane, *arguments: str) -> float:
    ran = plane.stix(*arguments)
    if ran.first_line is None or ran.output != "ready\n":
        raise RuntimeError(f"stix {' '.join(arguments)} printed {ran.output!r}")
    return float(ran.first_line)


def _spread(values: list[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f} s, median {median(values):.2f} s"
