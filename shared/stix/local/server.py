"""The process of the embedded control plane: from its start to its clean end."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import stix
from stix.local.composition import Embedded, compose
from stix.local.functions import Handler, import_handlers
from stix.local.gateway import Gateway
from stix.local.home import Home, ServerFile, ServerLock, write_private
from stix.local.http_server import HttpServer
from stix.local.interpreter import DefinitionError
from stix.local.listening import LOOPBACK, listen
from stix.local.transfers import Transfers
from stix.model.errors import ConflictError, InvalidInputError, StixError, UnavailableError
from stix.ports.state_store import StoreCorruptError
from stix.runtime.bootstrap import install

__all__ = ["serve"]

logger = logging.getLogger(__name__)

GRACE_SECONDS = 5.0

_LOCK_SECONDS = 2 * GRACE_SECONDS
_OPEN_FILES = 65_536


def serve(
    home: Path,
    *,
    port: int | None = None,
    public_url: str | None = None,
    ready_descriptor: int | None = None,
    handlers: Mapping[str, Handler] | None = None,
    state_machines: Path | None = None,
) -> int:
    """Run until SIGTERM or SIGINT; the process's exit code.

    Readiness, or the reason why there is none, goes to ``ready_descriptor`` as one line of JSON, or to
    standard error. ``public_url`` None keeps the last one, empty forgets it.
    """
    _log_to_stderr()
    report = _Report(ready_descriptor)
    try:
        _serve(Home(home.expanduser().absolute()), port, public_url, report, handlers, state_machines)
    except StixError as exc:
        report.failed(exc)
        return 2 if isinstance(exc, InvalidInputError) else 1
    except (StoreCorruptError, DefinitionError) as exc:
        report.failed(UnavailableError(str(exc), code="state_unreadable"))
        return 1
    return 0


def _serve(
    home: Home,
    port: int | None,
    public_url: str | None,
    report: _Report,
    handlers: Mapping[str, Handler] | None,
    state_machines: Path | None,
) -> None:
    os.umask(0o077)
    home.prepare()
    lock = _hold(home)
    home.forget_server()
    url = _public_url(home, public_url)
    listener = listen(port, home.last_port(), home.folder)
    try:
        local_url = f"http://{LOOPBACK}:{listener.getsockname()[1]}"
        embedded = compose(
            home,
            import_handlers() if handlers is None else handlers,
            local_url=lambda: local_url,
            public_url=url,
            state_machines=state_machines,
        )
        install(embedded.world)
        write_private(home.api_url_file, local_url + "\n")
        _allow_many_connections()
        finished = asyncio.run(_run(home, embedded, listener, local_url, url, report))
    finally:
        listener.close()
        home.forget_server()
    lock.release()
    if not finished:
        # Threads that hang in a call cannot be ended, and nothing of theirs is waited for.
        logging.shutdown()
        os._exit(0)


async def _run(
    home: Home, embedded: Embedded, listener: socket.socket, local_url: str, public_url: str, report: _Report
) -> bool:
    """Serve until told to stop; whether all threads have ended."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    embedded.parking.attach(loop)
    embedded.sockets.attach(loop)
    transfers = Transfers(embedded.objects, embedded.world.clock)
    hosts = frozenset({LOOPBACK, "localhost", "::1", urlsplit(public_url).hostname or LOOPBACK})
    gateway = Gateway(
        embedded.functions, embedded.parking, transfers, lambda: hosts, sockets=embedded.sockets
    )
    server = HttpServer(gateway, listener)
    embedded.start()
    await server.start()
    home.write_server(ServerFile(local_url, os.getpid(), time.time(), stix.__version__))
    report.ready(local_url)
    logger.info("stix %s serves %s on %s", stix.__version__, home.folder, local_url)
    # What exists now stays: the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    await stopping.wait()
    logger.info("stopping")
    home.forget_server()
    embedded.parking.close()
    await server.stop(GRACE_SECONDS)
    ended = await asyncio.to_thread(embedded.stop, GRACE_SECONDS)
    return transfers.close(0.0) and ended


def _hold(home: Home) -> ServerLock:
    """The lock that one server per folder can have.

    It is waited for while its holder is on the way out, or is a command that looks at the status.
    """
    lock = ServerLock(home.lock_file)
    deadline = time.monotonic() + _LOCK_SECONDS
    while not lock.acquire():
        running = home.server()
        if (running and running.pid == home.running_pid()) or time.monotonic() > deadline:
            raise ConflictError(
                f"Another server (process {home.running_pid() or 'unknown'}) runs in {home.folder} already.",
                hint="Use it, or stop it with `stix api stop`.",
                code="already_running",
            )
        time.sleep(0.01)
    return lock


def _public_url(home: Home, asked: str | None) -> str:
    """Raises ``InvalidInputError``."""
    if asked is None:
        return home.last_public_url()
    parts = urlsplit(asked)
    if asked and (parts.scheme not in ("http", "https") or not parts.hostname or parts.query):
        raise InvalidInputError(
            f"public_url is {asked!r}, which is not an address.",
            hint="Write it as https://stix.example.org, where your tunnel to this machine ends.",
            details={"field": "public_url", "value": asked},
        )
    write_private(home.public_url_file, asked.rstrip("/"))
    return asked.rstrip("/")


def _allow_many_connections() -> None:
    """A parked request holds a connection; the usual soft limit of 1,024 is for programs that use select."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class _Report:
    """Tells whoever started this process how the start went."""

    def __init__(self, descriptor: int | None):
        self._descriptor = descriptor

    def ready(self, url: str) -> None:
        if self._descriptor is None:
            print(f"stix listens on {url}", file=sys.stderr)  # noqa: T201 - in the foreground
        else:
            self._write({"url": url})

    def failed(self, error: StixError) -> None:
        if self._descriptor is None:
            print(error, file=sys.stderr)  # noqa: T201 - in the foreground
            return
        logger.error("%s", error)
        user = isinstance(error, InvalidInputError)
        self._write(
            {"error": {"code": error.code, "message": error.message, "hint": error.hint, "user": user}}
        )

    def _write(self, outcome: Mapping[str, object]) -> None:
        if self._descriptor is not None:
            os.write(self._descriptor, json.dumps(outcome).encode() + b"\n")
            os.close(self._descriptor)
            self._descriptor = None


class _Formatter(logging.Formatter):
    """Adds what a record carries as ``extra``."""

    _standard = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}

    def format(self, record: logging.LogRecord) -> str:
        extra = {name: value for name, value in vars(record).items() if name not in self._standard}
        text = super().format(record)
        return f"{text} {json.dumps(extra, default=str)}" if extra else text


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
