"""What every stored thing has in common."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict

__all__ = ["Record"]


class Record(BaseModel):
    """A thing in the table. Unknown fields are ignored, so that an older reader understands a newer item.

    ``version`` is the version that was read; 0 for a thing that is not stored yet. ``due_at`` is when
    somebody must look at it again, None once nothing more will happen.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: ClassVar[str]
    schema_version: ClassVar[int] = 1

    workspace: str
    version: int = 0
    due_at: float | None = None
    expires_at: float | None = None

    @classmethod
    def read_older(cls, body: dict[str, Any], schema_version: int) -> dict[str, Any]:
        """The body that an older release wrote, in the shape of this one. A new field with a default needs
        neither this nor another ``schema_version``: both releases read each other's items then."""
        return body

    def changed(self, **changes: Any) -> Self:
        """A copy with some fields replaced; ``version`` stays, so that writing it is conditional on it."""
        return self.model_copy(update=changes)
