"""The embedded control plane with its real API and no machines: runs of state machines end at once."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from infra.assets import Assets
from stix.local.functions import import_handlers
from stix.local.server import serve

_ENDS = json.dumps({"StartAt": "End", "States": {"End": {"Type": "Succeed"}}})


def nothing(event: Any, context: Any) -> dict[str, Any]:
    return {}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--port", type=int)
    parser.add_argument("--public-url")
    parser.add_argument("--ready-fd", type=int)
    options = parser.parse_args()
    machines = options.home / "machines"
    machines.mkdir(exist_ok=True)
    for name in Assets().state_machine_names():
        (machines / f"{name}.asl.json").write_text(_ENDS)
    real = import_handlers()
    handlers = {name: real[name] if name in ("api", "agent", "authorize") else nothing for name in real}
    return serve(
        options.home,
        port=options.port,
        public_url=options.public_url,
        ready_descriptor=options.ready_fd,
        handlers=handlers,
        state_machines=machines,
    )


if __name__ == "__main__":
    sys.exit(main())
