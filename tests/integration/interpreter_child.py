"""A process that runs the interpreter on a database file; the durability test kills it and starts it again.

Every invocation writes a line to the journal before it does anything else. Functions that are told to hold
block while the file ``hold`` exists. Where the file ``later`` is there, its clock says so much later.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from stix.adapters.sqlite_database import SqliteDatabase
from stix.local.interpreter import Definition, Interpreter, WorkflowDriver


def main(folder: Path) -> None:
    journal_lock = threading.Lock()

    def write(line: str) -> None:
        with journal_lock, (folder / "journal").open("a", encoding="utf-8") as journal:
            journal.write(line + "\n")
            journal.flush()
            os.fsync(journal.fileno())

    def invoke(function: str, payload: dict[str, Any]) -> Any:
        write(f"{function} {payload['id']} {payload.get('token', '')}".strip())
        hold = payload.get("hold", False) and (folder / "hold").exists()
        if hold:
            threading.Event().wait()
        return {"id": payload["id"]}

    def now() -> float:
        return time.time() + later

    later = float((folder / "later").read_text()) if (folder / "later").exists() else 0.0
    text = (folder / "machine.asl.json").read_text(encoding="utf-8")
    interpreter = Interpreter(
        SqliteDatabase(folder / "state.db"), {"crash": Definition.from_text("crash", text)}, invoke, clock=now
    )
    pools = {name: ThreadPoolExecutor(4) for name in ("item", "work", "ask")}
    driver = WorkflowDriver(
        interpreter, lambda function, call, order: pools[function].submit(call) and None, clock=now
    )
    driver.start()
    interpreter.start("crash", "run", {"items": [{"id": n, "hold": n in (3, 4)} for n in range(8)]})
    print("started", flush=True)
    for line in sys.stdin:
        command, *rest = line.split()
        if command == "describe":
            run = interpreter.describe("run")
            assert run is not None
            answer = {"status": run.status, "output": run.output, "states": sorted(run.states)}
            print(json.dumps(answer), flush=True)
        else:
            interpreter.succeed(rest[0], {"answered": True})
            print("answered", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
