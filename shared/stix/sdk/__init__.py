"""The client side: a typed HTTP client, submission of tasks, following of operations and logs.

Names load on first use::

    from stix.sdk import Client, Endpoint

    with Client(Endpoint("http://127.0.0.1:46580", token)) as client:
        for cluster in client.clusters():
            print(cluster["name"], cluster["status"])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stix.sdk.client import Client
    from stix.sdk.endpoint import Endpoint
    from stix.sdk.errors import SdkError

__all__ = ["Client", "Endpoint", "SdkError"]

_HOMES = {"Client": "stix.sdk.client", "Endpoint": "stix.sdk.endpoint", "SdkError": "stix.sdk.errors"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
