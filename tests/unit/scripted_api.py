"""A control plane for tests of the client: answers in the real models' shapes, remembers the calls."""

from __future__ import annotations

import io
import json
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest

from stix.api import v1
from stix.cli.entry import run
from stix.cli.session import Session
from stix.sdk.endpoint import Endpoint
from stix.sdk.logs import Frame, encode_frame
from stix.sdk.retrying import Pace

NOW = 1_800_000_000.0
URL = "http://127.0.0.1:46580"


def cluster(name: str = "dev", **fields: Any) -> dict[str, Any]:
    given = {
        "id": f"c-{name}",
        "status": "UP",
        "since": NOW - 60,
        "created_at": NOW - 7200,
        "num_nodes": 1,
        "cloud": "local",
        "instance_type": "local-2x4",
        "hourly_price": 0.0,
        "addresses": ["127.77.1.1"],
    }
    return v1.Cluster(name=name, **{**given, **fields}).model_dump(mode="json")


def job(job_id: int = 1, status: str = "SUCCEEDED", **fields: Any) -> dict[str, Any]:
    code = {"SUCCEEDED": 0, "FAILED": 1}.get(status)
    given = {"cluster": "dev", "submitted_at": NOW - 100, "exit_code": code, "exit_codes": [code]}
    return v1.Job(id=job_id, status=status, **{**given, **fields}).model_dump(mode="json")


def operation(operation_id: str = "op-1", status: str = "SUCCEEDED", **fields: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"kind": "launch", "cluster": "dev", "created_at": NOW - 5}
    if "lines" in fields:
        given["progress"] = [{"at": NOW, "message": line} for line in fields.pop("lines")]
    return v1.Operation(id=operation_id, status=status, **{**given, **fields}).model_dump(mode="json")


def offer(rank: int = 1, **fields: Any) -> dict[str, Any]:
    given = {
        "cloud": "local",
        "region": "local",
        "instance_type": "local-2x4",
        "vcpus": 2,
        "memory_gib": 4,
        "num_nodes": 1,
        "hourly_price": 0.0,
        "price_as_of": NOW,
        "reason": "cheapest",
    }
    return v1.PlannedOffer(rank=rank, **{**given, **fields}).model_dump(mode="json")


def chunk(*frames: tuple[int, str | bytes] | tuple[int, str | bytes, int]) -> bytes:
    """Frames as ``(kind, text)`` or ``(kind, text, time in ms)``."""
    data = b""
    for frame in frames:
        text = frame[1].encode() if isinstance(frame[1], str) else frame[1]
        data += encode_frame(Frame(frame[0], frame[2] if len(frame) > 2 else 0, text))
    return data


def error(status: int, code: str, message: str, hint: str = "") -> httpx.Response:
    return httpx.Response(status, json={"error": {"code": code, "message": message, "hint": hint}})


@dataclass
class Call:
    method: str
    path: str
    query: dict[str, str]
    body: Any
    headers: httpx.Headers
    content: bytes


@dataclass
class ScriptedApi:
    """``scripted[method, path]`` are answers (or exceptions) to give first; then the state answers.

    ``logs[cluster, job][rank]`` are chunks; one that is None is missing in the store. ``job_states``
    and ``operation_states`` are consumed one per request, the last one stays.
    """

    clusters: list[dict[str, Any]] = field(default_factory=list)
    jobs: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    operation_states: list[dict[str, Any]] = field(default_factory=list)
    job_states: list[dict[str, Any]] = field(default_factory=list)
    logs: dict[tuple[str, int], dict[int, list[bytes | None]]] = field(default_factory=dict)
    offers: list[dict[str, Any]] = field(default_factory=lambda: [offer()])
    clouds: list[dict[str, Any]] = field(default_factory=list)
    stored: set[str] = field(default_factory=set)
    uploads: dict[str, bytes] = field(default_factory=dict)
    scripted: dict[tuple[str, str], list[httpx.Response | Exception]] = field(
        default_factory=lambda: defaultdict(list)
    )
    on_page: Callable[[int], None] = lambda count: None
    page_size: int = 32
    calls: list[Call] = field(default_factory=list)
    pages: int = 0
    clock: float = 0.0
    slept: list[float] = field(default_factory=list)

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self.handle)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock += seconds

    @property
    def pace(self) -> Pace:
        nonces = iter(range(10**6))
        return Pace(
            sleep=self.sleep,
            monotonic=lambda: self.clock,
            random=lambda: 0.5,
            nonce=lambda: f"nonce-{next(nonces)}",
        )

    def asked(self, method: str, path: str) -> list[Call]:
        return [call for call in self.calls if (call.method, call.path) == (method, path)]

    def handle(self, request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.decode().partition("?")[0]
        query = {name: values[0] for name, values in parse_qs(request.url.query.decode()).items()}
        content = request.read()
        body = json.loads(content) if content[:1] == b"{" else None
        self.calls.append(Call(request.method, path, query, body, request.headers, content))
        if self.scripted[request.method, path]:
            answer = self.scripted[request.method, path].pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        return self._route(request.method, path, query, self.calls[-1])

    def _route(self, method: str, path: str, query: dict[str, str], call: Call) -> httpx.Response:
        match [method, *path.strip("/").split("/")]:
            case ["GET", "v1", "health"]:
                health = v1.Health(version="0.1.0", runtime="embedded", deployment="d")
                return httpx.Response(200, json=health.model_dump())
            case ["GET", "v1", "check"]:
                return httpx.Response(200, json={"clouds": self.clouds})
            case ["POST", "v1", "plan"]:
                v1.PlanRequest.model_validate(call.body)
                return httpx.Response(200, json={"offers": self.offers})
            case ["POST", "v1", "uploads"]:
                sha256 = v1.UploadRequest.model_validate(call.body).sha256
                url = None if sha256 in self.stored else f"{URL}/objects/{sha256}"
                target = v1.UploadTarget(key=sha256, url=url, headers={"x-sum": sha256})
                return httpx.Response(200, json=target.model_dump())
            case ["PUT", "objects", key]:
                self.uploads[key] = call.content
                return httpx.Response(200)
            case ["POST", "v1", "clusters"]:
                asked = v1.LaunchRequest.model_validate(call.body)
                name = asked.cluster or "stix-chosen"
                has_job = bool(asked.task.get("run"))
                return httpx.Response(
                    202,
                    json={"operation_id": "op-1", "cluster": name, "job_id": 1 if has_job else None}
                    | {"created": all(one["name"] != name for one in self.clusters)},
                )
            case ["GET", "v1", "clusters"]:
                names = query.get("names", "").split(",") if query.get("names") else None
                found = [one for one in self.clusters if names is None or one["name"] in names]
                return self._paged("clusters", found, query)
            case ["GET", "v1", "operations"]:
                return self._paged("operations", self.operation_states, query)
            case ["GET", "v1", "operations", _]:
                states = self.operation_states
                return httpx.Response(200, json=states.pop(0) if len(states) > 1 else states[0])
            case ["GET", "objects", name, job_id, rank, n]:
                data = self.logs[name, int(job_id)][int(rank)][int(n)]
                return httpx.Response(404) if data is None else httpx.Response(200, content=data)
            case [_, "v1", "clusters", name, *rest]:
                known = next((one for one in self.clusters if one["name"] == name), None)
                if known is None:
                    return error(404, "not_found", f"There is no cluster {name!r}.")
                return self._cluster_route(method, known, rest, query, call)
        return httpx.Response(404, json={"message": "no such route"})

    def _cluster_route(
        self, method: str, known: dict[str, Any], rest: list[str], query: dict[str, str], call: Call
    ) -> httpx.Response:
        name = known["name"]
        match [method, *rest]:
            case ["GET"]:
                return httpx.Response(200, json=known)
            case ["POST", "stop" | "down" | "start" as verb]:
                model = v1.StartRequest if verb == "start" else v1.TeardownRequest
                model.model_validate(call.body)
                return httpx.Response(202, json={"operation_id": f"op-{verb}-{name}"})
            case ["PUT", "autostop"]:
                asked = v1.AutostopRequest.model_validate(call.body)
                return httpx.Response(200, json=known | {"autostop": asked.model_dump()["autostop"]})
            case ["POST", "jobs"]:
                v1.ExecRequest.model_validate(call.body)
                return httpx.Response(201, json={"cluster": name, "job_id": 1})
            case ["GET", "jobs"]:
                found = self.jobs[name]
                if query.get("skip_finished"):
                    found = [one for one in found if one["status"] in {"PENDING", "RUNNING"}]
                return self._paged("jobs", found, query)
            case ["POST", "jobs", "cancel"]:
                v1.CancelRequest.model_validate(call.body)
                ids = call.body["job_ids"]
                chosen = [one for one in self.jobs[name] if call.body["all"] or one["id"] in ids]
                return httpx.Response(200, json={"jobs": chosen})
            case ["GET", "jobs", _]:
                return httpx.Response(200, json=self._job())
            case ["GET", "jobs", _, "logs"]:
                return self._log_page(name, query)
        return httpx.Response(404, json={"message": "no such route"})

    def _paged(self, noun: str, items: list[dict[str, Any]], query: dict[str, str]) -> httpx.Response:
        start = int(query.get("after", 0))
        end = start + self.page_size
        after = str(end) if end < len(items) else None
        return httpx.Response(200, json={noun: items[start:end], "next": after})

    def _job(self) -> dict[str, Any]:
        return self.job_states.pop(0) if len(self.job_states) > 1 else self.job_states[0]

    def _log_page(self, name: str, query: dict[str, str]) -> httpx.Response:
        self.on_page(self.pages)
        self.pages += 1
        state = self._job()
        ranks = self.logs.get((name, state["id"]), {})
        if "rank" in query:
            ranks = {rank: chunks for rank, chunks in ranks.items() if rank == int(query["rank"])}
        cursor = query.get("cursor", "")
        counts = {rank: len(chunks) for rank, chunks in ranks.items()}
        at = {int(rank): int(n) for rank, n in (part.split(":") for part in cursor.split(",") if ":" in part)}
        room, nodes = self.page_size, []
        for rank, count in sorted(counts.items()):
            start = count if cursor == "end" else at.get(rank, 0)
            stop = min(count, start + room)
            room -= stop - start
            urls = [
                {"n": n, "url": f"{URL}/objects/{name}/{state['id']}/{rank}/{n}?signature=s3cret"}
                for n in range(start, stop)
            ]
            nodes.append({"rank": rank, "count": count, "chunks": urls})
            at[rank] = stop
        ended = state["status"] in {"SUCCEEDED", "FAILED", "FAILED_SETUP", "CANCELLED"}
        page = v1.LogPage(
            job=state,
            nodes=nodes,
            cursor=",".join(f"{rank}:{n}" for rank, n in at.items()),
            done=ended and all(at[rank] == count for rank, count in counts.items()),
        )
        return httpx.Response(200, json=page.model_dump(mode="json"))


@dataclass
class Result:
    code: int
    out: str
    err: str


@dataclass
class Cli:
    """Runs commands against a scripted control plane and captures what a person sees."""

    api: ScriptedApi
    capsys: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch
    home: str
    environ: dict[str, str] = field(default_factory=dict)
    terminal: bool = False

    def __call__(self, *arguments: str, answer: str = "") -> Result:
        session = Session(
            {"STIX_HOME": self.home, **self.environ},
            endpoint=Endpoint(URL, "t0ken", "embedded"),
            transport=self.api.transport,
            pace=self.api.pace,
            now=lambda: NOW,
            terminal=self.terminal,
        )
        # No unit test starts a real server, whatever it gets wrong.
        self.monkeypatch.setitem(sys.modules, "stix.local.daemon", None)
        self.monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
        self.capsys.readouterr()
        code = run(list(arguments), session)
        captured = self.capsys.readouterr()
        return Result(code, captured.out, captured.err)
