"""What went wrong on the wire, in words with a fix."""

from __future__ import annotations

import json
import ssl
from typing import Any

import httpx

from stix.sdk.endpoint import Endpoint
from stix.sdk.errors import IncompatibleError, SdkError, UnreachableError

__all__ = ["answer_error", "transport_error", "was_cut_off"]


def transport_error(exc: httpx.HTTPError, endpoint: Endpoint, *, answered: bool) -> tuple[SdkError, bool]:
    """The error for a person, and whether another try may help."""
    url = endpoint.url
    if _caused_by(exc, ssl.SSLError):
        return UnreachableError(
            f"The TLS certificate of {url} is not trusted: {_innermost(exc)}.",
            "For a private certificate authority set SSL_CERT_FILE to its certificate.",
        ), False
    if isinstance(exc, httpx.UnsupportedProtocol | httpx.InvalidURL):
        return UnreachableError(f"{url} is not a usable address: {exc}."), False
    if isinstance(exc, httpx.ConnectTimeout | httpx.ConnectError):
        return UnreachableError(
            f"No control plane answers at {url}: {_innermost(exc)}.", _start_hint(endpoint)
        ), True
    if isinstance(exc, httpx.TimeoutException):
        return UnreachableError(
            f"The control plane at {url} did not answer in time.", "It may be overloaded; try again."
        ), True
    words = "broke off the connection" if answered else "does not speak HTTP, or broke off the connection"
    return UnreachableError(f"{url} {words}: {_innermost(exc)}.", _start_hint(endpoint)), True


def _start_hint(endpoint: Endpoint) -> str:
    match endpoint.source:
        case "embedded":
            return "Start it with `stix api start`; its log is shown by `stix api logs`."
        case "environment":
            return "Check STIX_API_URL, or unset it to use the local control plane."
        case "login":
            return "Check the address with `stix api info`; `stix api logout` goes back to the local one."
        case "given":
            return "Check the address."


def was_cut_off(status: int, content: bytes) -> bool:
    """Whether a gateway answered for a function that ended without an answer of its own: nobody knows how far
    it came, and a request with an idempotency key may be sent again."""
    return status == 500 and _own_words(content) is None


def _own_words(content: bytes) -> dict[str, Any] | None:
    """The error as the server itself says it; None where somebody else answered."""
    try:
        document: Any = json.loads(content)
    except ValueError:
        return None
    body = document.get("error") if isinstance(document, dict) else None
    return body if isinstance(body, dict) and "code" in body else None


def answer_error(status: int, content: bytes, endpoint: Endpoint) -> SdkError:
    """The server's own words where it sent them, ours where a gateway answered in its place."""
    body = _own_words(content)
    if body is not None:
        hint = str(body.get("hint") or "")
        if status == 401 and not hint:
            hint = _token_hint(endpoint)
        return SdkError(
            str(body["code"]), str(body.get("message", "")), hint, status, body.get("details") or {}
        )
    if status in {401, 403}:
        return SdkError(
            "unauthorized" if status == 401 else "forbidden",
            f"The control plane at {endpoint.url} does not accept the token.",
            _token_hint(endpoint),
            status,
        )
    if status in {429, 502, 503, 504}:
        return SdkError(
            "unavailable",
            f"The control plane at {endpoint.url} is busy (HTTP {status}).",
            "Try again.",
            status,
        )
    if status >= 500:
        return SdkError(
            "internal", f"The control plane at {endpoint.url} failed (HTTP {status}).", "", status
        )
    return IncompatibleError(
        f"{endpoint.url} does not know this request (HTTP {status}): it is not a Stix control plane, or one "
        "of another version.",
        "Check the address and the version with `stix api info`.",
    )


def _token_hint(endpoint: Endpoint) -> str:
    match endpoint.source:
        case "environment":
            return "Check STIX_API_TOKEN."
        case "embedded":
            return "Restart the local control plane: `stix api stop`, then `stix api start`."
        case _:
            return "Log in again with `stix api login`."


def _caused_by(exc: BaseException | None, kind: type[BaseException]) -> bool:
    while exc is not None:
        if isinstance(exc, kind) or "CERTIFICATE_VERIFY_FAILED" in str(exc):
            return True
        exc = exc.__cause__ or exc.__context__
    return False


def _innermost(exc: BaseException) -> str:
    """The operating system's words, without its error number."""
    text = str(exc).strip() or type(exc).__name__
    if text.startswith("[Errno") and "] " in text:
        text = text.split("] ", 1)[1]
    return text.rstrip(".")
