"""What a replica's probes make of it, and the figures of the statistics."""

from __future__ import annotations

import json

from stix.gateway.health import Health, judge
from stix.gateway.metrics import AccessLog, Metrics, percentile
from stix.gateway.runtime_api import ANSWERS, Load
from stix.gateway.view import Probe

PROBE = Probe("/health", initial_delay_seconds=100, failure_seconds=30)


def after(*probes: tuple[float, str | None]) -> Health:
    health = Health(0, 0)
    for now, failure in probes:
        health = judge(health, failure, PROBE, now)
    return health


def test_a_replica_that_starts_has_its_initial_delay():
    assert (after((99, "no")).state, after((99, "no")).reason) == ("starting", "no")
    failed = after((1, "no"), (100, "no"))
    assert (failed.state, failed.reason, failed.since) == ("failed", "no; never ready within 100 s", 100)


def test_one_failure_makes_a_ready_replica_not_ready_and_one_answer_ready_again():
    assert after((1, None)).state == "ready"
    sick = after((1, None), (5, "no"), (8, "no"))
    assert (sick.state, sick.since) == ("not_ready", 5)
    well = after((1, None), (5, "no"), (9, None))
    assert (well.state, well.since, well.failing_since) == ("ready", 9, None)


def test_failures_count_from_the_first_of_a_row():
    assert after((1, None), (5, "no"), (34, "no")).state == "not_ready"
    assert after((1, None), (5, "no"), (35, "no")).state == "failed"
    assert after((1, None), (5, "no"), (20, None), (21, "no"), (50, "no")).state == "not_ready"


def test_a_replica_that_was_ready_early_fails_by_the_threshold_not_by_the_delay():
    assert after((1, None), (2, "no"), (32, "no")).state == "failed"


def load(in_flight: int = 0, requests: int = 0, status: str = "UP") -> Load:
    return Load(in_flight, requests, 0, 0, 0, 0, 0, status, dict.fromkeys(ANSWERS, 0))


def test_totals_go_on_when_another_process_counts_from_zero():
    metrics = Metrics()
    front = ("chat", "FRONTEND")
    metrics.begin("chat", 0)
    for pid, requests, now in ((1, 100, 10), (1, 150, 20), (2, 0, 21), (2, 30, 30)):
        metrics.observe(pid, {front: load(requests=requests)}, [], {}, [], now)
    figures = metrics.of_service("chat", 30)
    assert (figures["requests"], figures["rate_10s"], figures["rate_60s"]) == (180, 3.0, 6.0)


def test_requests_in_progress_are_those_of_old_processes_too():
    metrics = Metrics()
    key = ("chat", "s1")
    metrics.observe(2, {key: load(3)}, [{key: load(2)}, {}], {"chat": 5}, [], 0)
    assert metrics.in_flight(*key) == 5
    assert metrics.of_service("chat", 0)["waiting"] == 5


def test_a_slot_that_stands_for_another_replica_counts_from_zero():
    metrics = Metrics()
    key = ("chat", "s1")
    metrics.observe(1, {key: load(requests=10)}, [], {}, [], 0)
    metrics.start_anew(*key)
    assert metrics.of_server(*key)["requests"] == 0
    metrics.observe(1, {key: load(requests=12)}, [], {}, [], 1)
    metrics.observe(2, {key: load(requests=1)}, [], {}, [], 2)
    assert metrics.of_server(*key)["requests"] == 3


def line(seconds: float) -> dict[str, object]:
    return {"service": "chat", "status": 200, "total_ms": seconds * 1000}


def test_response_times_are_those_of_the_last_minute():
    metrics = Metrics()
    metrics.observe(1, {}, [], {}, [line(9)], 0)
    metrics.observe(1, {}, [], {}, [line(part / 100) for part in range(1, 101)], 61)
    figures = metrics.of_service("chat", 61)
    assert figures["response_seconds"] == {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    assert figures["response_samples"] == 100


def test_percentiles_of_little_or_nothing():
    assert percentile([], 95) is None
    assert percentile([3.0], 1) == percentile([3.0], 99) == 3.0


def test_the_access_log_is_read_once_skips_what_is_no_line_and_is_rotated(tmp_path):
    path = tmp_path / "access.log"
    path.write_text(json.dumps(line(1)) + "\n")
    log = AccessLog(str(path), most_bytes=1000)
    assert log.read() == []
    with path.open("a") as stream:
        stream.write("Proxy chat stopped.\n" + json.dumps(line(2)) + "\n" + '{"service": "ch')
    assert log.read() == [line(2)]
    with path.open("a") as stream:
        stream.write('at", "status": 200, "total_ms": 3000.0}\n')
    assert log.read() == [line(3)]
    with path.open("a") as stream:
        stream.write((json.dumps(line(4)) + "\n") * 30)
    assert log.read() == [line(4)] * 30
    assert path.stat().st_size == 0
    assert (tmp_path / "access.log.1").read_text().count("\n") == 33 + 1
    with path.open("a") as stream:
        stream.write(json.dumps(line(5)) + "\n")
    assert log.read() == [line(5)]
