"""An offer: one kind of machine, in one place, at one price."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["Offer"]


class Offer(BaseModel):
    """Price in USD per machine-hour, as of an epoch second; memory in GiB.

    ``elastic``: any size up to this one can be had (a slice of this machine, of a Kubernetes node).
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    cloud: str
    region: str
    zone: str = ""
    instance_type: str
    spot: bool = False
    vcpus: float
    memory_gib: float
    accelerator: str = ""
    accelerator_count: float = 0
    price: float
    price_as_of: float = 0
    elastic: bool = False

    @property
    def place(self) -> str:
        """``cloud/region[/zone]`` as people write it in ``infra``."""
        return "/".join(part for part in (self.cloud, self.region, self.zone) if part)
