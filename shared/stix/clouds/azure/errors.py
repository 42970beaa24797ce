"""Azure's error codes, and what each means for whoever wants machines.

Each group of codes names its page of Microsoft's documentation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from stix.model.errors import (
    Blocks,
    CredentialsError,
    InvalidRequestError,
    NoCapacityError,
    ProviderError,
    QuotaExceededError,
    StixError,
    ThrottledError,
    UnavailableError,
)

__all__ = ["REFUSALS", "leaf_of", "refusal", "translated"]

REFUSALS: Mapping[str, type[ProviderError]] = {
    # "Troubleshoot allocation failures when you create, restart, or resize VMs": no room for the size in the
    # region or zone.
    "AllocationFailed": NoCapacityError,
    "OverconstrainedAllocationRequest": NoCapacityError,
    "OverconstrainedZonalAllocationRequest": NoCapacityError,
    "ZonalAllocationFailed": NoCapacityError,
    # "Resolve errors for SKU not available": not sold there, or not to this subscription.
    "SkuNotAvailable": NoCapacityError,
    # "Common deployment errors": the subnet of the settings is full; or the attempt was refused before, which
    # was not seen to arrive, and its group is going already.
    "SubnetIsFull": NoCapacityError,
    "ResourceGroupBeingDeleted": NoCapacityError,
    # "Common deployment errors", "Resolve errors for RequestDisallowedByPolicy": the subscription may not use
    # the region, by Azure's word or by a policy of its owner.
    "LocationNotAvailableForResourceGroup": NoCapacityError,
    "LocationNotAvailableForResourceType": NoCapacityError,
    "RequestDisallowedByAzure": NoCapacityError,
    "RequestDisallowedByPolicy": NoCapacityError,
    # "Resolve errors for resource quotas": limits of the subscription in a region, by family of sizes.
    "OperationNotAllowed": QuotaExceededError,
    "PublicIPCountLimitReached": QuotaExceededError,
    "QuotaExceeded": QuotaExceededError,
    "ResourceQuotaExceeded": QuotaExceededError,
    # "Common deployment errors", "Resolve errors for resource provider registration": the subscription, or
    # who we are in it.
    "AuthenticationFailed": CredentialsError,
    "AuthorizationFailed": CredentialsError,
    "ExpiredAuthenticationToken": CredentialsError,
    "InvalidAuthenticationToken": CredentialsError,
    "InvalidAuthenticationTokenTenant": CredentialsError,
    "LinkedAuthorizationFailed": CredentialsError,
    "MissingSubscriptionRegistration": CredentialsError,
    "ReadOnlyDisabledSubscription": CredentialsError,
    "SubscriptionNotFound": CredentialsError,
    # "Understand how Azure Resource Manager throttles requests".
    "SubscriptionRequestsThrottled": ThrottledError,
    "TooManyRequests": ThrottledError,
    # "Common deployment errors": asked wrongly, no other place would help.
    "BadRequest": InvalidRequestError,
    "ImageNotFound": InvalidRequestError,
    "InvalidParameter": InvalidRequestError,
    "InvalidTemplate": InvalidRequestError,
    "PlatformImageNotFound": InvalidRequestError,
}
_BLOCKS = {
    "LocationNotAvailableForResourceGroup": Blocks.REGION,
    "LocationNotAvailableForResourceType": Blocks.REGION,
    "PublicIPCountLimitReached": Blocks.REGION,
    "RequestDisallowedByAzure": Blocks.REGION,
    "RequestDisallowedByPolicy": Blocks.REGION,
    "ResourceGroupBeingDeleted": Blocks.NOTHING,
    "SubnetIsFull": Blocks.REGION,
}
# Said with the codes of wrong requests: the size cannot boot the image, another size might.
_UNFIT_SIZE = re.compile(r"Hypervisor Generation|security type|CPU Architectures")
_RETRY_SECONDS = 10.0
_HINTS = {
    QuotaExceededError: "Ask Azure for more under Quotas in the portal.",
    CredentialsError: "See `stix check azure` and docs/clouds/azure.md.",
}


def refusal(code: str, words: str, status: int = 400, *, retry_after: float = _RETRY_SECONDS) -> StixError:
    """The error that an Azure code and its words mean."""
    text = f"{words.rstrip('.')} ({code})."
    kind = REFUSALS.get(code)
    if kind is ThrottledError or status == 429:
        return ThrottledError(text, retry_after=retry_after, provider_code=code)
    if code == "OperationNotAllowed" and "quota" not in words.lower():
        kind = InvalidRequestError  # also said of a machine in the wrong state
    if kind is InvalidRequestError and _UNFIT_SIZE.search(words):
        kind = NoCapacityError
    if kind is None:
        if status >= 500:
            return UnavailableError(f"Azure did not say what became of it: {text}")
        kind = CredentialsError if status in (401, 403) else InvalidRequestError
    make: Callable[..., StixError] = kind
    return make(text, hint=_HINTS.get(kind, ""), blocks=_BLOCKS.get(code), provider_code=code)


def leaf_of(error: Mapping[str, Any]) -> tuple[str, str]:
    """Code and words of the innermost error: a deployment's error wraps those of its resources, some of them
    as JSON in the message."""
    words = str(error.get("message") or "")
    if words.lstrip().startswith("{"):
        try:
            inner = json.loads(words)
        except ValueError:
            inner = {}
        if isinstance(inner.get("error"), dict):
            return leaf_of(inner["error"])
    leaves = [leaf_of(one) for one in error.get("details") or () if isinstance(one, dict)]
    known = [leaf for leaf in leaves if leaf[0] in REFUSALS]
    if known or leaves:
        return (known or leaves)[0]
    return str(error.get("code") or "Unknown"), words


@contextmanager
def translated(*absent: str) -> Iterator[None]:
    """Turn the SDK's errors into ours. ``absent``: codes that are no errors here: the thing is gone, or was
    made already."""
    from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError

    try:
        yield
    except HttpResponseError as exc:
        status = int(exc.status_code or 0)
        code, words = _said(exc)
        if code in absent or (status == 404 and "NotFound" in absent):
            return
        if isinstance(exc, ClientAuthenticationError) and code not in REFUSALS:
            raise _credentials(exc) from exc
        raise refusal(code, words, status, retry_after=_retry_after(exc)) from exc
    except AzureError as exc:
        if isinstance(exc, ClientAuthenticationError) or "Credential" in type(exc).__name__:
            raise _credentials(exc) from exc
        raise UnavailableError(f"Azure cannot be reached: {exc}") from exc


def _credentials(exc: Exception) -> CredentialsError:
    return CredentialsError(
        f"Azure credentials cannot be used: {str(exc).splitlines()[0]}",
        hint=_HINTS[CredentialsError],
        provider_code="ClientAuthenticationError",
    )


def _said(exc: Any) -> tuple[str, str]:
    try:
        body = json.loads(exc.response.text())
    except (AttributeError, ValueError):
        body = {}
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, dict):
        return leaf_of(error)
    return str(exc.status_code), str(exc.message)


def _retry_after(exc: Any) -> float:
    try:
        return float(exc.response.headers.get("Retry-After") or _RETRY_SECONDS)
    except (AttributeError, ValueError):
        return _RETRY_SECONDS
