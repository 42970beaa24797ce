"""The agent process: wires the parts together, runs their threads, and ends in order."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Callable, Dict, List, Optional, Tuple

from .access import Access
from .commanding import Commanding
from .config import AgentConfig, ConfigError, load_config
from .exit_codes import EXIT_CONFIG, EXIT_POWER_OFF, EXIT_REFUSED, EXIT_RESTART
from .facts import discover_facts
from .files import Json, read_json, write_json
from .gateway import Gateway
from .gateway_tunnels import GatewayTunnels
from .head import Head
from .hosts import Hosts
from .http_channel import HttpChannel
from .journal import start_journal
from .log_shipping import LogShipping
from .membership import GoneError, Membership, RefusedForGoodError, StoppedError
from .mounts import Mounts
from .notices import Notice, can_notice, read_notice
from .peers import PeerBook, PeerLink, PeerListener
from .reporting import Reporter
from .settings import Settings
from .surroundings import Surroundings
from .worker import Worker

log = logging.getLogger("stix.agent")


def run_agent(config_path: str) -> int:
    """The process's exit code (see exit_codes)."""
    try:
        config = load_config(config_path)
        os.makedirs(config.state_dir, mode=0o700, exist_ok=True)
        os.makedirs(config.home_dir, exist_ok=True)
    except (ConfigError, OSError) as exc:
        sys.stderr.write(f"stix-agent: {exc}\n")
        return EXIT_CONFIG
    start_journal(config.state_dir)
    threading.stack_size(512 * 1024)
    return Agent(config).run()


class LocalLine:
    """The head's line to the worker in its own process."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def send(self, message: Json) -> None:
        self._worker.handle(message)


class Agent:
    """One node's agent; ``run`` returns the exit code."""

    def __init__(self, config: AgentConfig) -> None:
        self._config = config
        self._stopping = threading.Event()
        self._finished = threading.Event()
        self._exit_code = EXIT_RESTART
        self._winding_down = threading.Lock()
        self._gone = False
        self._facts: Json = {**discover_facts(config), "ssh": {}}
        self._membership = Membership(config, lambda: self._facts, self._stopping)
        self._hosts = Hosts(config)
        self._settings = Settings(os.path.join(config.state_dir, "settings.json"), self._hosts.update)
        self._book = PeerBook(config.tunables)
        self._shipping = LogShipping(self._membership, config.tunables, self._stopping)
        self._mounts = Mounts(config, self._membership)
        self._access = Access(config, self._membership, self._tell_ssh)
        self._gateway = Gateway(config, self._membership, lambda told: self._tell_fact("door", told))
        self._links: Dict[int, PeerLink] = {}
        self._head: Optional[Head] = None
        self._reporter: Optional[Reporter] = None
        self._listener = self._open_listener()

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        threading.Thread(target=self._guard, args=(self._join_and_work,), name="start", daemon=True).start()
        self._finished.wait()
        self._stopping.set()
        self._shipping.wake()
        log.info("the agent ends", extra={"detail": f"exit code {self._exit_code}"})
        return self._exit_code

    def _on_signal(self, number: int, _frame: object) -> None:
        # Jobs go on: whoever starts the agent again finds them.
        self._exit_code = EXIT_RESTART
        self._finished.set()

    def _open_listener(self) -> PeerListener:
        path = os.path.join(self._config.state_dir, "listener.json")
        port = self._config.peer_port or int((read_json(path) or {}).get("port", 0))
        listener = PeerListener(self._config.address, port, self._config.tunables)
        write_json(path, {"port": listener.port})
        self._membership.peer_port = listener.port
        return listener

    def _join_and_work(self) -> None:
        channel = HttpChannel()
        self._membership.ensure_joined(channel)
        channel.close()
        worker = self._make_worker()
        worker.resume()
        head = self._make_head(worker) if self._membership.rank == 0 else None
        reporter = self._make_reporter(worker, head)
        self._reporter = reporter
        commanding = self._make_commanding(head)
        self._spawn("listen", lambda: self._listener.serve(self._cluster_key, worker, lambda: self._facts))
        if head is not None:
            self._head = head
            self._spawn("head", head.run)
            worker.attach(lambda message: head.deliver("state", 0, message))
            head.deliver("connected", 0, {"facts": self._facts})
        self._spawn("tail", self._shipping.tail)
        self._spawn("upload", self._shipping.upload)
        self._spawn("report", reporter.run)
        if self._membership.identity.get("spot") and can_notice(self._config.cloud):
            self._spawn("notices", lambda: self._watch_notices(reporter))
        self._spawn_wake(commanding)
        commanding.run()

    def _watch_notices(self, reporter: Reporter) -> None:
        """A spot machine asks its cloud again and again whether it is about to be taken."""
        told: Optional[Notice] = None
        while not self._stopping.wait(self._config.tunables.notice_seconds):
            try:
                notice = read_notice(self._config.cloud, self._config.metadata_url)
            except (OSError, ValueError) as exc:
                log.info("the metadata service does not answer", extra={"detail": str(exc)})
                continue
            if notice is not None and notice != told:
                told = notice
                log.warning("the cloud takes this machine", extra={"detail": notice.kind})
                reporter.notice(notice.kind, notice.at)
                if notice.kind == "preemption":
                    # After the report is on its way: the job moves on while its task ends.
                    self._worker.preempt("the cloud takes this machine", notice.grace(time.time()))

    def _make_worker(self) -> Worker:
        around = Surroundings(
            config=self._config,
            membership=self._membership,
            mounts=self._mounts,
            shipping=self._shipping,
            probe=lambda address, port: self._book.probe(self._cluster_key(), address, port),
            peer_address=self._book.address,
            hosts=self._hosts,
            facts=self._facts,
        )
        self._worker = Worker(around, self._changed)
        return self._worker

    def _make_head(self, worker: Worker) -> Head:
        from .job_table import JobTable  # Only the head needs SQLite.

        table = JobTable(os.path.join(self._config.state_dir, "agent.db"))
        self._after = table.after
        local = LocalLine(worker)
        return Head(
            table=table,
            num_nodes=int(self._membership.identity.get("num_nodes") or 1),
            facts=self._facts,
            line=lambda rank: local if rank == 0 else self._links.get(rank),
            address=self._peer_entry,
            write_log=worker.write_log,
            on_change=self._changed,
            tunables=self._config.tunables,
            idle_since=time.time(),
        )

    def _make_reporter(self, worker: Worker, head: Optional[Head]) -> Reporter:
        def no_news() -> List[Tuple[int, int, Json]]:
            return []

        def told(job: int, version: int) -> None:
            if head is not None:
                head.deliver("told", job, {"version": version})

        return Reporter(
            config=self._config,
            membership=self._membership,
            settings=self._settings,
            facts=self._facts,
            in_use=lambda: self._access.in_use,
            stopping=self._stopping,
            idle_since=(lambda: head.idle_since) if head is not None else worker.idle_since,
            unreported=head.unreported if head is not None else no_news,
            told=told,
            wind_down=self._wind_down,
        )

    def _make_commanding(self, head: Optional[Head]) -> Commanding:
        return Commanding(
            config=self._config,
            membership=self._membership,
            settings=self._settings,
            book=self._book,
            shipping=self._shipping,
            stopping=self._stopping,
            accept=head.accept if head is not None else None,
            after=self._after if head is not None else 0,
            access=self._access,
            gateway=self._gateway,
            tunnels=GatewayTunnels(self._config, lambda told: self._tell_fact("tunnel", told)),
            begin=lambda name, run: self._spawn(name, lambda: run(self._stopping)),
            on_peers=self._point_links,
            wind_down=self._wind_down,
        )

    def _spawn_wake(self, commanding: Commanding) -> None:
        url = self._membership.identity.get("wake_url")
        if not url:
            return
        from .wake_socket import WakeSocket

        wake = WakeSocket(
            str(url),
            lambda: str(self._membership.identity["node_token"]),
            commanding.wake,
            self._config.tunables,
        )
        self._spawn("wake", lambda: wake.run(self._stopping))

    def _point_links(self) -> None:
        if self._head is None:
            return
        for peer in self._book.all():
            rank = int(peer["rank"])
            if rank == 0:
                continue
            if rank not in self._links:
                self._links[rank] = PeerLink(
                    rank, self._cluster_key(), self._config.tunables, self._from_rank
                )
            self._links[rank].point_to(str(peer["address"]), int(peer["port"]))

    def _from_rank(self, kind: str, rank: int, message: Json) -> None:
        if kind == "lost":
            self._book.distrust(rank)
        if self._head is not None:
            self._head.deliver(kind, rank, message)

    def _peer_entry(self, rank: int) -> Json:
        if rank == self._membership.rank:
            return {"address": self._config.address, "port": self._listener.port}
        peer = self._book.address(rank) or {}
        return {"address": peer.get("address", ""), "port": peer.get("port", 0)}

    def _cluster_key(self) -> bytes:
        return bytes.fromhex(str(self._membership.identity["cluster_key"]))

    def _changed(self) -> None:
        if self._reporter is not None:
            self._reporter.changed()

    def _tell_ssh(self, ssh: Json) -> None:
        self._tell_fact("ssh", ssh)

    def _tell_fact(self, name: str, told: Json) -> None:
        self._facts[name] = told
        self._changed()

    def _spawn(self, name: str, target: Callable[[], None]) -> None:
        threading.Thread(target=self._guard, args=(target,), name=name, daemon=True).start()

    def _guard(self, target: Callable[[], None]) -> None:
        """The edge of every thread: what ends one of them ends the agent, with the right code."""
        try:
            target()
        except GoneError:
            self._gone = True
            self._wind_down("the cluster is gone")
        except StoppedError:
            return
        except RefusedForGoodError as exc:
            log.error("the join token is refused", extra={"detail": str(exc)})
            self._finish(EXIT_REFUSED)
        except Exception:
            log.exception("a thread of the agent failed; it is started again")
            self._finish(EXIT_RESTART)

    def _finish(self, code: int) -> None:
        self._exit_code = code
        self._finished.set()

    def _wind_down(self, why: str) -> None:
        """Ends all jobs and powers the node off; the first caller's reason counts."""
        if self._winding_down.acquire(blocking=False):
            log.info("the node ends", extra={"detail": why})
            threading.Thread(target=self._end_node, args=(why,), name="end", daemon=True).start()

    def _end_node(self, why: str) -> None:
        self._access.close()
        worker: Optional[Worker] = getattr(self, "_worker", None)
        if worker is not None:
            worker.end_all(why)
            limit = self._config.tunables.cancel_grace + self._config.tunables.wind_down_seconds
            deadline = time.monotonic() + limit
            while time.monotonic() < deadline and (
                worker.live_jobs() or (self._shipping.unshipped() and not self._gone)
            ):
                if self._stopping.wait(0.05):
                    break
        if self._config.shutdown_command:
            try:
                subprocess.run(list(self._config.shutdown_command), check=False, timeout=60)
            except (OSError, subprocess.SubprocessError):
                log.exception("the machine's shutdown command failed")
        self._finish(EXIT_POWER_OFF)
