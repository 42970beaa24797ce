"""What probes say of a replica: pure, with the time as an argument."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional

from .view import Probe


@dataclass(frozen=True)
class Health:
    """``state`` is starting, ready, not_ready or failed; times are Unix seconds.

    One failed probe makes a ready replica not_ready, which takes it out of the rotation. It has failed when
    it was never ready within the probe's initial delay, or fails for as long as its threshold. One that
    answers again is ready, whatever was before: ending a failed one is the control plane's business.
    """

    began: float
    since: float
    state: str = "starting"
    reason: str = ""
    was_ready: bool = False
    failing_since: Optional[float] = None


def judge(health: Health, failure: Optional[str], probe: Probe, now: float) -> Health:
    """The health after a probe: ``failure`` says why it failed, None that it did not."""
    if failure is None:
        since = health.since if health.state == "ready" else now
        return replace(health, state="ready", reason="", since=since, was_ready=True, failing_since=None)
    failing_since = now if health.failing_since is None else health.failing_since
    if health.was_ready:
        limit, state = failing_since + probe.failure_seconds, "not_ready"
        verdict = f"{failure}; so for {probe.failure_seconds:g} s"
    else:
        limit, state = health.began + probe.initial_delay_seconds, "starting"
        verdict = f"{failure}; never ready within {probe.initial_delay_seconds:g} s"
    if now >= limit:
        state, failure = "failed", verdict
    since = health.since if state == health.state else now
    return replace(health, state=state, reason=failure, since=since, failing_since=failing_since)
