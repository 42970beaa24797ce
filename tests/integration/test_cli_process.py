"""The command as a process: what it imports, and how it behaves in pipes and under signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import stix
from stix.api import v1
from stix.sdk.logs import Frame, encode_frame

JOB = v1.Job(id=1, cluster="dev", status="RUNNING", submitted_at=0.0).model_dump(mode="json")
LINES = 200_000
MARK = "modules:"
# Runs the console script's function, then tells what it has imported.
PROBE = (
    "import atexit, sys; sys.argv[0] = 'stix'; "
    f"atexit.register(lambda: print('{MARK}' + ','.join(sys.modules), file=sys.stderr)); "
    "from stix.cli.entry import main; main()"
)
HEAVY = {"pydantic", "boto3", "botocore", "aws_lambda_powertools", "uvicorn", "yaml"}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    held: threading.Event

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if path == "/v1/clusters":
            self.answer({"clusters": [], "next": None})
        elif path.startswith("/chunk"):
            text = b"".join(b"line %d\n" % n for n in range(LINES // 8))
            frames = [Frame(1, 0, text[at : at + 65536]) for at in range(0, len(text), 65536)]
            self.send(b"".join(encode_frame(frame) for frame in frames))
        elif path.endswith("/logs"):
            self.log_page("wait=" in query)
        else:
            self.answer({"error": {"code": "not_found", "message": path}}, 404)

    def log_page(self, waits: bool) -> None:
        if waits:
            # Held until the test is over, as the embedded server holds it while there is nothing new.
            self.held.wait(30)
        host = self.headers["Host"]
        chunks = [{"n": n, "url": f"http://{host}/chunk{n}", "headers": {}} for n in range(8)]
        node = {"rank": 0, "address": "", "count": 8, "complete": False, "chunks": [] if waits else chunks}
        self.answer({"job": JOB, "nodes": [node], "cursor": "0:8", "done": False})

    def answer(self, document: Any, status: int = 200) -> None:
        self.send(json.dumps(document).encode(), status)

    def send(self, body: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    class OwnHandler(Handler):
        held = threading.Event()

        def handle(self) -> None:
            # A client that is killed in the middle of an answer is part of these tests.
            try:
                super().handle()
            except ConnectionError:
                return

    with ThreadingHTTPServer(("127.0.0.1", 0), OwnHandler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        OwnHandler.held.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    source = str(Path(stix.__file__).parent.parent)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("STIX_", "PYTHON"))}
    return kept | {"STIX_HOME": str(tmp_path), "PYTHONPATH": source}


def probe(environ: dict[str, str], *arguments: str) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments], env=environ, capture_output=True, text=True, timeout=120
    )
    modules = next(line for line in done.stderr.splitlines() if line.startswith(MARK))
    return done, set(modules.removeprefix(MARK).split(","))


def connected(environ: dict[str, str], server: ThreadingHTTPServer) -> dict[str, str]:
    return environ | {"STIX_API_URL": f"http://127.0.0.1:{server.server_port}", "STIX_API_TOKEN": "t"}


def test_version_imports_nothing_when_it_only_prints(environ: dict[str, str]) -> None:
    done, modules = probe(environ, "--version")
    assert done.stdout == f"stix {stix.__version__}\n"
    assert not modules & (HEAVY | {"click", "httpx", "json", "stix.sdk"})


@pytest.mark.parametrize("arguments", [["--help"], ["launch", "--help"], ["status", "--help"]])
def test_help_imports_no_client_and_no_models(environ: dict[str, str], arguments: list[str]) -> None:
    done, modules = probe(environ, *arguments)
    assert done.returncode == 0
    assert "click" in modules
    assert not modules & (HEAVY | {"httpx", "ssl"})


@pytest.mark.parametrize("arguments", [["status"], ["status", "-o", "json"], ["queue"]])
def test_reading_imports_no_models_and_no_server(
    environ: dict[str, str], server: ThreadingHTTPServer, arguments: list[str]
) -> None:
    done, modules = probe(connected(environ, server), *arguments)
    assert done.returncode == 0, done.stderr
    assert "httpx" in modules
    assert not modules & HEAVY


def test_completion_script_is_printed_when_the_shell_asks(environ: dict[str, str]) -> None:
    done, _ = probe(environ | {"_STIX_COMPLETE": "bash_source"})
    assert "_STIX_COMPLETE=bash_complete" in done.stdout


def test_completion_names_commands(environ: dict[str, str]) -> None:
    asked = {"_STIX_COMPLETE": "bash_complete", "COMP_WORDS": "stix la", "COMP_CWORD": "1"}
    done, _ = probe(environ | asked)
    assert done.stdout == "plain,launch\n"


def test_broken_pipe_is_quiet(environ: dict[str, str], server: ThreadingHTTPServer) -> None:
    command = [sys.executable, "-c", "from stix.cli.entry import main; main()", "logs", "dev", "1"]
    with subprocess.Popen(
        command, env=connected(environ, server), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"line 0\n"
        process.stdout.close()
        assert process.wait(timeout=60) == 141
        assert process.stderr.read() == b"Job 1 runs on 1 node.\n"


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Children hear Ctrl-C, also where these tests run in the background and so do not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_interrupt_detaches_and_says_how_to_come_back(
    environ: dict[str, str], server: ThreadingHTTPServer
) -> None:
    command = [sys.executable, "-c", "from stix.cli.entry import main; main()", "logs", "dev", "1"]
    with subprocess.Popen(
        command, env=connected(environ, server), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in range(LINES // 8 * 8):
            assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        errors = process.stderr.read().decode()
    assert "Detached; the job goes on. Come back: stix logs dev 1\n" in errors
    assert "Traceback" not in errors


def test_refused_connection_names_the_fix(environ: dict[str, str], server: ThreadingHTTPServer) -> None:
    elsewhere = connected(environ, server) | {"STIX_API_URL": "http://127.0.0.1:1"}
    done, _ = probe(elsewhere, "status")
    message = done.stderr.partition(MARK)[0]
    assert done.returncode == 1
    assert message == (
        "stix: error: No control plane answers at http://127.0.0.1:1: Connection refused.\n"
        "  Check STIX_API_URL, or unset it to use the local control plane.\n"
    )


def test_proxy_is_not_used_for_the_loopback_address(
    environ: dict[str, str], server: ThreadingHTTPServer
) -> None:
    done, _ = probe(connected(environ, server) | {"HTTP_PROXY": "http://127.0.0.1:1"}, "status")
    assert done.returncode == 0, done.stderr
