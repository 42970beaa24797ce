"""Kubelets that run pods for real: as the processes that the boot script starts, on this machine."""

from __future__ import annotations

import base64
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.providers.hosts import Host
from tests.substrate.kubernetes.tenant import Tenant

__all__ = ["Kubelets"]

_PERIOD_SECONDS = 0.1


class Kubelets:
    """Of all nodes of a tenant, from their making to ``close``. ``machines``: by the name of the pod."""

    def __init__(self, tenant: Tenant, folder: Path) -> None:
        self.machines: dict[str, Host] = {}
        self._tenant = tenant
        self._folder = folder
        self._ending = threading.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._loop)
        self._thread.start()

    def close(self) -> None:
        """Raises what went wrong in them."""
        self._ending.set()
        self._thread.join()
        for host in self.machines.values():
            host.power_off()
        if self._failed is not None:
            raise self._failed

    def _loop(self) -> None:
        try:
            while not self._ending.wait(_PERIOD_SECONDS):
                for name, pod in self._tenant.objects("pods").items():
                    if pod["spec"].get("nodeName") and pod["spec"].get("volumes"):
                        self._keep(name, pod)
        except BaseException as exc:
            self._failed = exc

    def _keep(self, name: str, pod: Mapping[str, Any]) -> None:
        if pod["metadata"].get("deletionTimestamp"):
            if name in self.machines:
                self.machines[name].power_off()
            self._tenant.forget(name)
        elif name not in self.machines:
            volume = pod["spec"]["volumes"][0]["secret"]["secretName"]
            script = base64.b64decode(self._tenant.objects("secrets")[volume]["data"]["boot.sh"]).decode()
            environ = {"STIX_MACHINE_ID": name, "STIX_ADDRESS": "127.0.0.1"}
            host = Host(self._folder / name, script, metadata_url="", environ=environ)
            self.machines[name] = host
            host.power_on()
            self._tenant.say_running(name, "127.0.0.1")
