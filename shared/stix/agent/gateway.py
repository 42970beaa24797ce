"""A node that is a gateway: keeps the gateway's process as the control plane's view says."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from typing import Callable, List

from .backoff import Backoff
from .config import AgentConfig
from .files import Json
from .gateway_door import Door
from .gateway_process import GatewayProcess
from .http_channel import HttpChannel, RefusedError, UnreachableError
from .membership import Membership

log = logging.getLogger("stix.agent.gateway")

_LOOK_SECONDS = 0.5


class Gateway:
    """``update`` returns at once; the work is done by ``run``. ``digest`` names the view that it has;
    ``tell_door`` publishes where tunnels end."""

    def __init__(
        self, config: AgentConfig, membership: Membership, tell_door: Callable[[Json], None]
    ) -> None:
        self._config, self._membership, self._tell_door = config, membership, tell_door
        self._door = Door(config)
        # On the node's own address where all nodes share a machine.
        bind = config.address if config.address.startswith("127.") else "*"
        self._process = GatewayProcess(
            os.path.join(config.state_dir, "gateway"), [*_command(), "--bind", bind]
        )
        self.digest = ""
        self._wanted: Json = {}
        self._changed = threading.Event()
        self._problem = ""

    @property
    def begun(self) -> bool:
        """Whether this node is a gateway."""
        return bool(self.digest)

    def update(self, digest: str, view: Json) -> None:
        self.digest, self._wanted = digest, view
        self._changed.set()

    def run(self, stopping: threading.Event) -> None:
        """Until the stop, which leaves the gateway running. Raises what Membership.call raises for good."""
        channel = HttpChannel()
        backoff = Backoff(self._config.tunables.backoff_first, self._config.tunables.backoff_last)
        told_at = 0.0
        while not stopping.is_set():
            self._changed.wait(_LOOK_SECONDS)
            if self._changed.is_set():
                self._changed.clear()
                self._take_view()
            self._door.ensure()
            problem = self._process.ensure()
            if problem and problem != self._problem:
                self._problem = problem
                log.error("the gateway does not run", extra={"detail": problem})
            now = time.time()
            status = self._process.news(now) if time.monotonic() >= told_at else None
            if status is None:
                continue
            try:
                self._membership.call(channel, "gateway", {"status": status})
                self._process.told(status, now)
                backoff.reset()
            except (UnreachableError, RefusedError) as exc:
                log.info("the status cannot be sent", extra={"detail": str(exc)})
                told_at = time.monotonic() + backoff.next()

    def _take_view(self) -> None:
        view = dict(self._wanted)
        before = self._door.facts
        self._door.admit(view.pop("tunnels", []))
        if self._door.facts != before:
            self._tell_door(self._door.facts)
        self._process.publish(view)


def _command() -> List[str]:
    """What starts a gateway: this very archive, or the package beside this one."""
    archive = os.path.abspath(sys.argv[0])
    if os.path.isfile(archive) and not archive.endswith(".py"):
        return [sys.executable, *(["-I"] if sys.flags.isolated else []), archive, "gateway"]
    return [sys.executable, "-m", "stix.gateway"]
