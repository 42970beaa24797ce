"""Azure's SDK clients, made when they are first used."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from stix.clouds.azure.facts import profile_path
from stix.clouds.azure.settings import AzureCloud
from stix.model.errors import CredentialsError

__all__ = ["Clients"]


class Clients:
    """The operations that the provider calls, over one credential.

    No call is repeated by the SDK: a repetition would hide that the outcome of the first is unknown, and the
    SDK sleeps before it.
    """

    def __init__(self, settings: AzureCloud, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self.subscription_id = (
            settings.subscription_id
            or environ.get("AZURE_SUBSCRIPTION_ID", "")
            or _active_subscription(environ)
        )
        if not self.subscription_id:
            raise CredentialsError(
                "No Azure subscription is named.",
                hint="Set clouds.azure.subscription_id or AZURE_SUBSCRIPTION_ID, or use `az account set`.",
                provider_code="NoSubscription",
            )
        self._lock = threading.RLock()

    @property
    def groups(self) -> Any:
        return self._resources.resource_groups

    @property
    def deployments(self) -> Any:
        return self._deployments.deployments

    @property
    def machines(self) -> Any:
        return self._compute.virtual_machines

    @property
    def usage(self) -> Any:
        return self._compute.usage

    @property
    def interfaces(self) -> Any:
        return self._network.network_interfaces

    @property
    def addresses(self) -> Any:
        return self._network.public_ip_addresses

    @cached_property
    def _resources(self) -> Any:
        from azure.mgmt.resource.resources import ResourceManagementClient

        return self._make(ResourceManagementClient)

    @cached_property
    def _deployments(self) -> Any:
        from azure.mgmt.resource.deployments import DeploymentsMgmtClient

        return self._make(DeploymentsMgmtClient)

    @cached_property
    def _compute(self) -> Any:
        from azure.mgmt.compute import ComputeManagementClient

        return self._make(ComputeManagementClient)

    @cached_property
    def _network(self) -> Any:
        from azure.mgmt.network import NetworkManagementClient

        return self._make(NetworkManagementClient)

    def _make(self, client: Any) -> Any:
        url = self._settings.endpoint_url.rstrip("/")
        with self._lock:
            return client(
                self._credential,
                self.subscription_id,
                base_url=url,
                credential_scopes=[f"{url}/.default"],
                retry_total=0,
                connection_timeout=5,
                read_timeout=30,
                user_agent="stix",
                **self._trust,
            )

    @property
    def _trust(self) -> dict[str, Any]:
        return {"connection_verify": self._settings.ca_file} if self._settings.ca_file else {}

    @cached_property
    def _credential(self) -> Any:
        import azure.identity

        given = self._settings
        options: dict[str, Any] = dict(self._trust)
        if given.authority:
            options |= {"authority": given.authority, "disable_instance_discovery": True}
        if given.client_secret:
            return azure.identity.ClientSecretCredential(
                given.tenant_id, given.client_id, given.client_secret, retry_total=0, **options
            )
        return azure.identity.DefaultAzureCredential(**options)


def _active_subscription(environ: Mapping[str, str]) -> str:
    """The one that ``az account set`` chose; empty where there is none."""
    try:
        text = Path(profile_path(environ, os.path.expanduser("~"))).read_text(encoding="utf-8-sig")
        known = json.loads(text)["subscriptions"]
        return next((str(one["id"]) for one in known if one.get("isDefault")), "")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ""
