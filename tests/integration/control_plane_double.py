"""A small control plane over real HTTP that speaks the agents' wire protocol, and nodes as real processes."""

from __future__ import annotations

import hashlib
import io
import json
import secrets
import signal
import struct
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil

from stix.agent.archive import build_archive
from tests.waiting import PATIENCE, eventually

ORDER = ["INIT", "PENDING", "SETTING_UP", "RUNNING"]
ORDER += ["FAILED_DRIVER", "SUCCEEDED", "FAILED", "FAILED_SETUP", "CANCELLED"]
TERMINAL = ORDER[4:]


def tar_gz(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


class ControlPlane:
    """One cluster. Everything that agents say is kept for the test to look at."""

    def __init__(self, num_nodes: int = 1) -> None:
        self.num_nodes = num_nodes
        self.join_token = secrets.token_hex(8)
        self.cluster_key = secrets.token_hex(32)
        self.changed = threading.Condition()
        # Unique, since agents find the processes of a job by it, also those of tests beside this one.
        self.cluster_id = f"c-{secrets.token_hex(4)}"
        self.ranks: dict[str, int] = {}
        self.tokens: dict[str, int] = {}
        self.peers: dict[int, dict[str, Any]] = {}
        self.peers_version = 0
        self.settings: dict[str, Any] = {"autostop": None, "dead_man_seconds": 3600, "wanted": "UP"}
        self.settings_version = 1
        self.commands: list[dict[str, Any]] = []
        self.acknowledged = 0
        self.redeliver = False
        self.jobs: dict[int, dict[str, Any]] = {}
        self.history: dict[int, list[str]] = {}
        self.first_seen: dict[int, dict[str, float]] = {}
        self.reports: list[tuple[int, dict[str, Any]]] = []
        self.chunks: dict[tuple[int, int], dict[int, bytes]] = {}
        self.rewritten: list[tuple[int, int, int]] = []
        self.confirmed: dict[tuple[int, int], set[int]] = {}
        self.finished: dict[tuple[int, int], dict[str, Any]] = {}
        self.finished_times: dict[tuple[int, int], int] = {}
        self.uploads: dict[str, bytes] = {}
        self.downloads: list[str] = []
        self.secrets: dict[str, str] = {}
        self.follow: list[dict[str, Any]] = []
        self.follow_version = 0
        self.refuses_as_gateway = False
        self.busy: set[str] = set()
        """Calls that are answered with 503."""
        self.calls: list[str] = []
        self.not_ready = 0
        self.gone = False
        self.refuse_puts_once: set[int] = set()
        self.extra_join: dict[str, Any] = {}
        self.hold_seconds = 25.0
        self.poll_seconds = 20.0
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None
        self._port = 0
        self._stopping = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        self._stopping = False
        self._server = _Server(("127.0.0.1", self._port), _handler(self))
        self._port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Refuses connections and drops the open ones, as a control plane that is down. Begins again
        elsewhere."""
        if self._server is None or self._thread is None:
            return
        with self.changed:
            self._stopping = True
            self.changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._server.drop_connections()
        self._thread.join()
        self._server, self._port = None, 0

    # -- what a test does --

    def submit(self, run: str | None, **fields: Any) -> int:
        with self.changed:
            job_id = len([c for c in self.commands if c["type"] == "run"]) + 1
            spec = {
                "id": job_id,
                "name": f"job-{job_id}",
                "task_id": f"stix-test_{job_id}",
                "user": "tester",
                "num_nodes": 1,
                "setup": None,
                "run": run,
                "envs": {},
                "has_secrets": False,
                "demand": {"cpus": 0.5, "gpus": 0.0, "gpu_name": ""},
                "workdir": None,
                "file_mounts": [],
                "barrier_seconds": 600,
                "follow_until": time.time() + 600,
                "submitted_at": time.time(),
                "setup_only_on_first": False,
                **fields,
            }
            self._command({"type": "run", "job": spec})
            return job_id

    def follow_log(self, job_id: int) -> None:
        """Somebody begins to watch a job's log."""
        with self.changed:
            self.follow = [{"job": job_id, "until": time.time() + 60}]
            self.follow_version += 1
            self.changed.notify_all()

    def cancel(self, job_id: int) -> None:
        with self.changed:
            self._command({"type": "cancel", "job_id": job_id})

    def _command(self, command: dict[str, Any]) -> None:
        self.commands.append({"seq": len(self.commands) + 1, **command})
        self.changed.notify_all()

    def set(self, **settings: Any) -> None:
        with self.changed:
            self.settings = {**self.settings, **settings}
            self.settings_version += 1
            self.changed.notify_all()

    def upload(self, data: bytes) -> dict[str, Any]:
        sha256 = hashlib.sha256(data).hexdigest()
        key = f"uploads/{sha256}"
        self.uploads[key] = data
        return {"key": key, "sha256": sha256, "size": len(data)}

    def status(self, job_id: int) -> str:
        return str(self.jobs.get(job_id, {}).get("status", ""))

    def wait_for(self, job_id: int, *statuses: str, seconds: float = PATIENCE) -> dict[str, Any]:
        wanted = statuses or tuple(TERMINAL)
        eventually(
            lambda: self.status(job_id) in wanted,
            lambda: f"job {job_id} is {self.jobs.get(job_id)}, wanted {wanted}",
            seconds,
        )
        return self.jobs[job_id]

    def log(self, job_id: int, rank: int = 0, seconds: float = PATIENCE) -> dict[int, bytes]:
        """The finished log's bytes by kind, checked against what the agent said about it."""
        key = (job_id, rank)
        eventually(lambda: key in self.finished, f"the log of {key} is finished", seconds)
        ended = self.finished[key]
        chunks = self.chunks.get(key, {})
        assert sorted(chunks) == list(range(ended["chunks"]))
        assert self.confirmed.get(key, set()) == set(chunks)
        pieces: dict[int, list[bytes]] = {kind: [] for kind in range(1, 6)}
        for n in sorted(chunks):
            for kind, payload in frames(chunks[n]):
                pieces[kind].append(payload)
        streams = {kind: b"".join(parts) for kind, parts in pieces.items()}
        for kind, name in ((1, "stdout"), (2, "stderr")):
            assert len(streams[kind]) == ended["bytes"][name]
            assert hashlib.sha256(streams[kind]).hexdigest() == ended["sha256"][name]
        return streams

    def notes(self, job_id: int, rank: int = 0) -> str:
        return self.log(job_id, rank)[5].decode()

    # -- what agents call --

    def answer(self, name: str, token: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.calls.append(name)
        if self.gone:
            return 410, _error("cluster_gone")
        if name == "join":
            return self._join(token, body)
        rank = self.tokens.get(token)
        if rank is None:
            if self.refuses_as_gateway:
                return 403, {"message": "Forbidden"}
            return 401, _error("unauthorized")
        if name in self.busy:
            return 503, _error("busy")
        handler: Callable[[int, dict[str, Any]], dict[str, Any]] = getattr(self, f"_on_{name}")
        answer = handler(rank, body)
        return (410, _error("cluster_gone")) if self.gone else (200, answer)

    def _join(self, token: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if token != self.join_token:
            return 401, _error("unauthorized")
        with self.changed:
            if self.not_ready:
                self.not_ready -= 1
                return 409, _error("not_ready")
            rank = self.ranks.setdefault(body["machine_id"], len(self.ranks))
            self.tokens = {t: r for t, r in self.tokens.items() if r != rank}
            node_token = secrets.token_hex(8)
            self.tokens[node_token] = rank
            self._peer(rank, body)
        return 200, {
            "node_token": node_token,
            "cluster_id": self.cluster_id,
            "cluster_name": "test",
            "rank": rank,
            "num_nodes": self.num_nodes,
            "cluster_key": self.cluster_key,
            "cloud": "local",
            "region": "here",
            "zone": "a",
            "user": "tester",
            "report_seconds": 60,
            "poll_seconds": self.poll_seconds,
            **self.extra_join,
        }

    def _peer(self, rank: int, body: dict[str, Any]) -> None:
        entry = {"rank": rank, "address": body["address"], "port": body["peer_port"]}
        if self.peers.get(rank) != entry:
            self.peers[rank] = entry
            self.peers_version += 1
            self.changed.notify_all()

    def _on_report(self, rank: int, body: dict[str, Any]) -> dict[str, Any]:
        with self.changed:
            self._peer(rank, body)
            self.reports.append((rank, body))
            for job in body["jobs"]:
                known = self.jobs.get(job["id"])
                if known is None or ORDER.index(job["status"]) >= ORDER.index(known["status"]):
                    self.jobs[job["id"]] = job
                seen = self.history.setdefault(job["id"], [])
                if not seen or seen[-1] != job["status"]:
                    seen.append(job["status"])
            self.changed.notify_all()
        return {"report_seconds": 60, "wanted": self.settings["wanted"]}

    def _on_commands(self, rank: int, body: dict[str, Any]) -> dict[str, Any]:
        deadline = time.monotonic() + (self.hold_seconds if body.get("wait") else 0)
        with self.changed:
            self.acknowledged = max(self.acknowledged, body["after"])
            while True:
                after = 0 if self.redeliver else body["after"]
                new = [c for c in self.commands if c["seq"] > after][:100] if rank == 0 else []
                peers_new = body["peers_version"] != self.peers_version
                settings_new = body["settings_version"] != self.settings_version
                follow_new = body["follow_version"] != self.follow_version
                left = deadline - time.monotonic()
                if new or peers_new or settings_new or follow_new or left <= 0 or self._stopping or self.gone:
                    break
                self.changed.wait(left)
            self.redeliver = False
            answer: dict[str, Any] = {
                "commands": new,
                "more": False,
                "follow": self.follow,
                "follow_version": self.follow_version,
                "poll_seconds": self.poll_seconds,
            }
            if peers_new:
                answer.update(peers_version=self.peers_version, peers=list(self.peers.values()))
            if settings_new:
                answer.update(settings_version=self.settings_version, settings=self.settings)
            return answer

    def _on_logs(self, rank: int, body: dict[str, Any]) -> dict[str, Any]:
        with self.changed:
            for entry in body["uploaded"]:
                key = (entry["job"], entry["rank"])
                assert len(self.chunks[key][entry["n"]]) == entry["size"]
                self.confirmed.setdefault(key, set()).add(entry["n"])
            for entry in body["finished"]:
                key = (entry["job"], entry["rank"])
                self.finished[key] = entry
                self.finished_times[key] = self.finished_times.get(key, 0) + 1
            self.changed.notify_all()
        assert len(body["wanted"]) <= 16
        return {
            "urls": [
                {
                    "job": w["job"],
                    "rank": w["rank"],
                    "n": w["n"],
                    "method": "PUT",
                    "url": f"{self.url}/objects/{w['job']}/{w['rank']}/{w['n']}/{w['size']}",
                    "headers": {"x-test": "1"},
                }
                for w in body["wanted"]
            ]
        }

    def _on_downloads(self, rank: int, body: dict[str, Any]) -> dict[str, Any]:
        return {"urls": [{"key": k, "url": f"{self.url}/{k}", "headers": {}} for k in body["keys"]]}

    def _on_secrets(self, rank: int, body: dict[str, Any]) -> dict[str, Any]:
        return {"secrets": self.secrets}

    def put(self, path: str, data: bytes) -> int:
        job, rank, n, size = (int(part) for part in path.split("/")[2:6])
        if len(data) != size:
            return 400
        if n in self.refuse_puts_once:
            self.refuse_puts_once.discard(n)
            return 403
        with self.changed:
            held = self.chunks.setdefault((job, rank), {})
            if held.get(n, data) != data:
                self.rewritten.append((job, rank, n))
            held[n] = data
        return 200


def frames(chunk: bytes) -> Iterator[tuple[int, bytes]]:
    """Written from the format's description, not with the agent's code."""
    position = 0
    while position < len(chunk):
        kind, length, _ = struct.unpack_from(">BIQ", chunk, position)
        assert 1 <= kind <= 5
        assert length <= 65536
        assert position + 13 + length <= len(chunk)
        yield kind, chunk[position + 13 : position + 13 + length]
        position += 13 + length


def _error(code: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": code, "hint": ""}}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._open: set[Any] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def drop_connections(self) -> None:
        for request in list(self._open):
            self.shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], (ConnectionError, OSError, ValueError)):
            super().handle_error(request, client_address)


def _handler(plane: ControlPlane) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = json.loads(self._body())
            token = self.headers["Authorization"].removeprefix("Bearer ")
            assert self.headers["Stix-Protocol"] == "1"
            name = self.path.removeprefix("/agent/v1/")
            status, answer = plane.answer(name, token, body)
            self._send(status, json.dumps(answer).encode())

        def do_PUT(self) -> None:
            self._send(plane.put(self.path, self._body()), b"")

        def do_GET(self) -> None:
            plane.downloads.append(self.path[1:])
            data = plane.uploads.get(self.path[1:])
            self._send(200 if data is not None else 404, data or b"")

        def _body(self) -> bytes:
            return self.rfile.read(int(self.headers["Content-Length"]))

        def _send(self, status: int, data: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            pass

    return Handler


FAST = {
    "backoff_last": 0.5,
    "not_ready_retry": 0.05,
    "refused_join_seconds": 0.3,
    "refused_join_retry": 0.1,
    "cancel_grace": 1.0,
    "machine_grace": 1.0,
    "report_window": 0.02,
    "log_window": 0.02,
    "tail_first_seconds": 0.02,
    "tail_followed_seconds": 0.05,
    "chunk_first_seconds": 0.05,
    "chunk_followed_seconds": 0.2,
    "adopted_poll": 0.05,
    "probe_retry": 0.05,
    # Not how long it takes, but when a node ends though its jobs or their logs are still there.
    "wind_down_seconds": PATIENCE,
}


class Node:
    """One machine: a folder and the agent's process, started as people's machines start it (the zipapp)."""

    def __init__(self, plane: ControlPlane, archive: Path, folder: Path, index: int, **config: Any) -> None:
        self.plane, self.archive, self.folder = plane, archive, folder
        self.home = folder / "home"
        self.state = folder / "state"
        folder.mkdir(parents=True, exist_ok=True)
        tunables = {**FAST, **config.pop("tunables", {})}
        self.point_at_plane()
        values = {
            "api_url_file": str(folder / "api_url"),
            "join_token": plane.join_token,
            "machine_id": f"m-{index}",
            "state_dir": str(self.state),
            "home_dir": str(self.home),
            "address": f"127.77.1.{index + 1}",
            "cpus": 2,
            "memory_gib": 4,
            "gpus": [],
            "tunables": tunables,
            **config,
        }
        self.config = folder / "config.json"
        self.config.write_text(json.dumps(values))
        self.process: subprocess.Popen[bytes] | None = None

    def point_at_plane(self) -> None:
        """An agent that reads it meanwhile reads the old one or the new one."""
        new = self.folder / "api_url.new"
        new.write_text(self.plane.url)
        new.replace(self.folder / "api_url")

    def start(self, command: str = "agent", python: str = sys.executable) -> Node:
        line = [python, "-I", "-S", str(self.archive), command, "--config", str(self.config)]
        self.process = subprocess.Popen(line, start_new_session=True)
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        """As if the agent alone had died: jobs go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE)

    def wait(self, seconds: float = PATIENCE) -> int:
        assert self.process is not None
        return self.process.wait(seconds)

    def journal(self) -> str:
        path = self.state / "agent.log"
        return path.read_text() if path.exists() else ""

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        kill_processes_of(f"HOME={self.home}")


def processes_of(entry: str) -> list[psutil.Process]:
    """Processes whose environment holds exactly this entry."""
    name, _, value = entry.partition("=")
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(name) == value and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def kill_processes_of(entry: str) -> None:
    """Returns when there is none left, also none that was just being born."""
    while found := processes_of(entry):
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(0.01)


@contextmanager
def cluster(folder: Path, num_nodes: int = 1, started: int | None = None, **config: Any) -> Iterator[Any]:
    """(control plane, nodes): ``started`` of the nodes (all by default) run and have joined in order."""
    archive = folder / "agent.pyz"
    build_archive(archive)
    plane = ControlPlane(num_nodes)
    plane.start()
    nodes = [Node(plane, archive, folder / f"node-{i}", i, **config) for i in range(num_nodes)]
    try:
        for index, node in enumerate(nodes[: num_nodes if started is None else started]):
            node.start()
            eventually(lambda index=index: index in plane.peers, f"node {index} joins")
        yield plane, nodes
    except BaseException:
        for node in nodes:
            print(f"--- journal of {node.folder.name}\n{node.journal()[-6000:]}")
        raise
    finally:
        for node in nodes:
            node.close()
        plane.stop()
