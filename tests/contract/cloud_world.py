"""What the worlds of all clouds share: how a gang is asked for, and throttling."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, ClassVar

from stix.model.errors import ProviderError
from stix.model.offer import Offer
from stix.ports.compute import AgentSource, GangRequest, Place
from tests.providers.faults import Kind

__all__ = ["CloudWorld"]


class CloudWorld:
    """``shape``: an offer's fields that a request has unless it names others; cloud and region are the
    place's. ``cannot``: cases by name, with the reason why this cloud has none. ``server`` has ``faults``."""

    place: ClassVar[Place]
    shape: ClassVar[Mapping[str, Any]]
    cannot: ClassVar[Mapping[str, str]] = {}
    refusals: ClassVar[Mapping[str, type[ProviderError]]]
    server: Any

    def request(
        self,
        token: str,
        count: int = 1,
        tags: Mapping[str, str] | None = None,
        deployment: str = "dep",
        ports: tuple[str, ...] = (),
        image: str = "",
        disk_size_gib: int = 0,
        disk_tier: str = "",
        **offer: Any,
    ) -> GangRequest:
        # Tokens are unique for a deployment, whose name is part of them.
        name = hashlib.sha256(f"{deployment} {token}".encode()).hexdigest()[:32]
        place = {"cloud": self.place.cloud, "region": self.place.region}
        return GangRequest(
            token=name,
            count=count,
            offer=Offer(**{**place, **self.shape, **offer}),
            tags={"stix-deployment": deployment, "stix-cluster": "c", "stix-intent": name, **(tags or {})},
            join_token="join",
            api_url="http://127.0.0.1:1",
            boot_seconds=60,
            agent=AgentSource("http://127.0.0.1:1", "f" * 64),
            ports=ports,
            image=image,
            disk_size_gib=disk_size_gib,
            disk_tier=disk_tier,
        )

    def throttle(self, times: int) -> None:
        self.server.faults.clear()
        if times:
            self.server.faults.add(Kind.THROTTLE, "*", times=times)
