"""What a cloud tells a machine before it takes it away, read from its metadata service.

AWS: ``spot/instance-action``, two minutes before ("Spot Instance interruption notices");
``events/recommendations/rebalance``, a warning that a notice may come.
Google Cloud: ``instance/preempted``, thirty seconds before.
Azure: Scheduled Events of type Preempt, thirty seconds before.
"""

from __future__ import annotations

import calendar
import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Callable, Dict, Optional

_TIMEOUT = 3.0
_SHORTEST_NOTICE = 28.0
_LONGEST_GRACE = 60.0
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Notice:
    """``kind``: ``preemption``, or ``rebalance`` for a warning that one may come; ``at``: epoch seconds at
    which the machine goes, None where the cloud does not say."""

    kind: str
    at: Optional[float] = None

    def grace(self, now: float) -> float:
        """Seconds that a task may take to end, so that half of the notice is left to store its work."""
        left = _SHORTEST_NOTICE if self.at is None else self.at - now
        return max(1.0, min(left / 2, _LONGEST_GRACE))


def read_notice(cloud: str, base_url: str) -> Optional[Notice]:
    """The notice that stands now, None for none. Raises OSError where the service does not answer."""
    reader = _READERS.get(cloud)
    return None if reader is None else reader(base_url.rstrip("/"))


def can_notice(cloud: str) -> bool:
    return cloud in _READERS


def has_instance_profile(base_url: str) -> bool:
    """Whether an EC2 instance has a role of its own, without which Systems Manager cannot lead to it."""
    base = base_url.rstrip("/")
    try:
        return _get(base + "/latest/meta-data/iam/info", _aws_headers(base)) is not None
    except (OSError, ValueError):
        return False


def _aws_headers(base: str) -> Dict[str, str]:
    token = _get(base + "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}, "PUT")
    return {"X-aws-ec2-metadata-token": token or ""}


def _aws(base: str) -> Optional[Notice]:
    headers = _aws_headers(base)
    action = _get(base + "/latest/meta-data/spot/instance-action", headers)
    if action is not None:
        return Notice("preemption", _moment(json.loads(action).get("time")))
    rebalance = _get(base + "/latest/meta-data/events/recommendations/rebalance", headers)
    return (
        None if rebalance is None else Notice("rebalance", _moment(json.loads(rebalance).get("noticeTime")))
    )


def _gcp(base: str) -> Optional[Notice]:
    path = "/computeMetadata/v1/instance/preempted"
    return Notice("preemption") if _get(base + path, {"Metadata-Flavor": "Google"}) == "TRUE" else None


def _azure(base: str) -> Optional[Notice]:
    path = "/metadata/scheduledevents?api-version=2020-07-01"
    events = json.loads(_get(base + path, {"Metadata": "true"}) or "{}").get("Events") or ()
    for event in events:
        if event.get("EventType") == "Preempt":
            return Notice("preemption")
    return None


_READERS: Dict[str, Callable[[str], Optional[Notice]]] = {"aws": _aws, "gcp": _gcp, "azure": _azure}


def _get(url: str, headers: Dict[str, str], method: str = "GET") -> Optional[str]:
    """The text; None where there is no such thing."""
    request = urllib.request.Request(url, headers=headers, method=method)
    try:
        with _DIRECT.open(request, timeout=_TIMEOUT) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as exc:
        with exc:
            if exc.code == 404:
                return None
            raise OSError(f"{url} answered {exc.code}") from exc


def _moment(text: Optional[str]) -> Optional[float]:
    try:
        return float(calendar.timegm(time.strptime(text or "", "%Y-%m-%dT%H:%M:%SZ")))
    except ValueError:
        return None
