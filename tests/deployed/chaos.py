"""What goes wrong in an account: functions die, time out and are called twice, AWS refuses or is not heard.

All of it is drawn from one seed: the fate of a function's call from the function's name and the number of the
call, so that the same call meets the same fate in every run, whatever happens beside it.
"""

from __future__ import annotations

import json
import random
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tests.deployed.runtime_api import Environment, Outcome

__all__ = ["Chaos", "Fate", "Rates", "Trouble"]

CarryOut = Callable[[Callable[..., Any]], Iterable[bytes]]
"""A request to AWS, given what begins its answer."""

_LAST_REQUEST = 8
_MOST_SECONDS = 0.4
_MOST_REFUSALS = 4
_WORDS = "The rate of requests exceeds the throughput."


class Trouble(StrEnum):
    KILLED = "killed"
    """``kill -9``, at a request to AWS or at any moment."""
    TIMED_OUT = "timed out"
    """Lambda ends it, as above."""
    TWICE = "delivered twice"
    """One after the other, or both at once."""
    THROTTLED = "throttled"
    """DynamoDB refuses some requests in a row."""
    UNANSWERED = "unanswered"
    """EC2 does what it was asked, and the connection breaks."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Shares of all calls of functions; the last two of all their requests to the service."""

    killed: float = 0.02
    timed_out: float = 0.015
    twice: float = 0.05
    throttled: float = 0.006
    unanswered: float = 0.06


class Chaos:
    """``fate`` of each call of a function, ``happened`` what came of them all. Thread-safe."""

    def __init__(self, seed: int, rates: Rates | None = None) -> None:
        self._seed, self._rates = seed, rates or Rates()
        self._calls: dict[str, int] = defaultdict(int)
        self._lock = threading.Lock()
        self.happened: Counter[Trouble] = Counter()

    def fate(self, function: str) -> Fate:
        """Of the function's next call."""
        with self._lock:
            self._calls[function] += 1
            chance = random.Random(f"{self._seed}/{function}/{self._calls[function]}")
        return Fate(chance, self._rates, self._count)

    def _count(self, trouble: Trouble) -> None:
        with self._lock:
            self.happened[trouble] += 1


class Fate:
    """Of one call: how it ends, where not by itself, whether it is delivered ``twice``, and then whether both
    run ``at_once``."""

    def __init__(self, chance: random.Random, rates: Rates, count: Callable[[Trouble], None]) -> None:
        self._rates, self._count = rates, count
        draw = chance.random()
        self.end: Trouble | None = None
        if draw < rates.killed + rates.timed_out:
            self.end = Trouble.KILLED if draw < rates.killed else Trouble.TIMED_OUT
        self.at = chance.randint(1, _LAST_REQUEST)
        """The request at which it ends; after its work, where it makes fewer."""
        self.before = chance.random() < 0.5
        """Whether that request never arrives."""
        self.seconds = chance.uniform(0.0, _MOST_SECONDS) if chance.random() < 0.25 else None
        """After which it ends instead, wherever it is."""
        self.twice = chance.random() < rates.twice
        self.at_once = chance.random() < 0.5
        self._chance = chance
        self._requests = self._refusals = 0
        self._environment: Environment | None = None
        self._lock = threading.Lock()

    def run(self, environment: Environment, call: Callable[[], Outcome]) -> Outcome:
        """Make the call, which runs in the environment: what its caller hears."""
        with self._lock:
            self._environment = environment
        with self._timer():
            outcome = call()
        if self.end is not None and self.seconds is None and environment.alive and not outcome.failed:
            outcome = self._finish() or outcome
        with self._lock:
            self._environment = None
        return outcome

    def deliver(self, call: Callable[[], Outcome]) -> Outcome:
        """Once, or twice: the outcome of the delivery that is heard of."""
        if not self.twice:
            return call()
        self._count(Trouble.TWICE)
        if not self.at_once:
            call()
            return call()
        other = threading.Thread(target=call, daemon=True)
        other.start()
        try:
            return call()
        finally:
            other.join()

    def request(self, environ: Mapping[str, Any], body: bytes, start: Any, carry_out: CarryOut) -> Any:
        """A request that the call makes of AWS. Raises ``ConnectionError`` where no answer leaves."""
        trouble, before = self._trouble(environ)
        if trouble is None:
            return carry_out(start)
        if trouble is Trouble.THROTTLED:
            start("400 Bad Request", [("Content-Type", "application/x-amz-json-1.0")])
            return [_throttled(str(environ["HTTP_X_AMZ_TARGET"]), body, self._chance.random() < 0.5)]
        if not before:
            list(carry_out(lambda *_: None))
        if trouble is not Trouble.UNANSWERED:
            self._finish()
        environ["werkzeug.socket"].shutdown(2)
        raise ConnectionError("the answer is lost")

    def _trouble(self, environ: Mapping[str, Any]) -> tuple[Trouble | None, bool]:
        """What befalls the next request, and whether before it is carried out."""
        self._requests += 1
        if self.end is not None and self.seconds is None and self._requests == self.at:
            return self.end, self.before
        if "DynamoDB" in str(environ.get("HTTP_X_AMZ_TARGET")):
            if not self._refusals and self._chance.random() < self._rates.throttled:
                self._refusals = self._chance.randint(1, _MOST_REFUSALS)
            if self._refusals:
                self._refusals -= 1
                self._count(Trouble.THROTTLED)
                return Trouble.THROTTLED, True
            return None, False
        of_ec2 = "/ec2/" in str(environ.get("HTTP_AUTHORIZATION"))
        if of_ec2 and self._chance.random() < self._rates.unanswered:
            self._count(Trouble.UNANSWERED)
            return Trouble.UNANSWERED, False
        return None, False

    @contextmanager
    def _timer(self) -> Iterator[None]:
        if self.end is None or self.seconds is None:
            yield
            return
        timer = threading.Timer(self.seconds, self._finish)
        timer.daemon = True
        timer.start()
        yield
        timer.cancel()

    def _finish(self) -> Outcome | None:
        """The call ends now, whatever it is doing; None where it has ended."""
        with self._lock:
            environment, self._environment = self._environment, None
        if environment is None or self.end is None:
            return None
        self._count(self.end)
        if self.end is Trouble.TIMED_OUT:
            outcome = Outcome.error(
                "Sandbox.Timedout", "RequestId: 0 Error: Task timed out after 0.00 seconds"
            )
        else:
            words = "RequestId: 0 Error: Runtime exited with error: signal: killed"
            outcome = Outcome.error("Runtime.ExitError", words)
        environment.kill(outcome)
        return outcome


def _throttled(target: str, body: bytes, provisioned: bool) -> bytes:
    """As DynamoDB says it."""
    kind = "ProvisionedThroughputExceededException" if provisioned else "ThrottlingException"
    prefix = "com.amazonaws.dynamodb.v20120810#"
    if not target.endswith("TransactWriteItems"):
        return json.dumps({"__type": prefix + kind, "message": _WORDS}).encode()
    code = "ProvisionedThroughputExceeded" if provisioned else "ThrottlingError"
    others = len(json.loads(body)["TransactItems"]) - 1
    reasons = [{"Code": code, "Message": _WORDS}, *[{"Code": "None"}] * others]
    words = f"Transaction cancelled [{', '.join(reason['Code'] for reason in reasons)}]"
    answer = {"__type": prefix + "TransactionCanceledException", "Message": words}
    return json.dumps({**answer, "CancellationReasons": reasons}).encode()
