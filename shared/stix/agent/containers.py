"""The node's container: made, started and held; jobs are run in it one after the other, or together.

One container for a node and an image, not one for each job: what a setup installs is there for every later
job, as on a machine. It is held by a process of this node (``start --attach --interactive``): when that ends,
however it ends, the container's first process loses its input and ends all that is inside.
"""

from __future__ import annotations

import os
import subprocess
import tarfile
import threading
import time
from contextlib import contextmanager
from typing import IO, Dict, Iterator, List, Optional, Tuple

from .config import AgentConfig
from .container_errors import start_words
from .container_images import Cancelled, Images
from .container_options import END_SECONDS, Login, container_name, create_arguments, image_name, node_gpus
from .engine import CancelledError, ContainerError, Engine, Note, engine_environment, ready_engine
from .files import Json, read_json, write_json
from .inside import Inside
from .processes import is_alive, start_ticks

_START_SECONDS = 60.0


class Containers:
    """One change at a time; ``prepare`` and ``copy`` are idempotent."""

    def __init__(self, config: AgentConfig, facts: Json) -> None:
        self._config, self._facts = config, facts
        self._folder = os.path.join(config.state_dir, "container")
        self._record = os.path.join(self._folder, "container.json")
        self._environment = engine_environment(dict(os.environ))
        self._images = Images(self._folder, self._environment)
        self._lock = threading.Lock()
        self._holder: Optional[subprocess.Popen[bytes]] = None

    @property
    def staging(self) -> str:
        """Where file mounts are unpacked before they are copied into the container."""
        return os.path.join(self._folder, "files")

    def recall(self, wanted: Json) -> Optional[Inside]:
        """The container of a job that runs already, without asking the engine."""
        kept = read_json(self._record)
        if kept is None or kept["name"] != container_name(self._config, wanted):
            return None
        return self._inside(Engine(kept["engine"], self._environment), kept)

    def prepare(self, wanted: Json, login: Optional[Login], note: Note, cancelled: Cancelled) -> Inside:
        """The running container of ``wanted`` (``image``, ``run_options``). Raises ContainerError and
        CancelledError."""
        with self._locked(cancelled):
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            self._images.forget_login()
            engine, version = ready_engine(
                self._environment,
                self._config.allow_absolute_mounts,
                os.path.join(self._folder, "engine.log"),
                note,
            )
            name = container_name(self._config, wanted)
            kept, status = read_json(self._record), self._status(engine, name)
            if status == "running" and kept is not None and not is_alive(*kept.get("holder", (0, 0))):
                # It is ending, or nothing would end it.
                engine.run("stop", "--time", str(END_SECONDS), name)
                status = "exited"
            if kept is None or kept["name"] != name or not kept["id"] or not status:
                kept = self._create(engine, wanted, name, login, note, cancelled)
                status = "created"
            if status != "running":
                kept = self._start(engine, wanted, kept)
            note(f"Container {kept['image']} ({kept['digest']}), {engine.name} {version}.")
            return self._inside(engine, kept)

    @contextmanager
    def _locked(self, cancelled: Cancelled) -> Iterator[None]:
        """Another job may be pulling for long."""
        while not self._lock.acquire(timeout=0.2):
            if cancelled():
                raise CancelledError
        try:
            yield
        finally:
            self._lock.release()

    def copy(self, inside: Inside, mounts: List[Tuple[str, str]]) -> None:
        """File mounts as (unpacked place below ``staging``, hash), to where they belong inside."""
        record = os.path.join(self._folder, "copied.json")
        with self._lock:
            copied = read_json(record) or {}
            known: Dict[str, str] = copied.get("files", {}) if copied.get("container") == inside.id else {}
            fresh = [(place, sha256) for place, sha256 in mounts if known.get(place) != sha256]
            if not fresh:
                return
            answer = inside.engine.run(
                "cp",
                "-",
                f"{inside.name}:/",
                feed=lambda stream: self._pack(stream, inside, fresh),
                seconds=3600.0,
            )
            if answer.code != 0:
                raise ContainerError(f"file_mounts could not be copied into the container: {answer.err}.")
            write_json(record, {"container": inside.id, "files": {**known, **dict(fresh)}})

    def _pack(self, stream: IO[bytes], inside: Inside, mounts: List[Tuple[str, str]]) -> None:
        home, root = os.path.join(self.staging, "home"), os.path.join(self.staging, "root")

        def owned(entry: tarfile.TarInfo) -> tarfile.TarInfo:
            entry.uid, entry.gid, entry.uname, entry.gname = inside.uid, inside.gid, "", ""
            return entry

        with tarfile.open(fileobj=stream, mode="w|") as archive:
            for place, _ in mounts:
                below_home = place.startswith(home + os.sep)
                target = (
                    os.path.join(inside.home, os.path.relpath(place, home))
                    if below_home
                    else os.path.relpath(place, root)
                )
                archive.add(place, target.lstrip("/"), filter=owned)

    def _inside(self, engine: Engine, kept: Json) -> Inside:
        return Inside(
            engine=engine,
            id=kept["id"],
            name=kept["name"],
            user=kept["user"],
            uid=kept["uid"],
            gid=kept["gid"],
            home=kept["home"],
            gpus=node_gpus(self._config, self._facts),
        )

    def _status(self, engine: Engine, name: str) -> str:
        """Empty when there is no such container."""
        answer = engine.run("container", "inspect", "--format", "{{.State.Status}}", name)
        return answer.out.strip() if answer.code == 0 else ""

    def _create(
        self,
        engine: Engine,
        wanted: Json,
        name: str,
        login: Optional[Login],
        note: Note,
        cancelled: Cancelled,
    ) -> Json:
        image = image_name(str(wanted["image"]), login, engine.name)
        self._images.fetch(engine, image, login, note, cancelled)
        about = self._images.inspect(engine, image)
        engine.run("rm", "--force", name)
        uid, gid, home = self._images.account(engine, image, name, about)
        for folder in (os.path.join(self._config.state_dir, "jobs"), self._config.home_dir):
            os.makedirs(folder, exist_ok=True)
        os.chmod(os.path.join(self._config.state_dir, "jobs"), 0o711)
        kept = {
            "engine": engine.path,
            "name": name,
            "image": image,
            "digest": (about.get("RepoDigests") or [""])[0].rpartition("@")[2] or about["Id"],
            "user": (about.get("Config") or {}).get("User") or "0:0",
            "uid": uid,
            "gid": gid,
            "home": home,
        }
        return self._make(engine, wanted, kept, with_init=True)

    def _make(self, engine: Engine, wanted: Json, kept: Json, with_init: bool) -> Json:
        arguments = create_arguments(
            self._config,
            self._facts,
            engine=engine.name,
            name=kept["name"],
            image=kept["image"],
            home=kept["home"],
            wanted=wanted,
            with_init=with_init,
        )
        # Written first, so that whoever deletes the node finds the container by its name.
        write_json(self._record, {**kept, "id": ""})
        answer = engine.run("create", *arguments)
        if answer.code != 0 and with_init and _lacks_init(answer.err):
            return self._make(engine, wanted, kept, with_init=False)
        if answer.code != 0:
            raise ContainerError(start_words(kept["image"], answer.err))
        kept = {**kept, "id": answer.out.split()[-1]}
        write_json(self._record, kept)
        return kept

    def _start(self, engine: Engine, wanted: Json, kept: Json) -> Json:
        words = self._hold(engine, kept["name"])
        if _lacks_init(words):
            engine.run("rm", "--force", kept["name"])
            kept = self._make(engine, wanted, kept, with_init=False)
            words = self._hold(engine, kept["name"])
        if words:
            engine.run("rm", "--force", kept["name"])
            raise ContainerError(start_words(kept["image"], words))
        assert self._holder is not None
        kept = {**kept, "holder": [self._holder.pid, start_ticks(self._holder.pid)]}
        write_json(self._record, kept)
        return kept

    def _hold(self, engine: Engine, name: str) -> str:
        """Starts the container and leaves a process that holds it; what the engine said when it would not."""
        reading, writing = os.pipe()
        path = os.path.join(self._folder, "holder.log")
        try:
            with open(path, "wb") as log:
                # It keeps the other end of its own input open, so that it outlives the agent and no one else.
                holder = subprocess.Popen(
                    [engine.path, "start", "--attach", "--interactive", name],
                    stdin=reading,
                    stdout=log,
                    stderr=log,
                    env=self._environment,
                    pass_fds=(writing,),
                    start_new_session=True,
                )
        finally:
            os.close(reading)
            os.close(writing)
        self._holder = holder
        deadline = time.monotonic() + _START_SECONDS
        # Running it may be for a moment only, where the init program finds no shell.
        while engine.run("exec", "--user", "0:0", name, "/bin/sh", "-c", ":").code != 0:
            if holder.poll() is not None or time.monotonic() > deadline:
                holder.kill()
                holder.wait()
                with open(path, encoding="utf-8", errors="replace") as log_text:
                    return log_text.read().strip() or "it ended at once"
            time.sleep(0.05)
        return ""


def _lacks_init(words: str) -> bool:
    """The engine comes without its init program: then nobody collects orphans, and all else is the same."""
    return any(name in words for name in ("docker-init", "catatonit", "container-init"))
