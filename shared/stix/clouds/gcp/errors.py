"""What Google's refusals mean.

They come in two ways: as an answer's HTTP status and ``reason``, and, for most creations, later, as the
``code`` of an operation's error. Codes are from Compute Engine's "Troubleshooting VM creation" and
"Resource errors" (operations), "Error messages" and the usage limits' reasons (HTTP); ``STOCKOUT`` is the
detail that capacity errors are also seen with.
"""

from __future__ import annotations

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

__all__ = ["REFUSALS", "refusal", "translated"]

REFUSALS: Mapping[str, type[ProviderError]] = {
    # Operations: no machine of the type in the zone, for now.
    "ZONE_RESOURCE_POOL_EXHAUSTED": NoCapacityError,
    "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS": NoCapacityError,
    "REGION_RESOURCE_POOL_EXHAUSTED": NoCapacityError,
    "RESOURCE_POOL_EXHAUSTED": NoCapacityError,
    "STOCKOUT": NoCapacityError,
    "VM_MIN_COUNT_NOT_REACHED": NoCapacityError,
    "INSUFFICIENT_CAPACITY": NoCapacityError,
    "RESERVATION_CAPACITY_EXCEEDED": NoCapacityError,
    # A machine that was taken while it was being made ends in these two.
    "UNSUPPORTED_OPERATION": NoCapacityError,
    "RESOURCE_NOT_READY": NoCapacityError,
    # The type is not offered in the zone at all.
    "MACHINE_TYPE_NOT_FOUND": NoCapacityError,
    "IP_SPACE_EXHAUSTED": NoCapacityError,
    "IP_SPACE_EXHAUSTED_WITH_DETAILS": NoCapacityError,
    # Operations and HTTP 403: the project's limits.
    "QUOTA_EXCEEDED": QuotaExceededError,
    "quotaExceeded": QuotaExceededError,
    "limitExceeded": QuotaExceededError,
    # The project, or who we are in it.
    "PERMISSIONS_ERROR": CredentialsError,
    "FORBIDDEN": CredentialsError,
    "authError": CredentialsError,
    "required": CredentialsError,
    "forbidden": CredentialsError,
    "insufficientPermissions": CredentialsError,
    "accessNotConfigured": CredentialsError,
    "billingNotEnabled": CredentialsError,
    "accountDisabled": CredentialsError,
    # An operation that met a rate limit has failed for good.
    "RATE_LIMIT_EXCEEDED": NoCapacityError,
    # Above the rate limit of the API.
    "rateLimitExceeded": ThrottledError,
    "userRateLimitExceeded": ThrottledError,
    # A network that is still being made.
    "resourceNotReady": ThrottledError,
    # Asked wrongly: no other place would help.
    "INVALID_USAGE": InvalidRequestError,
    "INVALID_FIELD_VALUE": InvalidRequestError,
    "RESOURCE_NOT_FOUND": InvalidRequestError,
    "RESOURCE_ALREADY_EXISTS": InvalidRequestError,
    "CONDITION_NOT_MET": InvalidRequestError,
    "badRequest": InvalidRequestError,
    "invalid": InvalidRequestError,
    "alreadyExists": InvalidRequestError,
    "conditionNotMet": InvalidRequestError,
    "notFound": InvalidRequestError,
    "resourceInUseByAnotherResource": InvalidRequestError,
}
_BY_STATUS = {
    401: "authError",
    403: "forbidden",
    404: "notFound",
    409: "alreadyExists",
    412: "conditionNotMet",
}
_UNKNOWN_OUTCOME = frozenset({"INTERNAL_ERROR", "BACKEND_ERROR", "backendError", "internalError"})
_MAY_BE_OF_PLACE = frozenset({"invalid", "notFound", "INVALID_USAGE", "RESOURCE_NOT_FOUND"})
_OF_PLACE = re.compile(
    r"(machine|accelerator) ?types?\b.*(does not exist|not found|not available)"
    r"|unknown (zone|region)"
    r"|/(zones|regions)/[a-z0-9-]+' was not found",
    re.IGNORECASE | re.DOTALL,
)
"""Words of a refusal that speaks of one place, not of the request: another place may have the type."""
_RETRY_SECONDS = 5.0
_NOT_READY_SECONDS = 10.0
_HINTS = {
    QuotaExceededError: "Ask Google for more under IAM & Admin, Quotas.",
    CredentialsError: "See `stix check gcp` and docs/clouds/gcp.md.",
}


def refusal(code: str, words: str, status: int = 400) -> StixError:
    """The error that a code and its words mean."""
    text = f"{words.strip().rstrip('.')} ({code})."
    kind = REFUSALS.get(code)
    if kind is None and (code in _UNKNOWN_OUTCOME or status >= 500):
        return UnavailableError(f"Compute Engine did not say what became of it: {text}")
    if kind is None and status == 429:
        kind = ThrottledError
    if code in _MAY_BE_OF_PLACE and _OF_PLACE.search(words):
        kind = NoCapacityError
    kind = kind or REFUSALS.get(_BY_STATUS.get(status, ""), InvalidRequestError)
    if kind is ThrottledError:
        wait = _NOT_READY_SECONDS if code == "resourceNotReady" else _RETRY_SECONDS
        return ThrottledError(text, retry_after=wait, provider_code=code)
    make: Callable[..., StixError] = kind
    blocks = _reach(words) if kind is QuotaExceededError else None
    return make(text, hint=_HINTS.get(kind, ""), blocks=blocks, provider_code=code)


def _reach(words: str) -> Blocks:
    """``Quota 'NVIDIA_A100_GPUS' exceeded. Limit: 0.0 in region us-central1.``"""
    if "ALL_REGIONS" in words or "globally" in words:
        return Blocks.CLOUD
    # Of addresses or disks: other types in the region meet it too.
    return Blocks.FAMILY if "GPUS" in words or "CPUS" in words else Blocks.REGION


@contextmanager
def translated(*absent: str) -> Iterator[None]:
    """Turn the SDK's errors into ours. ``absent``: reasons that are no errors here: the thing is gone, or was
    made already; an answer without a reason has its status' usual one."""
    import requests.exceptions
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import GoogleAuthError, TransportError

    try:
        yield
    except GoogleAPICallError as exc:
        status = int(exc.code or 500)
        code = _reason(exc) or _BY_STATUS.get(status, f"HTTP {status}")
        if code in absent:
            return
        raise refusal(code, _words(exc), status) from exc
    except TransportError as exc:
        raise UnavailableError(f"Google's token service cannot be reached: {exc}") from exc
    except GoogleAuthError as exc:
        raise CredentialsError(
            f"Google credentials cannot be used: {exc}",
            hint=_HINTS[CredentialsError],
            provider_code=type(exc).__name__,
        ) from exc
    except requests.exceptions.RequestException as exc:
        raise UnavailableError(f"Compute Engine cannot be reached: {exc}") from exc


def _words(exc: Any) -> str:
    """Google's own, without the method and the address that the SDK puts before them."""
    for error in exc.errors or ():
        if isinstance(error, Mapping) and error.get("message"):
            return str(error["message"])
    return str(exc.message)


def _reason(exc: Any) -> str:
    for error in exc.errors or ():
        if isinstance(error, Mapping) and error.get("reason"):
            return str(error["reason"])
    return ""
