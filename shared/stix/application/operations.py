"""Operations: progress for people, and one honest end."""

from __future__ import annotations

import re
from typing import Any

from stix.application.records import cursor_of_request, load, operation_key, put, update
from stix.application.world import World
from stix.model.errors import NotFoundError, StixError
from stix.model.operation import MAX_PROGRESS, Operation, Progress
from stix.model.status import OperationStatus
from stix.ports.state_store import Write
from stix.ports.surroundings import Event

__all__ = [
    "announce_end",
    "ended_operation",
    "error_body",
    "find_operation",
    "finish",
    "get_operation",
    "list_operations",
    "note",
    "note_writes",
    "topic",
]


_OPERATION_ID = re.compile(r"op-[0-9a-z]{1,40}", re.ASCII)


def topic(operation_id: str) -> str:
    """What a reader of the operation waits on."""
    return f"operation/{operation_id}"


def error_body(error: StixError) -> dict[str, Any]:
    """The API's error body of an error."""
    return {"code": error.code, "message": error.message, "hint": error.hint, "details": error.details}


def note(world: World, workspace: str, operation_id: str, message: str) -> None:
    """Add a line of progress; a line equal to the last one is not repeated. No operation: nothing."""
    if not operation_id:
        return
    update(
        world, Operation, operation_key(workspace, operation_id), lambda one: _with_line(world, one, message)
    )
    world.wake.wake(topic(operation_id))


def note_writes(world: World, workspace: str, operation_id: str, message: str) -> list[Write]:
    """The same as a part of somebody's transaction, who wakes ``topic`` afterwards."""
    operation = find_operation(world, workspace, operation_id)
    changed = None if operation is None else _with_line(world, operation, message)
    return [] if changed is None else [put(changed)]


def _with_line(world: World, operation: Operation, message: str) -> Operation | None:
    if operation.status.terminal or (operation.progress and operation.progress[-1].message == message):
        return None
    line = Progress(at=world.clock.now(), message=message)
    progress = (*operation.progress[: MAX_PROGRESS - 1], line)
    return operation.changed(status=OperationStatus.RUNNING, progress=progress)


def finish(
    world: World,
    workspace: str,
    operation_id: str,
    status: OperationStatus,
    error: StixError | None = None,
) -> None:
    """End an operation; one that has ended stays as it is."""
    if not operation_id:
        return
    changed: list[Operation] = []

    def change(operation: Operation) -> Operation | None:
        changed[:] = [] if operation.status.terminal else [ended_operation(world, operation, status, error)]
        return changed[0] if changed else None

    ended = update(world, Operation, operation_key(workspace, operation_id), change)
    if ended is not None and changed:
        announce_end(world, ended)


def ended_operation(
    world: World, operation: Operation, status: OperationStatus, error: StixError | None = None
) -> Operation:
    """The operation as it has ended now, to be written."""
    now = world.clock.now()
    return operation.changed(
        status=status,
        ended_at=now,
        due_at=None,
        error=None if error is None else error_body(error),
        expires_at=now + world.limits.retention_seconds,
    )


def announce_end(world: World, operation: Operation) -> None:
    """Tell whoever waits for an operation, after its end was written."""
    world.wake.wake(topic(operation.id))
    detail = {"verb": operation.verb, "cluster": operation.cluster_name, "status": str(operation.status)}
    event = Event("OperationEnded", operation.workspace, operation.id, world.clock.now(), detail)
    world.events.publish(event)


def find_operation(world: World, workspace: str, operation_id: str) -> Operation | None:
    """The operation, None where there is none (any more)."""
    known = _OPERATION_ID.fullmatch(operation_id)
    item = world.store.get(operation_key(workspace, operation_id)) if known else None
    return None if item is None else load(Operation, item)


def get_operation(world: World, workspace: str, operation_id: str) -> Operation:
    """Raises ``NotFoundError``."""
    operation = find_operation(world, workspace, operation_id)
    if operation is None:
        raise NotFoundError(
            f"There is no operation {operation_id!r}.",
            hint="Operations are kept for 30 days; `stix api operations` lists them.",
            code="operation_not_found",
        )
    return operation


def list_operations(
    world: World, workspace: str, *, after: str | None = None
) -> tuple[list[Operation], str | None]:
    """One page, unfinished ones first, then newest first; and the cursor of the next page."""
    with cursor_of_request(after):
        page = world.store.list(workspace, Operation.kind, after=after, limit=50)
    return [load(Operation, item) for item in page.items], page.next
