"""What this node has: looked up once, overridden by the config."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
from typing import Any, Dict, List

from .config import AgentConfig
from .files import Json

_GIB = 1 << 30


def discover_facts(config: AgentConfig) -> Json:
    """The wire protocol's Facts."""
    return {
        "cpus": float(config.cpus) if config.cpus is not None else usable_cpus(),
        "memory_gib": float(config.memory_gib) if config.memory_gib is not None else machine_memory_gib(),
        "gpus": list(config.gpus) if config.gpus is not None else nvidia_gpus(),
        "hostname": socket.gethostname(),
        "os": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "disk_free_gib": round(shutil.disk_usage(config.state_dir).free / _GIB, 1),
        "limits": {"cpu": "none", "memory": "none", **config.limits},
    }


def usable_cpus() -> float:
    if hasattr(os, "sched_getaffinity"):
        return float(len(os.sched_getaffinity(0)))
    return float(os.cpu_count() or 1)


def machine_memory_gib() -> float:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB, 2)
    except (ValueError, OSError):
        return 0.0


def nvidia_gpus() -> List[Dict[str, Any]]:
    """Empty without NVIDIA's tool; units of its memory column are MiB."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = [tool, "--query-gpu=index,name,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(
            query, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    gpus = []
    for line in answer.stdout.decode("utf-8", "replace").splitlines():
        columns = [column.strip() for column in line.split(",")]
        if len(columns) == 3 and columns[0].isdigit():
            memory = round(float(columns[2]) / 1024) if columns[2].replace(".", "").isdigit() else 0
            gpus.append({"index": int(columns[0]), "name": columns[1], "memory_gib": memory})
    return gpus
