"""Errors that a caller can act on.

::

    StixError                     base; carries a stable ``code``, the HTTP status and a hint
    ├── InvalidInputError         400  something a person wrote is wrong: names field, value and fix
    │   └── TaskError             400  the same for a task YAML: also names file and line
    ├── UnauthorizedError         401
    ├── ForbiddenError            403
    ├── NotFoundError             404
    ├── ConflictError             409  the state of the thing does not allow it (name taken, cluster stopped)
    ├── NoOfferError              422  nothing that is configured fits the request
    ├── UnavailableError          503  a failure of the world; trying again may help
    └── ProviderError             502  a provider refused; subclasses say what the caller does next
        ├── NoCapacityError            block the offer's place, try the next offer
        ├── QuotaExceededError         block region and family, try the next offer
        ├── CredentialsError           block the cloud, try another
        ├── ThrottledError             the same call again after ``retry_after`` seconds
        ├── InvalidRequestError        stop; show the provider's words
        └── NotYetTerminatedError      ask again later
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar

__all__ = [
    "Blocks",
    "ConflictError",
    "CredentialsError",
    "ForbiddenError",
    "InvalidInputError",
    "InvalidRequestError",
    "NoCapacityError",
    "NoOfferError",
    "NotFoundError",
    "NotYetTerminatedError",
    "ProviderError",
    "QuotaExceededError",
    "StixError",
    "TaskError",
    "ThrottledError",
    "UnauthorizedError",
    "UnavailableError",
]


class StixError(Exception):
    """Base of all errors that are meant for a caller or a person.

    ``code`` is stable and machine readable; ``message`` is one paragraph; ``hint`` is the fix.
    """

    http_status: ClassVar[int] = 500
    default_code: ClassVar[str] = "internal"

    def __init__(
        self, message: str, *, hint: str = "", code: str = "", details: dict[str, Any] | None = None
    ):
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code or self.default_code
        self.details = details or {}

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class InvalidInputError(StixError):
    """Something that a person wrote is wrong. ``details`` may hold ``field`` and ``value``."""

    http_status = 400
    default_code = "invalid_input"


class TaskError(InvalidInputError):
    """A task YAML is wrong; the message names file, line, field, value and what is accepted."""

    default_code = "invalid_task"


class UnauthorizedError(StixError):
    http_status = 401
    default_code = "unauthorized"


class ForbiddenError(StixError):
    http_status = 403
    default_code = "forbidden"


class NotFoundError(StixError):
    http_status = 404
    default_code = "not_found"


class ConflictError(StixError):
    http_status = 409
    default_code = "conflict"


class NoOfferError(StixError):
    http_status = 422
    default_code = "no_offer"


class UnavailableError(StixError):
    http_status = 503
    default_code = "unavailable"


class Blocks(StrEnum):
    """Which other offers a provider's refusal speaks of."""

    OFFER = "offer"
    """The same instance type and market in the same zone (or region, where the offer names no zone)."""
    FAMILY = "family"
    """The same quota family (``CloudFacts.quota_family``) and market in the same region."""
    REGION = "region"
    CLOUD = "cloud"
    NOTHING = "nothing"


class ProviderError(StixError):
    """A provider's refusal, already classified by the adapter that met it.

    ``blocks``: how far the refusal reaches; each class has the usual reach, an adapter may know better (a
    GPU quota over all regions blocks the cloud). ``provider_code``: the provider's own word for it.
    """

    http_status = 502
    default_code = "provider"
    usually_blocks: ClassVar[Blocks] = Blocks.NOTHING

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        code: str = "",
        details: dict[str, Any] | None = None,
        blocks: Blocks | None = None,
        provider_code: str = "",
    ):
        super().__init__(message, hint=hint, code=code, details=details)
        self.blocks = blocks or self.usually_blocks
        self.provider_code = provider_code


class NoCapacityError(ProviderError):
    default_code = "no_capacity"
    usually_blocks = Blocks.OFFER


class QuotaExceededError(ProviderError):
    default_code = "quota_exceeded"
    usually_blocks = Blocks.FAMILY


class CredentialsError(ProviderError):
    default_code = "credentials"
    usually_blocks = Blocks.CLOUD


class ThrottledError(ProviderError):
    default_code = "throttled"

    def __init__(self, message: str, *, retry_after: float, hint: str = "", provider_code: str = ""):
        super().__init__(message, hint=hint, provider_code=provider_code)
        self.retry_after = retry_after


class InvalidRequestError(ProviderError):
    default_code = "invalid_request"


class NotYetTerminatedError(ProviderError):
    default_code = "not_yet_terminated"
