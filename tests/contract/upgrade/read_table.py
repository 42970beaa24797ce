"""``python read_table.py FILE NOW``: sweeps a state file and lists what is in it, by the release whose
packages are on the path; prints which clusters it can act on, and by code those that it cannot."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from stix.adapters.sqlite import SqliteStateStore
from stix.application import sweep
from stix.application.records import load
from stix.model.cluster import Cluster
from stix.model.errors import StixError
from tests.unit.world import WORKSPACE, ControlPlane


def main(path: str, now: float) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        plane = ControlPlane(Path(scratch))
        plane.clock.moment = now
        store = SqliteStateStore(path, clock=plane.clock.now)
        object.__setattr__(plane.world, "store", store)
        swept = sweep.sweep(plane.world)
        found: dict[str, str] = {}
        for item in store.list(WORKSPACE, Cluster.kind, live=True).items:
            try:
                found[load(Cluster, item).name] = "read"
            except StixError as error:
                found[str(item.body["name"])] = error.code
        print(json.dumps({"clusters": found, "skipped": swept["skipped"]}))
        store.close()
        plane.close()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
