"""Replicas and services that come, go and die while requests pass."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.integration.gateway_world import GatewayProcess, gateway, get, has_haproxy
from tests.integration.test_agent_survival import _oldest_python as oldest_python
from tests.ports import free_port
from tests.waiting import PATIENCE, eventually

__all__ = ["gateway"]
pytestmark = has_haproxy


class Load:
    """Clients that ask without a pause, GET and POST in turn, each on one connection; no retries."""

    def __init__(self, url: str, clients: int) -> None:
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []
        self._url, self._ends = url, threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def _ask(self) -> None:
        with httpx.Client(base_url=self._url, timeout=PATIENCE) as client:
            turn = 0
            while not self._ends.is_set():
                turn += 1
                try:
                    answer = client.request(("GET", "POST")[turn % 2], "/who", content=b"x" * (turn % 2))
                except httpx.HTTPError as exc:
                    self.failures.append(repr(exc))
                    continue
                if answer.status_code != 200:
                    self.failures.append(f"{answer.status_code} {answer.text}")
                self.answers[answer.text] += 1

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join()


@contextmanager
def load(gateway: GatewayProcess, clients: int = 4) -> Iterator[Load]:
    made = Load(gateway.url, clients)
    made.start()
    try:
        yield made
    finally:
        made.end()


def test_replicas_come_and_go_under_load_without_a_failed_request_or_a_reload(gateway):
    a, b, c = (gateway.replica(name) for name in "abc")
    gateway.show(a.entry())
    with load(gateway) as running:
        for shown in ([a, b], [b], [b, c], [c], [a, c], [a]):
            gateway.show(*(one.entry() for one in shown))
            names = {one.name for one in shown}
            before = Counter(running.answers)
            eventually(lambda: all(running.answers[name] > before[name] + 150 for name in names))  # noqa: B023
    assert running.failures == []
    assert sum(running.answers.values()) >= 1200
    assert gateway.status()["haproxy"]["reloads"] == 0


def test_a_new_replica_gets_requests_and_one_that_left_gets_none(gateway):
    a, b = gateway.replica("a"), gateway.replica("b")
    gateway.show(a.entry(), policy="round_robin")
    gateway.show(a.entry(), b.entry(), policy="round_robin")
    assert {get(f"{gateway.url}/who").text for _ in range(4)} == {"a", "b"}
    gateway.show(b.entry(), policy="round_robin")
    eventually(lambda: {get(f"{gateway.url}/who").text for _ in range(4)} == {"b"})


def test_requests_are_answered_when_two_of_three_replicas_have_just_died(gateway):
    """Each dead one has fewer connections than the live one, which is busy, and so is asked first."""
    replicas = {name: gateway.replica(name) for name in "abc"}
    gateway.show(*(one.entry() for one in replicas.values()))
    with gateway.holding() as [busy]:
        seen = eventually(
            lambda: [name for name, one in gateway.chat()["replicas"].items() if one["in_flight"]]
        )
        for name in set(replicas) - set(seen):
            replicas[name].kill()
        answers = [get(f"{gateway.url}/who") for _ in range(3)]
        assert [(one.status_code, [one.text]) for one in answers] == [(200, seen)] * 3
        assert not busy.done()
    assert [busy.result().text] == seen


def test_a_service_is_added_and_removed_by_a_reload_that_keeps_what_is_in_progress(gateway):
    a = gateway.replica("a")
    gateway.show(a.entry())
    chat = {"name": "chat", "port": gateway.port, "replicas": [a.entry()]}
    other = {**chat, "name": "other", "port": free_port()}
    with load(gateway) as running, gateway.holding() as [slow]:
        eventually(lambda: gateway.chat()["replicas"]["a"]["in_flight"])
        for _ in range(3):
            gateway.show_services(chat, other)
            eventually(lambda: _status(f"http://127.0.0.1:{other['port']}/who") == 200)
            gateway.show_services(chat)
            eventually(lambda: _status(f"http://127.0.0.1:{other['port']}/who") is None)
        assert not slow.done()
        a.release()
        assert slow.result().text == "a"
        eventually(lambda: sum(running.answers.values()) > 100)
    assert running.failures == []
    assert gateway.status()["haproxy"]["reloads"] == 6


def _status(url: str) -> int | None:
    """None where nothing listens; 0 where the connection broke, as in a listener that is just closed."""
    try:
        return int(get(url).status_code)
    except httpx.ConnectError:
        return None
    except httpx.TransportError:
        return 0


def test_more_replicas_than_slots_are_all_used(gateway):
    a = gateway.replica("a")
    gateway.show(a.entry())
    entries = [a.entry(id=f"a{number}", address=f"127.0.0.{number + 1}") for number in range(12)]
    # All but one are addresses that nothing listens on.
    gateway.show(*entries, wait=False)
    gateway.await_state("a0", "ready")
    eventually(lambda: "nothing listens on 127.0.0.5" in gateway.await_state("a4", "starting")["reason"])
    assert get(f"{gateway.url}/who").text == "a"


def test_drain_lets_a_request_finish_and_sends_none_that_is_new(gateway):
    a, b = gateway.replica("a"), gateway.replica("b")
    gateway.show(a.entry())
    with gateway.holding() as [slow]:
        eventually(lambda: gateway.chat()["replicas"]["a"]["in_flight"] == 1)
        gateway.show(a.entry(state="draining"), b.entry())
        assert gateway.await_state("a", "draining")
        assert {get(f"{gateway.url}/who").text for _ in range(6)} == {"b"}
        gateway.await_looks()
        assert gateway.await_state("a", "draining", "drained")["state"] == "draining"
        assert not slow.done()
        a.release()
        gateway.await_state("a", "drained")
        assert slow.result().text == "a"


def test_drain_waits_for_requests_that_a_reload_left_to_the_old_process(gateway):
    a, b = gateway.replica("a"), gateway.replica("b")
    gateway.show(a.entry(), b.entry(state="draining"))
    with gateway.holding() as [slow]:
        eventually(lambda: gateway.chat()["replicas"]["a"]["in_flight"] == 1)
        chat = {"name": "chat", "port": gateway.port, "replicas": [a.entry(state="draining"), b.entry()]}
        gateway.show_services(chat, {"name": "other", "port": free_port(), "replicas": []})
        eventually(lambda: gateway.status()["haproxy"]["reloads"] == 1)
        eventually(lambda: gateway.chat()["replicas"]["a"]["in_flight"] == 1)
        gateway.await_looks()
        assert gateway.await_state("a", "draining", "drained")["state"] == "draining"
        assert not slow.done()
        a.release()
        gateway.await_state("a", "drained")
        assert slow.result().text == "a"


def test_drain_cuts_what_does_not_finish_within_its_limit_and_says_so(gateway):
    a, b = gateway.replica("a"), gateway.replica("b")
    gateway.show(a.entry(), drain_seconds=1)
    with gateway.holding(method="POST") as [slow]:
        eventually(lambda: gateway.chat()["replicas"]["a"]["in_flight"] == 1)
        gateway.show(a.entry(state="draining"), b.entry(), drain_seconds=1)
        drained = gateway.await_state("a", "drained")
        assert drained["reason"] == "1 requests did not end in time and were cut"
        assert slow.result(PATIENCE).status_code >= 500


@pytest.mark.parametrize("keep_alive", [False, True])
def test_a_killed_replica_mid_request_a_get_is_sent_to_another_a_post_never(gateway, keep_alive):
    a, b = gateway.replica("a"), gateway.replica("b")

    def asked(method: str) -> httpx.Response:
        with httpx.Client(base_url=gateway.url, timeout=PATIENCE) as client:
            if keep_alive:
                client.get("/who")
            # Only the one that is killed holds it.
            return client.request(method, "/hold/a", content=b"x" if method == "POST" else None)

    for method in ("POST", "GET"):
        gateway.show(a.entry())
        with ThreadPoolExecutor(1) as pool:
            pending = pool.submit(asked, method)
            eventually(lambda: gateway.chat()["replicas"]["a"]["in_flight"] == 1)
            gateway.show(a.entry(), b.entry())
            a.kill()
            if method == "GET":
                assert pending.result().text == "b"
            else:
                # After a first request on the same connection, HAProxy closes it without an answer.
                if keep_alive:
                    with pytest.raises(httpx.RemoteProtocolError):
                        pending.result()
                else:
                    assert pending.result().status_code == 502
                assert get(f"{b.url}/hits").text == "0"
        a = gateway.replica("a", port=a.port)


def test_a_killed_replica_among_others_costs_new_requests_nothing(gateway):
    a, b = gateway.replica("a"), gateway.replica("b")
    gateway.show(a.entry(), b.entry(), policy="round_robin")
    get(f"{gateway.url}/who")
    a.kill()
    with httpx.Client(base_url=gateway.url, timeout=PATIENCE) as client:
        answers = [client.request(("GET", "POST")[turn % 2], "/who") for turn in range(40)]
    assert [answer.text for answer in answers] == ["b"] * 40
    assert "nothing listens" in gateway.await_state("a", "not_ready")["reason"]
    gateway.replica("a", port=a.port)
    gateway.await_state("a", "ready")
    assert {get(f"{gateway.url}/who").text for _ in range(4)} == {"a", "b"}


def test_haproxy_goes_on_without_its_supervisor_and_the_next_one_takes_it_over(gateway):
    a, b = gateway.replica("a"), gateway.replica("b")
    gateway.show(a.entry(), probe={"path": "/health"})
    pid = gateway.haproxy_pid
    with load(gateway) as running:
        gateway.kill_supervisor()
        before = sum(running.answers.values())
        eventually(lambda: sum(running.answers.values()) > before + 100)
        gateway.start()
        gateway.show(a.entry(), b.entry(), probe={"path": "/health"})
        eventually(lambda: running.answers["b"] > 20)
    assert running.failures == []
    assert (gateway.haproxy_pid, gateway.status()["haproxy"]["reloads"]) == (pid, 0)


def test_a_view_that_changed_while_there_was_no_supervisor_is_caught_up_with(gateway):
    a, b = gateway.replica("a"), gateway.replica("b")
    token = "ab" * 32
    gateway.show(a.entry(), tokens=[token])
    gateway.kill_supervisor()
    service = {"name": "chat", "port": gateway.port, "replicas": [b.entry()]}
    gateway.view.write_text(json.dumps({"version": 9, "services": [service]}))
    gateway.start()
    eventually(lambda: get(f"{gateway.url}/who").text == "b")


@pytest.mark.parametrize("whom", ["master", "worker"])
def test_haproxy_is_started_again_when_it_is_killed(gateway, whom):
    gateway.show(gateway.replica("a").entry(), probe={"path": "/health"})
    pid = gateway.haproxy_pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    os.kill(pid if whom == "master" else int(children[0]), signal.SIGKILL)
    eventually(lambda: gateway.haproxy_pid != pid and gateway.status()["haproxy"]["crashes"] == 1)
    eventually(lambda: _status(f"{gateway.url}/who") == 200)


def test_a_port_that_is_taken_is_a_problem_of_its_service_alone_until_it_is_free(gateway):
    a = gateway.replica("a")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        chat = {"name": "chat", "port": gateway.port, "replicas": [a.entry()]}
        other = {"name": "other", "port": taken.getsockname()[1], "replicas": [a.entry()]}
        gateway.show_services(other, chat)
        eventually(lambda: "cannot be opened" in gateway.status()["services"]["other"]["problem"])
        eventually(lambda: _status(f"{gateway.url}/who") == 200)
    eventually(lambda: _status(f"http://127.0.0.1:{other['port']}/who") == 200)
    eventually(lambda: gateway.status()["services"]["other"]["problem"] == "")


def test_a_view_that_is_wrong_leaves_the_one_before(gateway):
    gateway.show(gateway.replica("a").entry())
    gateway.view.write_text('{"version": 2, "services": [{"name": "chat", "port": 99999}]}')
    eventually(lambda: any("services[0].port: 99999" in text for text in gateway.status()["problems"]))
    assert get(f"{gateway.url}/who").text == "a"


def run(*arguments: str, path: str = os.environ["PATH"]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stix.gateway", *arguments]
    return subprocess.run(
        command, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=PATIENCE
    )


def test_a_second_gateway_on_the_same_folder_is_refused(gateway):
    gateway.show(gateway.replica("a").entry())
    done = run("--view", str(gateway.view), "--state", str(gateway.state))
    assert done.returncode == 2
    assert "Give this one a folder of its own" in done.stderr


def test_the_gateway_runs_when_python_is_the_oldest_supported(gateway, tmp_path):
    python = oldest_python()
    if python is None:
        pytest.skip("no python3.8 that runs is on the PATH")
    gateway.start(python=python)
    gateway.show(gateway.replica("a").entry(), probe={"path": "/health"})
    assert get(f"{gateway.url}/who").text == "a"
    eventually(lambda: gateway.chat()["response_samples"] == 1)


def test_sigquit_leaves_haproxy_to_the_next_supervisor(gateway):
    a = gateway.replica("a")
    gateway.show(a.entry())
    pid = gateway.haproxy_pid
    gateway.supervisor.send_signal(signal.SIGQUIT)
    assert gateway.supervisor.wait(PATIENCE) == 0
    assert get(f"{gateway.url}/who").text == "a"
    gateway.start()
    gateway.await_looks(1)
    assert gateway.status()["haproxy"]["alive"]
    assert gateway.haproxy_pid == pid
