"""The embedded control plane with tiny handlers, for tests of the runtime itself.

Handlers keep their words in files of the home's folder ``doubles``, so that a test can see what ran.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from stix.local.functions import FUNCTIONS
from stix.local.server import serve
from stix.runtime.bootstrap import bootstrap

MACHINE = {
    "StartAt": "Do it slowly",
    "States": {
        "Do it slowly": {
            "Type": "Task",
            "Resource": "arn:aws:states:::lambda:invoke",
            "Parameters": {"FunctionName": "${ProvisionFunctionArn}", "Payload.$": "$"},
            "TimeoutSeconds": 60,
            "End": True,
        }
    },
}


def answer(status: int, body: Any, **headers: str) -> dict[str, Any]:
    return {
        "statusCode": status,
        "headers": {"content-type": "application/json"}
        | {name.replace("_", "-"): value for name, value in headers.items()},
        "body": json.dumps(body),
    }


class Doubles:
    def __init__(self, folder: Path):
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.inside = 0
        self.met = threading.Event()
        self.lock = threading.Lock()

    def note(self, name: str, text: str) -> None:
        descriptor = os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(descriptor, text.encode() + b"\n")
        os.close(descriptor)

    def api(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        """What it does is in the path: fail, slow, start, wake, upload, download; else it echoes."""
        path, query = event["rawPath"], event.get("queryStringParameters", {})
        if path == "/v1/fail":
            raise RuntimeError("made to fail")
        if path == "/v1/slow":
            with self.lock:
                self.inside += 1
                assert self.inside <= FUNCTIONS["api"].threads, "more invocations than threads"
                self.note("together", str(self.inside))
                if self.inside > 1:
                    self.met.set()
            self.met.wait(30)  # for the second one, which a busy machine may bring late
            time.sleep(0.02)
            with self.lock:
                self.inside -= 1
        if path == "/v1/start":
            return answer(200, bootstrap().workflows.start("slow", query["name"], {"name": query["name"]}))
        if path == "/v1/wake":
            bootstrap().wake.wake(query["topic"])
        if path == "/v1/upload":
            target = bootstrap().objects.sign_put(
                query["key"], size=int(query["size"]), sha256=query.get("sha256"), expires_seconds=60
            )
            return answer(200, {"url": target.url, "headers": dict(target.headers)})
        if path == "/v1/download":
            return answer(200, {"url": bootstrap().objects.sign_get(query["key"], expires_seconds=60).url})
        return answer(200, event)

    def agent(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        """Says nothing, and asks to be parked, until the file ``word`` exists."""
        if event["rawPath"] != "/agent/v1/commands":
            return answer(200, event)
        word = self.folder / "word"
        said = word.read_text() if word.exists() else ""
        # Last: who sees this note may say the word, which is for the next look.
        self.note("agent", event["headers"].get("stix-parked", "first"))
        if said:
            return answer(200, {"word": said})
        return answer(200, {"word": ""}, stix_park="node/c/0", stix_park_seconds=event.get("body") or "20")

    def authorize(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        token = event["identitySource"][0].removeprefix("Bearer ")
        if token == "revoked":
            raise PermissionError("Unauthorized")
        return {"isAuthorized": token != "wrong", "context": {"user": "somebody"}}

    def provision(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        """Runs until the file ``finish`` exists."""
        self.note("provision", event["name"])
        while not (self.folder / "finish").exists():
            time.sleep(0.01)
        self.note("provisioned", event["name"])
        return {}

    def nothing(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        self.note("monitor", json.dumps(event))
        return {}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--port", type=int)
    parser.add_argument("--public-url")
    parser.add_argument("--ready-fd", type=int)
    options = parser.parse_args()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    if os.environ.get("STIX_TEST_EXIT"):
        print("the library libfoo is missing", file=sys.stderr)
        return 3
    doubles = Doubles(options.home / "doubles")
    machines = options.home / "machines"
    machines.mkdir(exist_ok=True)
    (machines / "slow.asl.json").write_text(json.dumps(MACHINE))
    handlers = {
        "api": doubles.api,
        "agent": doubles.agent,
        "authorize": doubles.authorize,
        "optimize": doubles.nothing,
        "provision": doubles.provision,
        "monitor": doubles.nothing,
    }
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
