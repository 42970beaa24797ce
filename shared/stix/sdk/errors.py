"""What the client raises.

::

    SdkError                    the server's own error, or the base of the client's
    ├── UnreachableError        nobody answers at the endpoint
    ├── IncompatibleError       somebody answers who is not a control plane of this protocol
    ├── NotConfiguredError      no endpoint, and none can be started
    └── LinkExpiredError        a signed URL no longer works: ask for a new one
"""

from __future__ import annotations

from typing import Any

from stix.model.errors import StixError

__all__ = ["IncompatibleError", "LinkExpiredError", "NotConfiguredError", "SdkError", "UnreachableError"]


class SdkError(StixError):
    """``code``, ``message``, ``hint`` and ``details`` are the server's; ``http_status`` is 0 without an
    answer."""

    http_status: int  # type: ignore[misc]  # here each error has its own status, as it came over the wire

    def __init__(
        self,
        code: str,
        message: str,
        hint: str = "",
        http_status: int = 0,
        details: dict[str, Any] | None = None,
    ):
        super().__init__(message, hint=hint, code=code, details=details)
        self.http_status = http_status


class UnreachableError(SdkError):
    def __init__(self, message: str, hint: str = ""):
        super().__init__("unreachable", message, hint)


class IncompatibleError(SdkError):
    def __init__(self, message: str, hint: str = ""):
        super().__init__("incompatible", message, hint)


class NotConfiguredError(SdkError):
    """``http_status`` 400: the fix is the caller's."""

    def __init__(self, message: str, hint: str = ""):
        super().__init__("not_configured", message, hint, http_status=400)


class LinkExpiredError(SdkError):
    def __init__(self, message: str):
        super().__init__("link_expired", message, http_status=403)
