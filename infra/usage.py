"""What an action uses of the metered services, and its price. Pure arithmetic, no SDK."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from infra import costs

__all__ = ["Usage"]

S3_PUT = 5e-6
S3_GET = 0.4e-6
EVENT = 1e-6


@dataclass(frozen=True, slots=True)
class Usage:
    """Amounts; fractions where they are averages.

    Attributes:
        read_units: DynamoDB, of 4 KB strongly consistent.
        write_units: DynamoDB, of 1 KB, those of the indexes and of transactions counted as they are billed.
        invocations: of functions by name.
        gb_seconds: of all these functions.
        transitions: of state machines.
        http_requests, socket_messages: of the two APIs, each with its line in the access log.
        log_lines: of our functions.
    """

    read_units: float = 0
    write_units: float = 0
    invocations: Mapping[str, float] = field(default_factory=dict)
    gb_seconds: float = 0
    transitions: float = 0
    object_puts: float = 0
    object_gets: float = 0
    http_requests: float = 0
    socket_messages: float = 0
    events: float = 0
    log_lines: float = 0

    def __add__(self, other: Usage) -> Usage:
        return self._with(other, 1)

    def __sub__(self, other: Usage) -> Usage:
        return self._with(other, -1)

    def times(self, factor: float) -> Usage:
        return Usage()._with(self, factor)

    def _with(self, other: Usage, factor: float) -> Usage:
        names = {**self.invocations, **other.invocations}
        called = {
            name: self.invocations.get(name, 0) + factor * other.invocations.get(name, 0) for name in names
        }
        sums = {
            name: getattr(self, name) + factor * getattr(other, name)
            for name in self.__slots__
            if name != "invocations"
        }
        return Usage(invocations=called, **sums)

    def costs(self) -> dict[str, float]:
        """USD by service, at list price without free tiers."""
        access_log = costs.ACCESS_LOG_BYTES * costs.LOG_BYTE
        return {
            "Lambda": sum(self.invocations.values()) * costs.LAMBDA_REQUEST
            + self.gb_seconds * costs.LAMBDA_GB_SECOND,
            "DynamoDB": self.read_units * costs.DYNAMODB_READ + self.write_units * costs.DYNAMODB_WRITE,
            "Step Functions": self.transitions * costs.TRANSITION,
            "API Gateway": self.http_requests * (costs.HTTP_REQUEST + access_log)
            + self.socket_messages * costs.WEBSOCKET_MESSAGE,
            "S3": self.object_puts * S3_PUT + self.object_gets * S3_GET,
            "CloudWatch, EventBridge": self.log_lines * costs.LOG_LINE_BYTES * costs.LOG_BYTE
            + self.events * EVENT,
        }

    @property
    def cost(self) -> float:
        return sum(self.costs().values())
