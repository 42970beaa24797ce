"""Starts, finds and stops the embedded control plane. Every command passes here: standard library only."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import stix
from stix.local.home import Home, ServerFile, ServerLock
from stix.model.errors import ConflictError, InvalidInputError, UnavailableError

__all__ = [
    "Endpoint",
    "ServerStatus",
    "ensure_running",
    "read_endpoint",
    "status",
    "stop",
]

START_SECONDS = 60.0
STOP_SECONDS = 15.0

_POLL_SECONDS = 0.02
_LOG_LINES = 20

ServerStatus = ServerFile
"""What ``status`` tells: ``url``, ``pid``, ``started_at`` (epoch seconds), ``version``."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to call, and with which bearer token."""

    url: str
    token: str


def ensure_running(
    home: Path,
    port: int | None = None,
    *,
    public_url: str | None = None,
    command: Sequence[str] | None = None,
) -> Endpoint:
    """The running server's endpoint; starts one, detached from this process, when none runs.

    An older server than this package is replaced: its state, and whatever runs on its machines, stays.
    Commands that do this at the same time start one server. Raises ``InvalidInputError`` when ``port`` is
    taken or the server runs elsewhere, ``ForbiddenError`` for unsafe files, ``UnavailableError`` with the
    log's last lines when the server does not start. ``command`` stands in for ``python -m stix.local serve``.
    """
    place = Home(home.expanduser().absolute())
    endpoint = _reuse(place, port, public_url)
    if endpoint is not None:
        return endpoint
    place.prepare()
    place.token()  # unsafe files are refused before anything is started
    lock = ServerLock(place.start_lock_file)
    deadline = time.monotonic() + START_SECONDS
    while not lock.acquire():
        # Another command is starting the server: its result serves this one as well.
        if time.monotonic() > deadline:
            raise UnavailableError(
                f"Another command has been starting the server for {START_SECONDS:g} seconds.",
                hint=f"Look into {place.log_file}.",
            )
        time.sleep(_POLL_SECONDS)
    try:
        endpoint = _reuse(place, port, public_url)
        if endpoint is not None:
            return endpoint
        _start(place, port, public_url, command or (sys.executable, "-P", "-m", "stix.local", "serve"))
    finally:
        lock.release()
    started = read_endpoint(place.folder)
    if started is None:
        raise UnavailableError("The server started and ended again at once.", hint=_log_hint(place))
    return started


def read_endpoint(home: Path) -> Endpoint | None:
    """The endpoint of a server that lives and has become ready; reads three small files, sends nothing."""
    place = Home(home.expanduser().absolute())
    server = _living(place)
    if server is None:
        return None
    token = place.token()
    return Endpoint(server.url, token) if token else None


def status(home: Path) -> ServerStatus | None:
    """The living server, None when there is none or it is still starting."""
    return _living(Home(home.expanduser().absolute()))


def stop(home: Path) -> bool:
    """End the server and wait until it has; False when none was running. Machines and their jobs go on.

    One that does not end by itself is killed, which loses nothing; ``UnavailableError`` if even that fails.
    """
    place = Home(home.expanduser().absolute())
    pid = place.running_pid()
    if pid is None:
        return False
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            if place.running_pid() != pid:
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)  # when this very process had started it
                return True
            time.sleep(_POLL_SECONDS)
    raise UnavailableError(f"The server (process {pid}) does not end.", hint=_log_hint(place))


def _living(place: Home) -> ServerFile | None:
    server = place.server()
    if server is None or place.running_pid() != server.pid:
        return None
    return server


def _reuse(place: Home, port: int | None, public_url: str | None) -> Endpoint | None:
    """The endpoint of a running server that will do; an outdated one is stopped."""
    server = _living(place)
    if server is None:
        return None
    if _version(server.version) < _version(stix.__version__):
        stop(place.folder)
        return None
    running_port = server.url.rpartition(":")[2]
    if port is not None and str(port) != running_port:
        raise InvalidInputError(
            f"The server runs on port {running_port} already, not on {port}.",
            hint="Stop it first: `stix api stop`.",
            details={"field": "port", "value": port},
        )
    if public_url is not None and public_url != place.last_public_url():
        raise ConflictError(
            f"The server runs already, without the public address {public_url}.",
            hint="Stop it first: `stix api stop`.",
        )
    return read_endpoint(place.folder)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())


def _start(place: Home, port: int | None, public_url: str | None, command: Sequence[str]) -> None:
    """Start the server and wait until it is ready. It answers through a pipe, whose end tells its death."""
    with suppress(FileNotFoundError):
        os.replace(place.log_file, place.log_file.with_suffix(".log.1"))
    report, reporting = os.pipe()
    try:
        log = os.open(place.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.set_inheritable(reporting, True)
        arguments = [*command, "--home", str(place.folder), "--ready-fd", str(reporting)]
        if port is not None:
            arguments += ["--port", str(port)]
        if public_url is not None:
            arguments += ["--public-url", public_url]
        try:
            pid = os.posix_spawn(
                arguments[0],
                arguments,
                _environment(),
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, log, 1),
                    (os.POSIX_SPAWN_DUP2, log, 2),
                ],
                setsid=True,
            )
        finally:
            os.close(log)
            os.close(reporting)
            reporting = -1
        _await_ready(place, pid, report)
    finally:
        os.close(report)
        if reporting >= 0:
            os.close(reporting)


def _await_ready(place: Home, pid: int, report: int) -> None:
    readable, _, _ = select.select([report], [], [], START_SECONDS)
    if not readable:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise UnavailableError(
            f"The server was not ready within {START_SECONDS:g} seconds.", hint=_log_hint(place)
        )
    text = os.read(report, 65536)
    if not text:
        os.waitpid(pid, 0)
        raise UnavailableError(
            f"The server ended before it was ready: {_last_log_lines(place)}", hint=_log_hint(place)
        )
    outcome = json.loads(text)
    if "error" in outcome:
        os.waitpid(pid, 0)
        error = outcome["error"]
        kind = InvalidInputError if error["user"] else UnavailableError
        raise kind(error["message"], hint=error["hint"], code=error["code"])


def _environment() -> dict[str, str]:
    """The server runs this very package, wherever it was imported from."""
    environment = dict(os.environ)
    # Two arenas instead of eight per core: the many threads are idle most of the time.
    environment.setdefault("MALLOC_ARENA_MAX", "2")
    source = Path(stix.__file__).resolve().parent.parent
    if source.name not in ("site-packages", "dist-packages"):
        rest = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = f"{source}{os.pathsep}{rest}" if rest else str(source)
    return environment


def _log_hint(place: Home) -> str:
    return f"The whole log is in {place.log_file}."


def _last_log_lines(place: Home) -> str:
    try:
        lines = place.log_file.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return "it wrote no log."
    said = [line.strip() for line in lines[-_LOG_LINES:] if line.strip()]
    if any(line.startswith("Traceback ") for line in said):
        said = said[-1:]  # The exception itself: how it came about is in the log.
    return " | ".join(said)[-2000:] or "it said nothing."
