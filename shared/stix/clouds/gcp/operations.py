"""What Google keeps of a gang besides its machines: the operations that made, took and deleted them.

A creation that fails does so in its operation, after it was accepted; a spot machine that was taken is gone,
and only an operation says why; a machine that is being deleted has the status of one that is being stopped.
All three are read here, in one list.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from stix.clouds.gcp.errors import refusal, translated
from stix.clouds.gcp.names import request_id, token_name, token_of
from stix.clouds.gcp.session import Session
from stix.model.errors import NoCapacityError, QuotaExceededError, StixError, ThrottledError, UnavailableError

__all__ = ["GangOperations", "failure", "operations_of"]

_PREEMPTED = "compute.instances.preempted"
_TOKENS_A_CALL = 10
_PAGE = 500
_HARDER = (QuotaExceededError,)


@dataclass
class GangOperations:
    """``deleted`` holds names of machines, with whether the deletion has ended; ``preempted`` with what was
    said of it."""

    creation: Any = None
    deleted: dict[str, bool] = field(default_factory=dict)
    preempted: dict[str, str] = field(default_factory=dict)

    @property
    def creating(self) -> bool:
        return self.creation is not None and self.creation.status.name != "DONE"

    @property
    def error(self) -> StixError | None:
        """Why the creation failed; None where it did not, or not yet."""
        return None if self.creation is None or self.creating else failure(self.creation)


def operations_of(session: Session, tokens: Collection[str]) -> dict[str, GangOperations]:
    """For each token what is known of its gang."""
    found = {token: GangOperations() for token in tokens}
    by_request = {request_id(token): token for token in tokens}
    ordered = sorted(found)
    for start in range(0, len(ordered), _TOKENS_A_CALL):
        some = ordered[start : start + _TOKENS_A_CALL]
        filters = [f'(clientOperationId = "{request_id(token)}")' for token in some]
        filters += [f'(targetLink : "/instances/{token_name(token)}-")' for token in some]
        for operation in _list(session, " OR ".join(filters)):
            token = by_request.get(str(operation.client_operation_id))
            # Each machine's own insertion may carry the key of the bulk that it is part of.
            if token is not None and operation.operation_type != "insert":
                found[token].creation = operation
                continue
            name = str(operation.target_link).rpartition("/")[2]
            gang = found.get(token_of(name))
            if gang is None:
                continue
            if operation.operation_type == "delete" and not operation.error.errors:
                gang.deleted[name] = operation.status.name == "DONE"
            elif operation.operation_type == _PREEMPTED:
                words = str(operation.status_message) or "Instance was preempted."
                gang.preempted[name] = f"{_PREEMPTED}: {words}"
    return found


def failure(operation: Any) -> StixError | None:
    """What an operation that has ended says went wrong. The worst counts: a quota that no other zone heals
    stands among the errors of every zone that was tried."""
    found = [
        _for_good(refusal(str(error.code), str(error.message)), str(error.code))
        for error in operation.error.errors
    ]
    for kind in _HARDER:
        for error in found:
            if isinstance(error, kind):
                return error
    return found[0] if found else None


def _for_good(error: StixError, code: str) -> StixError:
    """The outcome of an operation is known: the same call again would only read it again."""
    if isinstance(error, (UnavailableError, ThrottledError)):
        return NoCapacityError(error.message, provider_code=code)
    return error


def _list(session: Session, wanted: str) -> Iterator[Any]:
    with translated():
        pages = session.client("GlobalOperations").aggregated_list(
            request={"project": session.project, "filter": wanted, "max_results": _PAGE}, retry=None
        )
        for _, scope in pages:
            yield from scope.operations
