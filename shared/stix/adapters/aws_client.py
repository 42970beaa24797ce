"""Clients of AWS services and the translation of their errors; the SDK is imported on first use."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stix.model.errors import StixError, UnavailableError

__all__ = ["create_client", "error_code", "new_session", "translated"]

_TRANSIENT = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InternalError",
        "InternalServerError",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TransactionCanceledException",
        "TransactionConflictException",
        "TransactionInProgressException",
    }
)
_ABSENT = frozenset({"NoSuchBucket", "ResourceNotFoundException"})


def create_client(service: str, *, endpoint_url: str | None = None, **options: Any) -> Any:
    """A client that gives up within ten seconds or so: short time-outs, few attempts with jitter.

    Made by botocore alone: boto3's import costs more than the client. ``options`` are botocore's ``Config``.
    """
    import botocore.config

    settings = {
        "connect_timeout": 1.5,
        "read_timeout": 4.0,
        "retries": {"mode": "standard", "total_max_attempts": 3},
    }
    return new_session().create_client(
        service, endpoint_url=endpoint_url, config=botocore.config.Config(**{**settings, **options})
    )


def new_session() -> Any:
    """botocore's session, for the region that ``AWS_REGION`` names, which botocore alone does not look at.

    It says where it found credentials and endpoints for each client: six log lines of every cold start.
    """
    import botocore.session

    logging.getLogger("botocore").setLevel(logging.WARNING)
    session = botocore.session.get_session()
    if region := os.environ.get("AWS_REGION"):
        session.set_config_variable("region", region)
    return session


def error_code(exc: BaseException) -> str:
    """AWS's code of a ``ClientError``, empty for anything else."""
    return str(getattr(exc, "response", {}).get("Error", {}).get("Code", ""))


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn the SDK's errors into ours: ``UnavailableError`` where trying again or deploying helps, else
    ``StixError``. ``what`` names the table or bucket for the person who reads it."""
    import botocore.exceptions

    try:
        yield
    except botocore.exceptions.ClientError as exc:
        code, words = error_code(exc), str(exc.response.get("Error", {}).get("Message", ""))
        status = int(exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        if code in _ABSENT:
            raise UnavailableError(
                f"The {what} does not exist in this account and region.",
                hint="Run `stix deploy`, or check the region.",
            ) from exc
        if code in _TRANSIENT or status >= 500:
            raise UnavailableError(f"The {what} cannot be used now ({code}): {words}") from exc
        raise StixError(f"AWS refused a request to the {what} ({code}): {words}") from exc
    except botocore.exceptions.ParamValidationError:
        raise
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.HTTPClientError) as exc:
        raise UnavailableError(f"The {what} cannot be reached: {exc}") from exc
