"""``python -m`` this HOME PORT: the embedded control plane, with a simulated cloud."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from stix.local import composition
from stix.local.server import serve

from .simulated_cloud import SimulatedCompute


def main(home: str, port: str) -> int:
    def simulated(*_: Any) -> Any:
        return SimulatedCompute(composition.LOCAL, int(port))

    composition._local_compute = simulated
    return serve(Path(home))


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
