"""What stands under ``clouds.aws`` in the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from stix.model.errors import InvalidInputError

__all__ = ["AwsCloud", "from_config"]


class AwsCloud(BaseModel):
    """Settings of the cloud ``aws``; all may be left out.

    Attributes:
        endpoint_url: of EC2, SSM and STS, instead of AWS's own (a private endpoint).
        vpc_id: by region; else the default VPC, or one of ours.
        images: AMI by region, for machines without accelerators; ``accelerated_images`` for the others.
        instance_profile: name of the profile that machines get; none by default.
        capacity_reservations: id of a targeted reservation by instance type.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint_url: str = ""
    vpc_id: dict[str, str] = {}
    images: dict[str, str] = {}
    accelerated_images: dict[str, str] = {}
    instance_profile: str = ""
    capacity_reservations: dict[str, str] = {}


def from_config(config: Mapping[str, Any]) -> AwsCloud:
    """Raises ``InvalidInputError`` that names the field."""
    try:
        return AwsCloud.model_validate(dict(config))
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        field = ".".join(str(part) for part in ("clouds", "aws", *first["loc"]))
        known = ", ".join(AwsCloud.model_fields)
        raise InvalidInputError(
            f"{field}: {first['msg']} (it is {first['input']!r}).",
            hint=f"Known settings are: {known}.",
            details={"field": field, "value": str(first["input"])},
        ) from exc
