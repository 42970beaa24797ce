"""The cloud ``local``: machines are process trees on this computer."""

from stix.clouds.local.compute import CLOUD, REGION, LocalCompute
from stix.clouds.local.host import Gpu, Host, discover_host

__all__ = ["CLOUD", "REGION", "Gpu", "Host", "LocalCompute", "discover_host"]
