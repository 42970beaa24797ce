from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from stix.local.functions import PAYLOAD_LIMIT, Functions, FunctionSize, PayloadTooLargeError
from stix.local.interpreter.errors import FunctionError
from stix.local.workers import WorkerPool
from stix.model.errors import ThrottledError

DEADLINE = 30.0


def functions(handler: Callable[[Any, Any], Any], **size: Any) -> Functions:
    return Functions({"provision": handler}, {"provision": FunctionSize(**size)})


def test_payload_and_answer_are_copies_when_a_function_is_invoked() -> None:
    seen: list[Any] = []
    payload = {"a": [1, 2], "b": (3,)}

    def handler(event: Any, context: Any) -> Any:
        seen.append(event)
        event["a"].append(3)
        return {1: (event["a"], None)}

    assert functions(handler).invoke("provision", payload) == {"1": [[1, 2, 3], None]}
    assert seen[0]["b"] == [3]
    assert payload["a"] == [1, 2]


def test_invocation_fails_by_class_name_when_the_handler_raises() -> None:
    def handler(event: Any, context: Any) -> Any:
        raise ThrottledError("slow down", retry_after=3)

    with pytest.raises(FunctionError) as caught:
        functions(handler).invoke("provision", {})
    assert caught.value.error_type == "ThrottledError"
    assert caught.value.message == "slow down"


@pytest.mark.parametrize("answer", [object(), {"set": {1}}, float("nan")])
def test_invocation_fails_when_the_answer_is_not_json(answer: Any) -> None:
    with pytest.raises(FunctionError) as caught:
        functions(lambda event, context: answer).invoke("provision", {})
    assert caught.value.error_type in ("TypeError", "ValueError")


def test_nothing_is_invoked_when_the_payload_is_too_large() -> None:
    def handler(event: Any, context: Any) -> Any:
        raise AssertionError("invoked")

    with pytest.raises(PayloadTooLargeError):
        functions(handler).invoke("provision", {"a": "x" * PAYLOAD_LIMIT})


def test_invocation_fails_when_the_answer_is_too_large() -> None:
    with pytest.raises(FunctionError) as caught:
        functions(lambda event, context: "x" * PAYLOAD_LIMIT).invoke("provision", {})
    assert caught.value.error_type == "Function.ResponseSizeTooLarge"


def test_context_is_like_lambdas_when_a_function_is_invoked() -> None:
    def handler(event: Any, context: Any) -> Any:
        return [
            context.function_name,
            context.aws_request_id,
            context.invoked_function_arn,
            context.memory_limit_in_mb,
            context.get_remaining_time_in_millis(),
        ]

    name, request, arn, memory, remaining = functions(handler, timeout_seconds=9.0).invoke("provision", {})
    assert name == "provision"
    assert len(request) == 36
    assert arn.endswith(":function:provision")
    assert memory > 0
    assert 0 < remaining <= 9000


def test_slow_work_delays_only_its_own_function_when_pools_are_separate() -> None:
    release, done = threading.Event(), threading.Event()
    both = Functions(
        {"api": lambda e, c: None, "monitor": lambda e, c: None}, {name: FunctionSize() for name in ()}
    )
    both.submit("api", lambda: release.wait(DEADLINE) and None)
    both.submit("monitor", done.set)
    assert done.wait(DEADLINE)
    release.set()
    assert both.close(DEADLINE)


def test_work_is_done_one_at_a_time_and_in_order_when_the_pool_has_one_thread() -> None:
    pool = WorkerPool("one", 1)
    order: list[int] = []
    inside = threading.Lock()

    def work(number: int) -> None:
        assert inside.acquire(blocking=False)
        order.append(number)
        inside.release()

    ended = threading.Event()
    for number in range(50):
        pool.submit(lambda number=number: work(number))
    pool.submit(ended.set)
    assert ended.wait(DEADLINE)
    assert order == list(range(50))


def test_pool_uses_all_its_threads_when_there_is_work_for_them() -> None:
    pool = WorkerPool("four", 4)
    barrier = threading.Barrier(5)
    for _ in range(4):
        pool.submit(lambda: barrier.wait(DEADLINE) and None)
    barrier.wait(DEADLINE)
    pool.stop()
    assert pool.join(DEADLINE)


def test_pool_goes_on_when_work_raises() -> None:
    pool, done = WorkerPool("one", 1), threading.Event()
    pool.submit(lambda: 1 / 0 and None)
    pool.submit(done.set)
    assert done.wait(DEADLINE)


def test_close_reports_hanging_work_and_drops_what_waits_when_the_time_is_over() -> None:
    release, begun = threading.Event(), threading.Event()
    ran: list[int] = []
    one = functions(lambda e, c: None)
    one.submit("provision", lambda: begun.set() or (release.wait(DEADLINE) and None))
    one.submit("provision", lambda: ran.append(1))
    assert begun.wait(DEADLINE)
    assert one.close(0.01) is False
    release.set()
    assert one.close(DEADLINE) is True
    one.submit("provision", lambda: ran.append(2))
    assert ran == []


def test_other_work_begins_after_requests_when_both_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stix.local.turns.PATIENCE_SECONDS", DEADLINE)
    order: list[str] = []
    begun, go_on = threading.Event(), threading.Event()

    def request() -> None:
        begun.set()
        assert go_on.wait(DEADLINE)
        order.append("request")

    handlers = {"api": lambda event, context: None, "provision": lambda event, context: None}
    both = Functions(handlers)
    done = threading.Event()
    both.submit("api", request)
    assert begun.wait(DEADLINE)
    both.submit("provision", lambda: (order.append("work"), done.set()))
    go_on.set()
    assert done.wait(DEADLINE)
    assert both.close(DEADLINE)
    assert order == ["request", "work"]


def test_other_work_begins_all_the_same_when_a_request_never_ends() -> None:
    go_on, done = threading.Event(), threading.Event()
    both = Functions({"api": lambda event, context: None, "provision": lambda event, context: None})
    both.submit("api", lambda: go_on.wait(DEADLINE))
    both.submit("provision", done.set)
    assert done.wait(DEADLINE)
    go_on.set()
    assert both.close(DEADLINE)


def test_what_began_earlier_goes_on_first_when_much_waits() -> None:
    order: list[int] = []
    begun, go_on, done = threading.Event(), threading.Event(), threading.Event()
    pool = WorkerPool("one", 1)
    pool.submit(lambda: (begun.set(), go_on.wait(DEADLINE)))
    assert begun.wait(DEADLINE)
    for number in (7, 3, 5, 3):
        pool.submit(lambda number=number: order.append(number), number)
    pool.submit(done.set, 9)
    go_on.set()
    assert done.wait(DEADLINE)
    assert order == [3, 3, 5, 7]
    pool.stop()
    assert pool.join(DEADLINE)
