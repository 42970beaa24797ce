"""What stands under ``clouds.azure`` in the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from stix.model.errors import InvalidInputError

__all__ = ["IMAGE_HINT", "AzureCloud", "from_config", "is_image"]

IMAGE_HINT = "Write publisher:offer:sku:version, or a resource id that begins with /subscriptions/."


def is_image(name: str) -> bool:
    parts = name.split(":")
    return name.startswith("/subscriptions/") or (len(parts) == 4 and all(parts))


def _image(name: str) -> str:
    if name and not is_image(name):
        raise ValueError(f"it is no image of Azure. {IMAGE_HINT}")
    return name


def _resource_id(text: str) -> str:
    if not text.startswith("/subscriptions/"):
        raise ValueError("it is no resource id. Write all of it, from /subscriptions/ on")
    return text


def _https(url: str) -> str:
    if url and not url.startswith("https://"):
        raise ValueError("no token is sent without TLS. Write https://")
    return url


_Image = Annotated[str, AfterValidator(_image)]
_ResourceId = Annotated[str, AfterValidator(_resource_id)]
_Url = Annotated[str, AfterValidator(_https)]


class AzureCloud(BaseModel):
    """Settings of the cloud ``azure``.

    Attributes:
        subscription_id: where machines are made; else ``AZURE_SUBSCRIPTION_ID``, else ``az``'s own.
        tenant_id, client_id, client_secret: of a service principal; all left out, the credentials are found
            as ``az`` and Azure's SDKs find them.
        subnet_ids: resource id of a subnet by region; else every gang gets a network of its own.
        public_addresses: a public address for each machine. Without one, a subnet of yours must have a way
            out (a NAT gateway): machines call the control plane.
        image, accelerated_image: ``publisher:offer:sku:version`` or a resource id.
        ssh_public_key: of the user ``stix`` on the machines; by default nobody can log in.
        endpoint_url: of Azure Resource Manager, for sovereign clouds.
        authority: of Microsoft Entra ID, likewise.
        ca_file: certificates that sign these, if no public authority does.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    subscription_id: str = ""
    tenant_id: str = ""
    client_id: str = ""
    client_secret: str = ""
    subnet_ids: dict[str, _ResourceId] = {}
    public_addresses: bool = True
    image: _Image = ""
    accelerated_image: _Image = "microsoft-dsvm:ubuntu-hpc:2204:latest"
    ssh_public_key: str = ""
    endpoint_url: _Url = "https://management.azure.com"
    authority: _Url = ""
    ca_file: str = ""


def from_config(config: Mapping[str, Any]) -> AzureCloud:
    """Raises ``InvalidInputError`` that names the field."""
    try:
        found = AzureCloud.model_validate(dict(config))
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        field = ".".join(str(part) for part in ("clouds", "azure", *first["loc"]))
        known = ", ".join(AzureCloud.model_fields)
        # A secret's value is not repeated.
        value = "hidden" if field.endswith("client_secret") else repr(first["input"])
        raise InvalidInputError(
            f"{field}: {first['msg'].removeprefix('Value error, ')} (it is {value}).",
            hint=f"Known settings are: {known}.",
            details={"field": field},
        ) from exc
    parts = {"tenant_id": found.tenant_id, "client_id": found.client_id, "client_secret": found.client_secret}
    missing = [name for name, value in parts.items() if not value]
    if 0 < len(missing) < len(parts):
        raise InvalidInputError(
            f"clouds.azure.{missing[0]}: it is missing beside the others of a service principal.",
            hint="Give tenant_id, client_id and client_secret, or none of them.",
            details={"field": f"clouds.azure.{missing[0]}"},
        )
    return found
