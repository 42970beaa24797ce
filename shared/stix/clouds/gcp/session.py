"""Who we are at Google, and the SDK's clients. The SDK is imported when the first client is made."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stix.clouds.gcp.errors import translated
from stix.clouds.gcp.facts import FACTS, credentials_file
from stix.clouds.gcp.settings import GcpCloud
from stix.model.errors import CredentialsError

__all__ = ["Session"]

_SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
_TIMEOUTS = (5.0, 30.0)
"""To connect and to read, in seconds: of every request, those for tokens too."""


class Session:
    """Credentials and clients, made once, used from any thread."""

    def __init__(self, settings: GcpCloud) -> None:
        self._settings = settings
        self._lock = threading.RLock()
        self._adapter: Any = None
        self._loaded: Any = None
        self._clients: dict[str, Any] = {}
        self._info: dict[str, Any] = {}

    @property
    def project(self) -> str:
        """Raises ``CredentialsError`` where nobody names one."""
        found = (
            self._settings.project
            or os.environ.get("GOOGLE_CLOUD_PROJECT")
            or self._described().get("project_id")
            or self._described().get("quota_project_id")
        )
        if not found:
            raise CredentialsError(
                "No Google Cloud project is named.", hint="Set clouds.gcp.project.", provider_code="NoProject"
            )
        return str(found)

    @property
    def account(self) -> str:
        """The account's email where its credentials say it, else what kind of credentials they are."""
        info = self._described()
        impersonated = str(info.get("service_account_impersonation_url") or "").rpartition("/")[2]
        return str(info.get("client_email") or impersonated.partition(":")[0] or info.get("type"))

    def client(self, name: str) -> Any:
        """``Instances``, ``Networks``, ``RegionOperations`` …: of ``google.cloud.compute_v1``. Its REST
        transport, sent once: a repetition by the SDK would hide that the outcome of the first is unknown."""
        with self._lock:
            if name not in self._clients:
                self._clients[name] = self._connect(name)
            return self._clients[name]

    def call(self, client: str, method: str, *absent: str, **request: Any) -> Any:
        """One call, without the SDK's own repetitions; None for a reason among ``absent``."""
        with translated(*absent):
            return getattr(self.client(client), method)(
                request={"project": self.project, **request}, retry=None
            )
        return None

    def _connect(self, name: str) -> Any:
        from google.cloud import compute_v1

        self._loaded = self._loaded or self._credentials()
        options = {"api_endpoint": self._settings.endpoint_url} if self._settings.endpoint_url else None
        with translated():
            client = getattr(compute_v1, f"{name}Client")(
                credentials=self._loaded, transport="rest", client_options=options
            )
        # All clients share their connections; the token they share with the credentials.
        self._adapter = self._adapter or _adapter()
        for session in (client.transport._session, client.transport._session._auth_request.session):
            for scheme in ("https://", "http://"):
                session.mount(scheme, self._adapter)
        return client

    def _described(self) -> dict[str, Any]:
        """What the credentials' file says."""
        with self._lock:
            if not self._info:
                self._info = self._settings.federation or self._settings.key or self._read()
            return self._info

    def _read(self) -> dict[str, Any]:
        path = self._settings.credentials_file or credentials_file(os.environ, str(Path.home()))
        # Google's own search would go on to ask a metadata service, for seconds where there is none.
        if not path:
            raise CredentialsError(
                "No Google credentials were found.",
                hint=FACTS.credentials_hint,
                provider_code="NoCredentials",
            )
        try:
            content = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
        except (OSError, ValueError) as exc:
            raise CredentialsError(
                f"The Google credentials in {path} cannot be read: {exc}",
                hint=FACTS.credentials_hint,
                provider_code="NoCredentials",
            ) from exc
        return dict(content) if isinstance(content, dict) else {"type": type(content).__name__}

    def _credentials(self) -> Any:
        with translated():
            try:
                return _load(self._described())
            except (KeyError, ValueError) as exc:
                raise CredentialsError(
                    f"Google credentials cannot be used: {exc}",
                    hint=FACTS.credentials_hint,
                    provider_code="BadCredentials",
                ) from exc


def _load(info: Mapping[str, Any]) -> Any:
    """By their type, without a request: the SDK's own loader asks for the project of federated ones."""
    kind = info.get("type")
    made: Any
    if kind == "service_account":
        from google.oauth2 import service_account

        made = service_account.Credentials
        return made.from_service_account_info(info, scopes=_SCOPES)
    if kind == "authorized_user":
        from google.oauth2 import credentials

        made = credentials.Credentials
        return made.from_authorized_user_info(info, scopes=_SCOPES)
    if kind == "impersonated_service_account":
        from google.auth import impersonated_credentials

        made = impersonated_credentials.Credentials
        return made.from_impersonated_service_account_info(info, scopes=_SCOPES)
    if kind == "external_account":
        from google.auth import aws, identity_pool

        source = info.get("credential_source") or {}
        from_aws = str(source.get("environment_id") or "").startswith("aws")
        return (aws if from_aws else identity_pool).Credentials.from_info(info, scopes=_SCOPES)
    raise ValueError(f"they are of the unknown type {kind!r}")


def _adapter() -> Any:
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    class Adapter(HTTPAdapter):
        def send(self, request: Any, *arguments: Any, **options: Any) -> Any:
            return super().send(request, *arguments, **{**options, "timeout": _TIMEOUTS})

    # A connection that was never made can be tried again: nobody heard the request.
    retries = Retry(total=1, connect=1, read=0, redirect=0, status=0, other=0)
    return Adapter(max_retries=retries, pool_maxsize=16)
