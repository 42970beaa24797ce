"""What the environment tells a function; read once, at bootstrap, and checked by name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["AwsSettings", "MissingSettingError"]


class MissingSettingError(Exception):
    """An environment variable that this function needs is not set."""


@dataclass(frozen=True, slots=True)
class AwsSettings:
    """Settings of a deployed function. Empty strings where a function has no use for a thing."""

    deployment: str
    table: str
    objects_bucket: str
    secrets_bucket: str
    event_bus: str
    state_machine_arn_prefix: str
    api_url: str
    wake_url: str
    wake_endpoint: str
    clouds: tuple[str, ...] = ()
    cloud_function_prefix: str = ""

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> AwsSettings:
        """Raises ``MissingSettingError`` naming every variable that is absent."""
        missing = [name for name in ("STIX_DEPLOYMENT", "STIX_TABLE") if not environ.get(name)]
        if missing:
            raise MissingSettingError(f"environment variables not set: {', '.join(missing)}")
        return cls(
            deployment=environ["STIX_DEPLOYMENT"],
            table=environ["STIX_TABLE"],
            objects_bucket=environ.get("STIX_OBJECTS_BUCKET", ""),
            secrets_bucket=environ.get("STIX_SECRETS_BUCKET", ""),
            event_bus=environ.get("STIX_EVENT_BUS", ""),
            state_machine_arn_prefix=environ.get("STIX_STATE_MACHINE_ARN_PREFIX", ""),
            api_url=environ.get("STIX_API_URL", ""),
            wake_url=environ.get("STIX_WAKE_URL", ""),
            wake_endpoint=environ.get("STIX_WAKE_ENDPOINT", ""),
            clouds=tuple(name for name in environ.get("STIX_CLOUDS", "").split(",") if name),
            cloud_function_prefix=environ.get("STIX_CLOUD_FUNCTION_PREFIX", ""),
        )
