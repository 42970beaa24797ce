"""``python -m`` this HOME PORT: the embedded control plane, with a simulated cloud and no other one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from stix.local import composition
from stix.local.clouds import ConnectedClouds
from stix.local.server import serve
from tests.ports import free_port

from .simulated_cloud import SimulatedCompute


def main(home: str, port: str) -> int:
    def simulated(*_: Any) -> Any:
        return SimulatedCompute(composition.LOCAL, int(port))

    def none_else(*_: Any, **__: Any) -> ConnectedClouds:
        """Whoever runs this may have credentials, and a real machine would be the cheapest."""
        return ConnectedClouds({}, {}, {})

    composition._local_compute = simulated
    composition.connect_clouds = none_else
    # Machines of a cloud call a public address, and may take minutes to boot.
    listening = free_port()
    return serve(Path(home), port=listening, public_url=f"http://127.0.0.1:{listening}")


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
