"""EC2's error codes, and what each means for whoever wants machines.

Sources: "Error codes for the Amazon EC2 API" and "Instance launch issues" in AWS's documentation; fleet codes
from "CreateFleet", ``Errors``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

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
    # No machine of the type in the zone, for now.
    "InsufficientInstanceCapacity": NoCapacityError,
    "InsufficientHostCapacity": NoCapacityError,
    "InsufficientReservedInstanceCapacity": NoCapacityError,
    "InsufficientCapacity": NoCapacityError,
    "InsufficientFreeAddressesInSubnet": NoCapacityError,
    "UnfulfillableCapacity": NoCapacityError,
    "ReservationCapacityExceeded": NoCapacityError,
    "SpotMaxPriceTooLow": NoCapacityError,
    # The type is not offered in the zone at all.
    "Unsupported": NoCapacityError,
    "InvalidFleetConfiguration": NoCapacityError,
    # Limits of the account, by group of types and market, in a region.
    "VcpuLimitExceeded": QuotaExceededError,
    "InstanceLimitExceeded": QuotaExceededError,
    "MaxSpotInstanceCountExceeded": QuotaExceededError,
    "MaxSpotFleetRequestCountExceeded": QuotaExceededError,
    "VolumeLimitExceeded": QuotaExceededError,
    "AddressLimitExceeded": QuotaExceededError,
    "SecurityGroupLimitExceeded": QuotaExceededError,
    # The account, or who we are in it.
    "AuthFailure": CredentialsError,
    "Blocked": CredentialsError,
    "ExpiredToken": CredentialsError,
    "ExpiredTokenException": CredentialsError,
    "InvalidClientTokenId": CredentialsError,
    "OptInRequired": CredentialsError,
    "PendingVerification": CredentialsError,
    "SignatureDoesNotMatch": CredentialsError,
    "UnauthorizedOperation": CredentialsError,
    # Above the rate limit of the API.
    "RequestLimitExceeded": ThrottledError,
    "Throttling": ThrottledError,
    "RequestThrottled": ThrottledError,
    "EC2ThrottledException": ThrottledError,
    # Asked wrongly: no other place would help.
    "InvalidAMIID.NotFound": InvalidRequestError,
    "InvalidAMIID.Malformed": InvalidRequestError,
    "InvalidAMIID.Unavailable": InvalidRequestError,
    "InvalidParameterValue": InvalidRequestError,
    "InvalidParameterCombination": InvalidRequestError,
    "InvalidUserData.Malformed": InvalidRequestError,
    "IdempotentParameterMismatch": InvalidRequestError,
    "InvalidSubnetID.NotFound": InvalidRequestError,
    "InvalidVpcID.NotFound": InvalidRequestError,
}
_UNKNOWN_OUTCOME = frozenset({"InternalError", "InternalFailure", "Unavailable", "ServiceUnavailable"})
_REGION = frozenset({"AddressLimitExceeded", "SecurityGroupLimitExceeded", "VolumeLimitExceeded"})
_RETRY_SECONDS = 5.0
_HINTS = {
    QuotaExceededError: "Ask AWS for more under Service Quotas, Amazon EC2.",
    CredentialsError: "See `stix check aws` and docs/clouds/aws.md.",
}


def refusal(code: str, words: str, status: int = 400) -> StixError:
    """The error that an EC2 code and its words mean."""
    text = f"{words.rstrip('.')} ({code})."
    kind = REFUSALS.get(code)
    if kind is ThrottledError:
        return ThrottledError(text, retry_after=_RETRY_SECONDS, provider_code=code)
    if kind is None:
        if code in _UNKNOWN_OUTCOME or status >= 500:
            return UnavailableError(f"EC2 did not say what became of it: {text}")
        kind = InvalidRequestError
    make: Callable[..., StixError] = kind
    blocks = Blocks.REGION if code in _REGION else None
    hint = "Every attempt needs a token of its own." if code == "IdempotentParameterMismatch" else ""
    return make(text, hint=hint or _HINTS.get(kind, ""), blocks=blocks, provider_code=code)


@contextmanager
def translated(*absent: str) -> Iterator[None]:
    """Turn the SDK's errors into ours. ``absent``: codes that are no errors here: the thing is gone, or was
    made already."""
    import botocore.exceptions

    try:
        yield
    except botocore.exceptions.ClientError as exc:
        error = exc.response.get("Error", {})
        code = str(error.get("Code", ""))
        if code in absent:
            return
        status = int(exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400))
        raise refusal(code, str(error.get("Message", "")), status) from exc
    except (
        botocore.exceptions.NoCredentialsError,
        botocore.exceptions.PartialCredentialsError,
        botocore.exceptions.CredentialRetrievalError,
        botocore.exceptions.ProfileNotFound,
        botocore.exceptions.TokenRetrievalError,
    ) as exc:
        raise CredentialsError(
            f"AWS credentials cannot be used: {exc}",
            hint=_HINTS[CredentialsError],
            provider_code="NoCredentials",
        ) from exc
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.HTTPClientError) as exc:
        raise UnavailableError(f"EC2 cannot be reached: {exc}") from exc
