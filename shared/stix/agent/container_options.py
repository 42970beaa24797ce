"""How a job's container is described to the engine: pure functions from what is wanted to command lines."""

from __future__ import annotations

import hashlib
import os
import resource
import shlex
from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple

from .config import AgentConfig
from .files import Json

JOBS = "/stix/jobs"
"""Where the node's job folders are inside: scripts come from there, output goes there."""
WORKDIR = "sky_workdir"
_OPEN_FILES = 1048576
_SHM_SHARE = 0.5  # The kernel's own default for /dev/shm.

# The first process inside. It ends with its input, which ends with the process that holds the container (see
# Containers), or on a TERM; the others get a TERM and five seconds, and then the kernel ends what is left.
FIRST_PROCESS = """\
trap 'ending=1' TERM
while [ -z "$ending" ] && read -r _; do :; done
kill -TERM -1 2>/dev/null
n=0
while [ "$n" -lt 50 ] && kill -0 -1 2>/dev/null && sleep 0.1; do n=$((n + 1)); done
"""
END_SECONDS = 6

# $1 mark, $2 the script's first process, $3 group: only that one's process group; $4 signal. Prints how many
# processes it found. NUL bytes are dropped by `read`, so the mark has brackets around it.
FIND_PROCESSES = """\
exec 2>/dev/null
mark=$1 leader=$2 only=$3 signal=$4 sessions=" $2 " found=
for round in 1 2; do
  for d in /proc/[0-9]*; do
    p=${d#/proc/}
    case "$found " in *" $p "*) continue;; esac
    read -r stat <"$d/stat" || continue
    set -- ${stat##*) }
    case $1 in Z|X) continue;; esac
    if [ "$only" = group ]; then
      [ "$3" = "$leader" ] && found="$found $p"
      continue
    fi
    case $sessions in *" $4 "*) found="$found $p"; continue;; esac
    while read -r line || [ -n "$line" ]; do
      case $line in *"STIX_CONTAINER_JOB=$mark"*) found="$found $p" sessions="$sessions$4 "; break;; esac
    done <"$d/environ"
  done
done
n=0
for p in $found; do kill -"$signal" "$p" && n=$((n + 1)); done
echo "$n"
"""


@dataclass(frozen=True)
class Login:
    """To a registry; an empty server is Docker Hub."""

    username: str
    password: str
    server: str


@dataclass(frozen=True)
class Gpus:
    """The GPUs of the node. ``indices`` is None where it has all of the machine's."""

    count: int
    indices: Optional[Tuple[int, ...]] = None

    def inside(self, granted: Sequence[int]) -> List[int]:
        """The numbers by which the container knows the granted ones: it counts those that it is given."""
        if self.indices is None:
            return list(granted)
        return [self.indices.index(gpu) for gpu in granted if gpu in self.indices]


def login_from(values: Dict[str, str]) -> Optional[Login]:
    """SkyPilot's three variables; None without a password."""
    names = ("USERNAME", "PASSWORD", "SERVER")
    username, password, server = (str(values.get(f"SKYPILOT_DOCKER_{name}") or "") for name in names)
    return Login(username, password, server.rstrip("/")) if username and password else None


def image_name(image: str, login: Optional[Login], engine: str) -> str:
    """The image as the engine is asked for it: with the registry of the login where it names none."""
    first = image.partition("/")[0]
    has_registry = "/" in image and ("." in first or ":" in first or first == "localhost")
    if login is not None and login.server and not image.startswith(f"{login.server}/") and not has_registry:
        return f"{login.server}/{image}"
    if engine == "podman" and not has_registry:
        # Podman would ask which registry is meant.
        return f"docker.io/{image}" if "/" in image else f"docker.io/library/{image}"
    return image


def container_name(config: AgentConfig, wanted: Json) -> str:
    """One for each node and image, so that a restarted agent finds it. The run options are those of the job
    that it was made for."""
    node = _digest(f"{config.machine_id}\n{config.state_dir}")
    return f"stix-{node}-{_digest(str(wanted['image']))}"


def node_gpus(config: AgentConfig, facts: Json) -> Gpus:
    found = [int(gpu["index"]) for gpu in facts.get("gpus") or []]
    return Gpus(len(found), None if config.gpus is None else tuple(sorted(found)))


def create_arguments(
    config: AgentConfig,
    facts: Json,
    *,
    engine: str,
    name: str,
    image: str,
    home: str,
    wanted: Json,
    with_init: bool,
) -> List[str]:
    """Of ``create``. The task's own run options come last among the options, and replace ours."""
    options = [word for text in wanted.get("run_options") or [] for word in shlex.split(text)]
    ours = ["--interactive", "--name", name, "--label", f"stix.machine={config.machine_id}"]
    ours += ["--user", "0:0", "--entrypoint", "/bin/sh", "--workdir", "/", "--cap-add", "SYS_PTRACE"]
    ours += ["--init"] if with_init else []
    ours += ["--volume", f"{os.path.join(config.state_dir, 'jobs')}:{JOBS}"]
    ours += ["--volume", f"{os.path.join(config.home_dir, WORKDIR)}:{os.path.join(home, WORKDIR)}"]
    if not _has(options, "--network", "--net"):
        ours += ["--network", "host"]
    if not _has(options, "--ulimit"):
        ours += ["--ulimit", f"nofile={_open_files()}"]
    if not _has(options, "--shm-size", "--ipc"):
        ours += ["--shm-size", f"{max(64, int(float(facts['memory_gib']) * 1024 * _SHM_SHARE))}m"]
    if not _has(options, "--gpus", "--device", "--runtime"):
        ours += _gpu_options(engine, node_gpus(config, facts), whole=config.gpus is None)
    ours += _limits(config, facts, options)
    return [*ours, *options, image, "-c", FIRST_PROCESS, "stix"]


def exec_arguments(name: str, user: str, workdir: str, marks: Sequence[str]) -> List[str]:
    """Of ``exec``: a shell that reads its commands from the input. No value of the job's is among them."""
    words = ["exec", "--interactive", "--user", user, "--workdir", workdir]
    for mark in marks:
        words += ["--env", mark]
    return [*words, name, "/bin/sh"]


def entry_script(environment: Dict[str, str], folder: str, phase: str) -> str:
    """The commands that become the job's script inside. Whole or nothing: a cut-off block is no command."""
    path = f"{folder}/{phase}"
    exports = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in environment.items())
    return f"""\
{{
exec </dev/null >>{path}.out 2>>{path}.err
{exports}
echo "$$" >{path}.inside
shell=/bin/sh
[ ! -x /bin/bash ] || shell=/bin/bash
for profile in .bash_profile .bash_login .profile; do
  [ ! -f "$HOME/$profile" ] || exec "$shell" -c '. "$1"; exec "$0" "$2"' "$shell" "$HOME/$profile" {path}.sh
done
exec "$shell" {path}.sh
}}
"""


def _gpu_options(engine: str, gpus: Gpus, whole: bool) -> List[str]:
    if gpus.count:
        chosen = "all" if gpus.indices is None else ",".join(str(index) for index in gpus.indices)
        if engine == "podman":
            return [word for one in chosen.split(",") for word in ("--device", f"nvidia.com/gpu={one}")]
        return ["--gpus", "all" if chosen == "all" else f'"device={chosen}"']
    if whole and os.path.exists("/dev/kfd"):
        devices = ["--device", "/dev/kfd", "--security-opt", "seccomp=unconfined", "--group-add", "video"]
        return [*devices, *(["--device", "/dev/dri"] if os.path.exists("/dev/dri") else [])]
    return []


def _limits(config: AgentConfig, facts: Json, options: Sequence[str]) -> List[str]:
    """What the node's control group enforces outside a container (the local provider)."""
    limits: List[str] = []
    if config.limits.get("cpu") == "cgroup" and not _has(options, "--cpus"):
        limits += ["--cpus", f"{float(facts['cpus']):g}"]
    if config.limits.get("memory") == "cgroup" and not _has(options, "--memory", "-m"):
        size = f"{int(float(facts['memory_gib']) * 1024)}m"
        limits += ["--memory", size, "--memory-swap", size]
    return limits


def _open_files() -> int:
    """SkyPilot's limit, or what may be given here."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return _OPEN_FILES if limit == resource.RLIM_INFINITY else min(_OPEN_FILES, limit)


def _has(options: Sequence[str], *names: str) -> bool:
    return any(option == name or option.startswith(f"{name}=") for option in options for name in names)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
