"""The control plane's view of a gateway: which services it has, and where their replicas are.

Fields that this version does not know are ignored: the control plane may be newer.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Tuple

from .fields import (
    HEADER_NAME,
    Fields,
    ViewError,
    address,
    choice,
    headers,
    matching,
    number,
    whole,
)

__all__ = ["POLICIES", "Metric", "Probe", "Replica", "Service", "Tls", "View", "ViewError", "parse_view"]

POLICIES = ("round_robin", "least_load", "instance_aware_least_load", "weighted", "sticky")
_DAY = 86400.0
_MOST_REPLICAS = 2000


@dataclass(frozen=True)
class Probe:
    """What a ready replica answers with 2xx: GET, or POST of ``body``. Times in seconds."""

    path: str
    initial_delay_seconds: float = 1200
    timeout_seconds: float = 15
    interval_seconds: float = 10
    failure_seconds: float = 180
    body: Optional[str] = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Replica:
    """``ready`` replicas get requests while their probe succeeds, ``draining`` ones none that are new, and
    ``standby`` ones are probed only. ``probe`` is its own one, where the service's is not for its version.

    ``weight`` compares replicas of one service: twice the weight, twice the requests.
    """

    id: str
    version: str
    address: str
    port: int
    weight: float = 1
    state: str = "ready"
    probe: Optional[Probe] = None

    @property
    def key(self) -> str:
        """What a replica is to HAProxy: the same id at another address is another one."""
        return f"{self.id}@{self.address}:{self.port}"


@dataclass(frozen=True)
class Metric:
    """A metric that replicas show at ``path`` in Prometheus' text format."""

    name: str
    path: str = "/metrics"


@dataclass(frozen=True)
class Tls:
    """PEM texts: the certificate with its chain, and the key."""

    certificate: str
    key: str


@dataclass(frozen=True)
class Service:
    """``tokens`` are SHA-256 in hexadecimal; None makes the service public. ``sticky_header`` None is a
    cookie.

    ``wait_seconds`` and ``max_queue`` bound what waits while there is no ready replica.
    """

    name: str
    port: int
    policy: str = "least_load"
    sticky_header: Optional[str] = None
    tls: Optional[Tls] = None
    tokens: Optional[Tuple[str, ...]] = None
    wait_seconds: int = 300
    max_queue: int = 1000
    stream_timeout_seconds: int = 120
    drain_seconds: float = 120
    probe: Optional[Probe] = None
    metric: Optional[Metric] = None
    replicas: Tuple[Replica, ...] = ()


@dataclass(frozen=True)
class View:
    version: int = 0
    services: Tuple[Service, ...] = ()


def parse_view(text: str) -> View:
    """Raises ``ViewError`` with everything that is wrong."""
    try:
        value = json.loads(text)
    except ValueError as exc:
        raise ViewError(
            [f"the view: it is not JSON ({exc}). Write it as a whole, and replace the file."]
        ) from None
    problems: List[str] = []
    top = Fields(value, "", problems)
    version = top.take("version", whole(0, 2**62, "Write a number that grows with each view."), 0)
    services = tuple(_service(fields) for fields in top.each("services"))
    problems += _repeated("name", [service.name for service in services])
    problems += _repeated("port", [service.port for service in services])
    if problems:
        raise ViewError(problems)
    return View(version, services)


_NAME = matching(
    re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,62}"),
    "Write letters, digits, '.', '_' and '-', a letter first; 63 at most.",
)
_LABEL = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TOKEN = re.compile(r"[0-9a-f]{64}")
_PORT = whole(1, 65535, "Write a port from 1 to 65535.")
_SECONDS = number(0, _DAY, "Write seconds, from 0 to a day's 86400.")
_SOME_SECONDS = number(0.001, _DAY, "Write seconds, more than 0, at most 86400.")
_WHOLE_SECONDS = whole(1, int(_DAY), "Write whole seconds from 1 to a day's 86400.")


def _service(fields: Fields) -> Service:
    replicas = tuple(_replica(one) for one in fields.each("replicas"))
    for problem in _repeated("id", [replica.id for replica in replicas]):
        fields.problems.append(f"{fields.path}.replicas: {problem}")
    if len(replicas) > _MOST_REPLICAS:
        fields.refuse("replicas", len(replicas), f"Write at most {_MOST_REPLICAS} replicas of a service.")
    return Service(
        name=fields.take("name", _NAME),
        port=fields.take("port", _PORT),
        policy=fields.take("policy", choice(POLICIES), "least_load"),
        sticky_header=fields.take(
            "sticky_header", matching(HEADER_NAME, "Write the name of a header."), None
        ),
        tls=_tls(fields.inner("tls")) if fields.has("tls") else None,
        tokens=fields.take("tokens", _tokens, None),
        wait_seconds=fields.take("wait_seconds", whole(0, int(_DAY), "Write whole seconds, 0 or more."), 300),
        max_queue=fields.take("max_queue", whole(0, 10**6, "Write a number of requests, 0 or more."), 1000),
        stream_timeout_seconds=fields.take("stream_timeout_seconds", _WHOLE_SECONDS, 120),
        drain_seconds=fields.take("drain_seconds", _SECONDS, 120.0),
        probe=_probe(fields.inner("probe")) if fields.has("probe") else None,
        metric=_metric(fields.inner("metric")) if fields.has("metric") else None,
        replicas=replicas,
    )


def _replica(fields: Fields) -> Replica:
    return Replica(
        id=fields.take("id", _label),
        version=fields.take("version", _label, "1"),
        address=fields.take("address", address),
        port=fields.take("port", _PORT),
        weight=fields.take("weight", number(1e-6, 1e9, "Write a number above 0."), 1.0),
        state=fields.take("state", choice(("ready", "standby", "draining")), "ready"),
        probe=_probe(fields.inner("probe")) if fields.has("probe") else None,
    )


def _probe(fields: Fields) -> Probe:
    return Probe(
        path=fields.take(
            "path", matching(re.compile(r"/[!-~]*"), "Write a path such as /health, without blanks.")
        ),
        initial_delay_seconds=fields.take("initial_delay_seconds", _SECONDS, 1200.0),
        timeout_seconds=fields.take("timeout_seconds", _SOME_SECONDS, 15.0),
        interval_seconds=fields.take("endpoint_probe_interval_seconds", _SOME_SECONDS, 10.0),
        failure_seconds=fields.take("consecutive_failure_threshold_timeout", _SECONDS, 180.0),
        body=fields.take("post_data", _post_data, None),
        headers=fields.take("headers", headers, {}),
    )


def _metric(fields: Fields) -> Metric:
    name = matching(re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,199}"), "Write a name as Prometheus has them.")
    path = matching(re.compile(r"/[!-~]*"), "Write a path such as /metrics, without blanks.")
    return Metric(fields.take("name", name), fields.take("path", path, "/metrics"))


def _tls(fields: Fields) -> Tls:
    pem = matching(re.compile(r"\s*-----BEGIN [\s\S]+", re.ASCII), "Write PEM text, not the path of a file.")
    return Tls(fields.take("certificate", pem), fields.take("key", pem))


def _tokens(value: Any) -> Tuple[str, ...]:
    if not isinstance(value, list) or not all(
        isinstance(one, str) and _TOKEN.fullmatch(one) for one in value
    ):
        raise ValueError("Write a list of SHA-256 hashes, 64 hexadecimal digits in lower case.")
    return tuple(sorted(set(value)))


def _label(value: Any) -> str:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not _LABEL.fullmatch(text):
        raise ValueError("Write a number, or letters, digits, '.', '_' and '-'.")
    return text


def _post_data(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return json.dumps(value)
    if not isinstance(value, str):
        raise ValueError("Write text, or an object to be sent as JSON.")
    return value


def _repeated(what: str, values: List[Any]) -> List[str]:
    seen: Dict[Any, int] = {}
    for value in values:
        seen[value] = seen.get(value, 0) + 1
    return [
        f"{what}: {value!r} is given {count} times. Give each its own."
        for value, count in seen.items()
        if count > 1 and value is not None
    ]
