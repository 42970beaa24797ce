"""The gateway beside the embedded control plane: a process that runs while there is a service.

The process is not the control plane's child for good: it goes on while none runs, and the next one
takes it over.
"""

from __future__ import annotations

import logging
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stix.agent.gateway_process import GatewayProcess
from stix.application.gateway_feed import workspace_view
from stix.application.gateway_reports import take_gateway_status
from stix.application.world import Gateways, World
from stix.gateway.haproxy import HaproxyError, find_haproxy

__all__ = ["LOCAL_GATEWAY", "GatewayKeeper", "missing_haproxy", "port_is_free"]

logger = logging.getLogger(__name__)

LOCAL_GATEWAY = "local"
"""The id of the one gateway that is such a process."""

_LOOK_SECONDS = 0.5
_AGAIN_SECONDS = 30.0
"""How often the whole view is read though nobody said that it changed."""


def missing_haproxy() -> str:
    """Why no gateway can run on this machine and how to change that; empty when one can."""
    try:
        find_haproxy()
    except HaproxyError as exc:
        return str(exc)
    return ""


def port_is_free(port: int) -> bool:
    """Whether nothing on this machine listens there, on the address of its gateway."""
    with socket.socket() as stream:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            stream.bind((Gateways().address, port))
        except OSError:
            return False
    return True


class GatewayKeeper:
    """``wake`` returns at once, from any thread; the work is done by one thread, which costs nothing while
    there is no service. ``stop`` leaves the gateway running. The program is the agent's archive,
    which has all of it however Stix was installed; ``archive`` makes the file."""

    def __init__(
        self,
        folder: Path,
        world: World,
        workspace: str,
        archive_file: Path,
        archive: Callable[[], object],
        read_view: Callable[[World, str], dict[str, Any]] = workspace_view,
    ):
        program = [sys.executable, "-I", str(archive_file), "gateway"]
        self._process = GatewayProcess(str(folder), [*program, "--bind", world.gateways.address])
        self._archive = archive
        self._world, self._workspace, self._read_view = world, workspace, read_view
        self._woken = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._read_at = 0.0
        self._serves = False
        self._problem = ""

    def start(self) -> None:
        self.wake()
        self._thread = threading.Thread(target=self._run, name="gateway", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """The view may have changed."""
        self._woken.set()

    def stop(self) -> None:
        self._stopping = True
        self.wake()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        patience: float | None = None
        while True:
            woken = self._woken.wait(patience)
            if self._stopping:
                return
            self._woken.clear()
            try:
                self._step(woken)
                patience = _LOOK_SECONDS if self._serves else None
            except Exception:
                logger.exception("the gateway cannot be kept now; tried again")
                patience, self._read_at = 10 * _LOOK_SECONDS, 0.0

    def _step(self, woken: bool) -> None:
        now = self._world.clock.now()
        process = self._process
        if woken or not self._read_at <= now < self._read_at + _AGAIN_SECONDS:
            view = self._read_view(self._world, self._workspace)
            self._read_at = now
            self._serves = bool(view["services"])
            if not self._serves:
                process.stop()
                return
            self._archive()
            process.publish(view)
        problem = process.ensure()
        if problem and problem != self._problem:
            self._problem = problem
            logger.error("the gateway does not run: %s", problem)
        status = process.news(now)
        if status is not None:
            take_gateway_status(self._world, self._workspace, LOCAL_GATEWAY, status)
            process.told(status, now)
