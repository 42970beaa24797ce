"""What a command costs before it has done anything, and with a control plane to ask."""

from __future__ import annotations

import tempfile
from pathlib import Path

from .control_plane import clean_environment, control_plane
from .figures import Record, median
from .processes import stix

_VERSION_RUNS, _STATUS_RUNS = 5, 20
_CLUSTERS, _NODES = 5, 2


def measure(record: Record) -> None:
    with tempfile.TemporaryDirectory(prefix="stix-bench-") as folder:
        environ = clean_environment(Path(folder) / "home")
        stix(["--help"], environ)
        # The minimum: what the command itself needs, whoever else uses the cores.
        record.add("version_cpu", min(stix(["--version"], environ).cpu for _ in range(_VERSION_RUNS)))
        record.add("help_cpu", min(stix(["--help"], environ).cpu for _ in range(_VERSION_RUNS)))
    with control_plane() as plane:
        for number in range(_CLUSTERS):
            plane.launch(f"bench-{number}", num_nodes=_NODES)
        plane.stix("status")
        runs = [plane.stix("status") for _ in range(_STATUS_RUNS)]
        record.add("status_cpu", median([ran.cpu for ran in runs]))
        record.add("status_wall", median([ran.wall for ran in runs]))
