"""The container engine of this machine: its command line, found or installed, and run to its end."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from typing import IO, Callable, Dict, List, NamedTuple, Optional, Tuple

Note = Callable[[str], None]

_SECONDS = 120.0
_DAEMON_SECONDS = 60.0
_APT = "apt-get -qy -o DPkg::Lock::Timeout=300"
# What each distribution calls the engine; the first package manager that is there is the machine's.
_INSTALL = (
    ("apt-get", f"{_APT} update && DEBIAN_FRONTEND=noninteractive {_APT} install docker.io"),
    ("dnf", "dnf -qy install docker || dnf -qy install moby-engine || dnf -qy install podman"),
    ("yum", "yum -qy install docker || yum -qy install podman"),
    ("zypper", "zypper -qn install docker"),
    ("apk", "apk add -q docker"),
)
_START = "systemctl enable --now docker || service docker start || rc-service docker start"
HOW_TO_INSTALL = (
    "Install one (apt-get install docker.io, dnf install moby-engine, or podman) or remove image_id"
)


class ContainerError(Exception):
    """The job cannot have its container; the message says why and what to do."""


class CancelledError(Exception):
    """The job was cancelled meanwhile."""


class Answer(NamedTuple):
    code: int
    out: str
    err: str


class Engine:
    """``docker`` or ``podman``. ``environment`` is what its commands see: never a job's own."""

    def __init__(self, path: str, environment: Dict[str, str]) -> None:
        self.path, self.environment = path, environment

    @property
    def name(self) -> str:
        return "podman" if "podman" in os.path.basename(self.path) else "docker"

    def run(
        self,
        *arguments: str,
        seconds: float = _SECONDS,
        feed: Optional[Callable[[IO[bytes]], None]] = None,
        environment: Optional[Dict[str, str]] = None,
        cancelled: Callable[[], bool] = lambda: False,
        watch: Callable[[str], None] = lambda text: None,
    ) -> Answer:
        """Runs a command; ``feed`` writes its input, ``watch`` sees all output so far, again and again.

        Raises ContainerError when it cannot be started or takes longer than ``seconds``, and CancelledError.
        """
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            try:
                process = subprocess.Popen(
                    [self.path, *arguments],
                    stdin=subprocess.DEVNULL if feed is None else subprocess.PIPE,
                    stdout=out,
                    stderr=err,
                    env={**self.environment, **(environment or {})},
                    start_new_session=True,
                )
            except OSError as exc:
                raise ContainerError(f"{self.path} cannot be run: {exc}.") from exc
            try:
                if feed is not None and process.stdin is not None:
                    _feed(process.stdin, feed)
                _await(process, f"{self.name} {arguments[0]}", seconds, cancelled, lambda: watch(_text(out)))
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
            return Answer(process.returncode, _text(out), _text(err).strip())

    def version(self) -> Answer:
        form = "{{.Version}}" if self.name == "podman" else "{{.Server.Version}}"
        return self.run("version", "--format", form, seconds=30.0)


def find_engines(environment: Dict[str, str]) -> List[Engine]:
    """Docker before podman, by PATH."""
    paths = [shutil.which(name, path=environment.get("PATH")) for name in ("docker", "podman")]
    return [Engine(path, environment) for path in paths if path is not None]


def engine_environment(inherited: Dict[str, str]) -> Dict[str, str]:
    """The agent's own environment, with the home of the person whose engine it is (on the local provider)."""
    environment = dict(inherited)
    home = environment.pop("STIX_ENGINE_HOME", "")
    if home:
        environment["HOME"] = home
    return environment


def ready_engine(
    environment: Dict[str, str], whole_machine: bool, log_path: str, note: Note
) -> Tuple[Engine, str]:
    """An engine that answers, and its version. Raises ContainerError.

    ``whole_machine``: the machine is the node's alone; as root an engine is installed and started there.
    """
    ours = whole_machine and os.geteuid() == 0
    engines = find_engines(environment)
    if not engines:
        if not ours:
            raise ContainerError(
                f"This computer has no container engine (docker or podman). {HOW_TO_INSTALL}."
            )
        engines = [_install(environment, log_path, note)]
    answers = [(engine, engine.version()) for engine in engines]
    engine, answer = next((one for one in answers if one[1].code == 0), answers[0])
    if answer.code != 0 and ours and engine.name == "docker":
        note("Starting docker.")
        _script(_START, environment, log_path)
        answer = _await_daemon(engine)
    if answer.code != 0:
        raise ContainerError(_no_answer(engine, answer.err))
    return engine, answer.out.strip()


def _install(environment: Dict[str, str], log_path: str, note: Note) -> Engine:
    for tool, script in _INSTALL:
        if shutil.which(tool, path=environment.get("PATH")) is None:
            continue
        note(f"Installing a container engine with {tool}.")
        code = _script(script, environment, log_path)
        engines = find_engines(environment)
        if engines:
            return engines[0]
        raise ContainerError(
            f"{tool} could not install a container engine (exit code {code}; its words are in {log_path} "
            "on the node). Use a machine image that has docker."
        )
    raise ContainerError(
        "This machine has no container engine and no package manager that is known. "
        "Use a machine image that has docker."
    )


def _script(script: str, environment: Dict[str, str], log_path: str) -> int:
    with open(log_path, "ab") as log:
        return subprocess.run(
            ["/bin/sh", "-c", script], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        ).returncode


def _await_daemon(engine: Engine) -> Answer:
    deadline = time.monotonic() + _DAEMON_SECONDS
    while True:
        answer = engine.version()
        if answer.code == 0 or time.monotonic() > deadline:
            return answer
        time.sleep(0.5)


def _no_answer(engine: Engine, words: str) -> str:
    if "permission denied" in words.lower():
        return (
            f"{engine.name} does not let this user in: {complaint(words)}. "
            "Add the user to the group docker and log in again, or use podman."
        )
    return f"{engine.name} does not answer: {complaint(words)}. Start it (systemctl start {engine.name})."


def complaint(words: str) -> str:
    """The line of a command's output that says what is wrong: the first, but for warnings and progress."""
    lines: List[str] = [line.strip() for line in words.splitlines() if line.strip()]
    telling = [line for line in lines if "error" in line.lower()] or [
        line for line in lines if not line.upper().startswith("WARN")
    ]
    return telling[0][:500].rstrip(".?") if telling else "it says nothing"


def _feed(stream: IO[bytes], feed: Callable[[IO[bytes]], None]) -> None:
    try:
        with stream:
            feed(stream)
    except BrokenPipeError:
        return  # It ended early; its exit code and words say why.


def _await(
    process: subprocess.Popen[bytes],
    what: str,
    seconds: float,
    cancelled: Callable[[], bool],
    look: Callable[[], None],
) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            process.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            look()
            if cancelled():
                raise CancelledError from None
            if time.monotonic() > deadline:
                raise ContainerError(f"{what} has not ended within {seconds:g} s.") from None
        else:
            return


def _text(stream: IO[bytes]) -> str:
    """What the process has written so far; its own position in the file is left alone."""
    size = os.fstat(stream.fileno()).st_size
    return os.pread(stream.fileno(), size, 0).decode("utf-8", "replace")
