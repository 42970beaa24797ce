"""What a cloud's own function runs: the provider's adapter, and nothing of the control plane."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import cache
from typing import Any

from stix.adapters.compute_wire import answer_call
from stix.adapters.s3 import S3ObjectStore
from stix.adapters.system import SystemClock
from stix.clouds.registry import connect
from stix.ports.compute import Compute
from stix.ports.object_store import ObjectNotFoundError
from stix.runtime.settings import MissingSettingError

__all__ = ["cloud_config", "drive"]


def drive(call: Mapping[str, Any]) -> dict[str, Any]:
    """Make one call of the ``Compute`` port with this function's provider."""
    return answer_call(_compute(), call)


@cache
def _compute() -> Compute:
    missing = [name for name in ("STIX_CLOUD", "STIX_DEPLOYMENT") if not os.environ.get(name)]
    if missing:
        raise MissingSettingError(f"environment variables not set: {', '.join(missing)}")
    config = cloud_config(os.environ)
    return connect(
        os.environ["STIX_CLOUD"], config, deployment=os.environ["STIX_DEPLOYMENT"], clock=SystemClock()
    )


def cloud_config(environ: Mapping[str, str]) -> dict[str, Any]:
    """What the deployment says of the cloud, over what its secret holds (a key without federation).

    The secret is the object ``clouds/<cloud>.json`` of the secrets bucket; none is fine.
    """
    config: dict[str, Any] = json.loads(environ.get("STIX_CLOUD_CONFIG") or "{}")
    bucket = environ.get("STIX_SECRETS_BUCKET")
    if not bucket:
        return config
    try:
        secret = S3ObjectStore(bucket).get(f"clouds/{environ['STIX_CLOUD']}.json")
    except ObjectNotFoundError:
        return config
    return {**json.loads(secret), **config}
