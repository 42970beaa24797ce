"""An operation: a request that was accepted and is being worked on."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from stix.model.record import Record
from stix.model.status import OperationStatus

__all__ = ["MAX_PROGRESS", "Operation", "Progress"]

MAX_PROGRESS = 200
"""Lines of progress that an operation keeps; later ones replace the last."""


class Progress(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    at: float
    message: str


class Operation(Record):
    """``verb`` is launch, start, stop or down; ``error`` is the API's error body when FAILED."""

    kind: ClassVar[str] = "operation"

    id: str
    verb: str
    cluster_id: str
    cluster_name: str
    job_id: int | None = None
    status: OperationStatus = OperationStatus.PENDING
    created_at: float
    ended_at: float | None = None
    progress: tuple[Progress, ...] = ()
    error: dict[str, Any] | None = None
