"""Every interval, limit and size of the agent in one place."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Mapping


@dataclass(frozen=True)
class Tunables:
    """Seconds and bytes; a config file's ``tunables`` may override any of them."""

    backoff_first: float = 0.2
    backoff_last: float = 5.0
    not_ready_retry: float = 0.3
    refused_join_seconds: float = 600.0
    refused_join_retry: float = 10.0
    call_timeout: float = 20.0
    held_call_timeout: float = 60.0
    held_answer_seconds: float = 1.0
    report_seconds: float = 60.0
    report_lead: float = 0.03
    report_window: float = 0.2
    log_window: float = 0.1
    cancel_grace: float = 5.0
    machine_grace: float = 5.0
    folder_check_seconds: float = 60.0
    adopted_poll: float = 0.2
    lost_rank_seconds: float = 300.0
    cancel_answer_seconds: float = 15.0
    probe_retry: float = 0.3
    probe_seconds: float = 60.0
    peer_timeout: float = 10.0
    queue_patience: float = 60.0
    chunk_bytes: int = 1 << 20
    chunk_seconds: float = 10.0
    chunk_first_seconds: float = 0.2
    chunk_followed_seconds: float = 1.0
    tail_seconds: float = 2.0
    tail_followed_seconds: float = 0.2
    tail_first_seconds: float = 0.05
    spooled_chunks: int = 32
    kept_jobs: int = 50
    wind_down_seconds: float = 8.0
    wake_reconnect_seconds: float = 6600.0
    wake_ping_seconds: float = 300.0
    notice_seconds: float = 5.0
    transfer_timeout: float = 120.0

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Tunables:
        """Unknown names are ignored, so that an older agent takes a newer config."""
        known = {f.name for f in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})
