"""What every runner of a node shares."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Callable, Optional

from .config import AgentConfig
from .files import Json
from .hosts import Hosts
from .log_shipping import LogShipping
from .membership import Membership
from .mounts import Mounts

if TYPE_CHECKING:
    from .containers import Containers

# Returns "" when the other agent answered with the cluster's key, else why not.
Probe = Callable[[str, int], str]


class Surroundings:
    """Of one node."""

    def __init__(
        self,
        config: AgentConfig,
        membership: Membership,
        mounts: Mounts,
        shipping: LogShipping,
        probe: Probe,
        peer_address: Callable[[int], Optional[Json]],
        hosts: Hosts,
        facts: Json,
    ) -> None:
        self.config = config
        self.membership = membership
        self.mounts = mounts
        self.shipping = shipping
        self.probe = probe
        self.peer_address = peer_address
        self.hosts = hosts
        self._facts = facts
        self._lock = threading.Lock()
        self._containers: Optional[Containers] = None

    @property
    def containers(self) -> Containers:
        """Made on first use: most nodes run no container, and what it imports is not small."""
        from .containers import Containers

        with self._lock:
            if self._containers is None:
                self._containers = Containers(self.config, self._facts)
            return self._containers
