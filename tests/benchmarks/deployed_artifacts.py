"""The deployed artifacts: their sizes, and what starts and calls of functions cost through Lambda's runtime.

The stack is created on moto, as in the end-to-end test; every start is a process of its own.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from layers.build import assemble, download
from tests.deployed.account import Account
from tests.deployed.stack import zipped
from tests.deployed.synthesis import synthesize

from .figures import Record
from .processes import MIB

_STARTS = 7
_CALLS = 500
_HEALTH = json.dumps(
    {
        "version": "2.0",
        "routeKey": "GET /v1/health",
        "rawPath": "/v1/health",
        "headers": {},
        "requestContext": {"http": {"method": "GET", "path": "/v1/health"}, "stage": "$default"},
    }
).encode()


def measure(record: Record) -> None:
    with tempfile.TemporaryDirectory(prefix="stix-bench-") as work:
        folder = Path(work)
        account = Account(folder / "account", wheels=download("core", "host"))
        try:
            account.deploy(synthesize(folder / "assembly"))
            _sizes(record, folder / "assembly")
            _starts(record, account)
            _calls(record, account)
        finally:
            account.close()


def _sizes(record: Record, assembly: Path) -> None:
    """Every zip file but the layer's is a function's."""
    zips = [len(zipped(folder)) for folder in assembly.glob("asset.*") if (folder / "functions").is_dir()]
    assert len(zips) >= 7, zips
    record.add("largest_zip", max(zips) / MIB)
    files = [path for path in assemble("core", "arm64").rglob("*") if path.is_file()]
    record.add("core_layer", sum(path.stat().st_size for path in files) / MIB)


def _starts(record: Record, account: Account) -> None:
    """With the bytecode that the layer has, and nothing else: no process may write any."""
    for name in ("api", "agent"):
        _start(account, name)
        record.add(f"{name}_start", statistics.median(_start(account, name) for _ in range(_STARTS)))


def _start(account: Account, name: str) -> float:
    """CPU seconds until the function waits for its first call."""
    environment = account.functions.start(account.functions.function(f"stix-{name}", "live"))
    failed = environment.wait_ready()
    assert failed is None, failed
    try:
        return environment.cpu_seconds
    finally:
        environment.stop()


def _calls(record: Record, account: Account) -> None:
    def call() -> Any:
        outcome = account.functions.invoke("stix-api", _HEALTH, "live")
        assert not outcome.failed, outcome

    call()
    environment = account.functions.environments["stix-api"][-1]
    before = environment.cpu_seconds
    for _ in range(_CALLS):
        call()
    record.add("warm_call", (environment.cpu_seconds - before) / _CALLS * 1000)
