"""Images: pulled with their registry's login, and what they say of themselves."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from typing import IO, Callable, Dict, List, Optional, Tuple

from .container_errors import login_words, pull_words, start_words
from .container_options import Login
from .engine import ContainerError, Engine, Note
from .files import Json, read_json, remove_quietly, write_json

Cancelled = Callable[[], bool]

_PULL_SECONDS = 4 * 3600.0
_PROGRESS_SECONDS = 5.0


class Images:
    """``folder`` is the node's own, for what must be found again after a kill."""

    def __init__(self, folder: str, environment: Dict[str, str]) -> None:
        self._folder, self._environment = folder, environment

    def fetch(
        self, engine: Engine, image: str, login: Optional[Login], note: Note, cancelled: Cancelled
    ) -> None:
        """Pulls the image unless it is here under a name that does not move."""
        here = engine.run("image", "inspect", "--format", "{{.Id}}", image).code == 0
        tag = image.rpartition("/")[2].partition(":")[2]
        if here and ("@" in image or tag not in ("", "latest")):
            return
        note(f"Pulling the image {image}.")
        environment: Dict[str, str] = {}
        try:
            if login is not None:
                environment = self._log_in(engine, login)
            answer = engine.run(
                "pull",
                image,
                seconds=_PULL_SECONDS,
                environment=environment,
                cancelled=cancelled,
                watch=_Progress(note).see,
            )
        except ContainerError as exc:
            password = login.password if login is not None else ""
            raise ContainerError(str(exc).replace(password, "***") if password else str(exc)) from None
        finally:
            self.forget_login()
        if answer.code == 0:
            return
        words = pull_words(image, answer.err or answer.out)
        if not here:
            raise ContainerError(words)
        note(f"{words} The copy on this node is used.")

    def _log_in(self, engine: Engine, login: Login) -> Dict[str, str]:
        """The environment in which the engine knows the password: a folder in memory where that can be."""
        memory = "/dev/shm"
        folder = tempfile.mkdtemp(
            prefix="stix-login-", dir=memory if os.access(memory, os.W_OK) else self._folder
        )
        write_json(os.path.join(self._folder, "login.json"), {"folder": folder})
        environment = {"DOCKER_CONFIG": folder, "REGISTRY_AUTH_FILE": os.path.join(folder, "auth.json")}
        if engine.name == "docker" and not self._environment.get("DOCKER_HOST"):
            # Which engine a person has chosen is in the configuration that is replaced here.
            chosen = engine.run("context", "inspect", "--format", "{{.Endpoints.docker.Host}}")
            if chosen.code == 0 and chosen.out.strip():
                environment["DOCKER_HOST"] = chosen.out.strip()
        words = [
            "login",
            "--username",
            login.username,
            "--password-stdin",
            *([login.server] if login.server else []),
        ]
        answer = engine.run(
            *words, feed=lambda stream: _write(stream, login.password.encode()), environment=environment
        )
        if answer.code != 0:
            raise ContainerError(login_words(login.server, answer.err))
        return environment

    def forget_login(self) -> None:
        """Also what an agent that was killed left."""
        path = os.path.join(self._folder, "login.json")
        left = read_json(path)
        if left is not None:
            shutil.rmtree(left["folder"], ignore_errors=True)
            remove_quietly(path)

    def inspect(self, engine: Engine, image: str) -> Json:
        answer = engine.run("image", "inspect", image)
        if answer.code != 0:
            raise ContainerError(pull_words(image, answer.err))
        about: Json = json.loads(answer.out)[0]
        return about

    def account(self, engine: Engine, image: str, name: str, about: Json) -> Tuple[int, int, str]:
        """(uid, gid, home) of the image's user, read from a container that is never started."""
        config = about.get("Config") or {}
        probe = f"{name}-probe"
        engine.run("rm", "--force", probe)
        made = engine.run("create", "--name", probe, "--entrypoint", "/bin/sh", image)
        if made.code != 0:
            raise ContainerError(start_words(image, made.err))
        try:
            with tempfile.TemporaryDirectory(dir=self._folder) as folder:
                copied = os.path.join(folder, "passwd")
                engine.run("cp", "--follow-link", f"{probe}:/etc/passwd", copied)
                lines = _lines(copied)
        finally:
            engine.run("rm", "--force", probe)
        uid, gid, home = find_account(str(config.get("User") or ""), lines)
        given = [entry.partition("=")[2] for entry in config.get("Env") or [] if entry.startswith("HOME=")]
        return uid, gid, given[-1] if given else home


class _Progress:
    """A pull's progress as a line of the log now and then."""

    def __init__(self, note: Note) -> None:
        self._note = note
        self._said: Tuple[int, int] = (0, 0)
        self._next = time.monotonic() + _PROGRESS_SECONDS

    def see(self, text: str) -> None:
        if time.monotonic() < self._next:
            return
        present = text.count("Already exists")
        now = (text.count("Pull complete") + present, text.count("Pulling fs layer") + present)
        if now[1] and now != self._said:
            self._note(f"{now[0]} of {now[1]} layers are here.")
        self._said, self._next = now, time.monotonic() + _PROGRESS_SECONDS


def find_account(user: str, passwd: List[str]) -> Tuple[int, int, str]:
    """(uid, gid, home) of an image's ``USER`` (``name[:group]``, numbers or empty) by its passwd file."""
    name, _, group = user.partition(":")
    name = name or "0"
    for line in passwd:
        fields = line.split(":")
        if len(fields) >= 6 and name in (fields[0], fields[2]) and fields[2].isdigit():
            gid = int(group) if group.isdigit() else int(fields[3]) if fields[3].isdigit() else 0
            return int(fields[2]), gid, fields[5] or "/"
    uid = int(name) if name.isdigit() else 0
    return uid, int(group) if group.isdigit() else 0, "/root" if uid == 0 else "/"


def _lines(path: str) -> List[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read().splitlines()
    except OSError:
        return []


def _write(stream: IO[bytes], data: bytes) -> None:
    stream.write(data)
