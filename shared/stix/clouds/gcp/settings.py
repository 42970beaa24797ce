"""What stands under ``clouds.gcp`` in the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from stix.model.errors import InvalidInputError

__all__ = ["IMAGE_FORM", "GcpCloud", "from_config"]

IMAGE_FORM = "projects/PROJECT/global/images/NAME, or …/images/family/NAME"


class GcpCloud(BaseModel):
    """Settings of the cloud ``gcp``; all may be left out.

    Attributes:
        project: id of the project that machines are made in; else the credentials' own.
        endpoint_url: of Compute Engine, instead of Google's own (a private endpoint).
        federation: a workload identity configuration (``type: external_account``), which holds no secret.
        key: the content of a service account's key file, where there is no file: in the secrets bucket.
        credentials_file: path of a credentials file; else application default credentials.
        network: name of a VPC network in the project; else one of ours is made.
        subnetworks: by region, for a network whose subnets were made by hand.
        public_addresses: machines get a public address each. Without one they need Cloud NAT to call out.
        image: for machines without accelerators; ``accelerated_image`` for the others.
        service_account: email of the account that machines act as; none by default.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    project: str = ""
    endpoint_url: str = ""
    federation: dict[str, Any] = {}
    key: dict[str, Any] = {}
    credentials_file: str = ""
    network: str = ""
    subnetworks: dict[str, str] = {}
    public_addresses: bool = True
    image: str = ""
    accelerated_image: str = ""
    service_account: str = ""

    @field_validator("federation")
    @classmethod
    def _without_secret(cls, value: dict[str, Any]) -> dict[str, Any]:
        if value and value.get("type") != "external_account":
            raise ValueError("must be of type external_account; a key goes into key or credentials_file")
        return value

    @field_validator("key")
    @classmethod
    def _of_a_service_account(cls, value: dict[str, Any]) -> dict[str, Any]:
        if value and value.get("type") != "service_account":
            raise ValueError("must be the content of a service account's key file")
        return value

    @field_validator("image", "accelerated_image")
    @classmethod
    def _an_image(cls, value: str) -> str:
        if value and "/images/" not in value:
            raise ValueError(f"must be {IMAGE_FORM}")
        return value


def from_config(config: Mapping[str, Any]) -> GcpCloud:
    """Raises ``InvalidInputError`` that names the field."""
    try:
        return GcpCloud.model_validate(dict(config))
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        field = ".".join(str(part) for part in ("clouds", "gcp", *first["loc"]))
        known = ", ".join(GcpCloud.model_fields)
        # What was written there may be a secret: it is not repeated.
        secret = first["loc"][:1] in (("federation",), ("key",))
        shown = "" if secret else f" (it is {first['input']!r})"
        raise InvalidInputError(
            f"{field}: {first['msg']}{shown}.",
            hint=f"Known settings are: {known}.",
            details={"field": field, "value": "" if not shown else str(first["input"])},
        ) from exc
