"""By what managed jobs that have ended are found in the queue."""

from __future__ import annotations

from stix.lifecycle.managed_job import queue_entries
from stix.model.managed_job import ManagedJob
from stix.ports.state_store import Item, Key, Put

__all__ = ["ENTRY", "entry_writes"]

ENTRY = "job_entry"
"""The kind of the entries: children of what they are found by, in the order of the jobs' numbers."""


def entry_writes(job: ManagedJob) -> list[Put]:
    """What finds a job that has ended by its user, status and places, for as long as it is kept."""
    return [
        Put(
            Item(
                Key(job.workspace, ENTRY, name, f"{job.id:010d}"),
                created_at=job.created_at,
                expires_at=job.expires_at,
            ),
            unconditional=True,
        )
        for name in queue_entries(job)
    ]
