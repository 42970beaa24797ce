"""What this computer has: CPUs by affinity and quota, memory by limit, NVIDIA GPUs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stix.clouds.local.cgroups import enclosing_limits
from stix.model.accelerators import canonical_name

__all__ = ["Gpu", "Host", "accelerator_name", "discover_host", "parse_smi"]

_GIB = 2**30
_SMI = ["--query-gpu=index,name,memory.total", "--format=csv,noheader,nounits"]


@dataclass(frozen=True, slots=True)
class Gpu:
    """``name`` as people ask for it (``A100-80GB``)."""

    index: int
    name: str
    memory_gib: float

    def facts(self) -> dict[str, Any]:
        return {"index": self.index, "name": self.name, "memory_gib": self.memory_gib}


@dataclass(frozen=True, slots=True)
class Host:
    cpus: float
    memory_gib: float
    gpus: tuple[Gpu, ...] = ()


def discover_host() -> Host:
    """Takes as long as ``nvidia-smi`` where there is one, else about a millisecond."""
    limits = enclosing_limits()
    cpus = float(_usable_cpus())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Host(
        cpus=round(min(cpus, limits.cpus or cpus), 2),
        memory_gib=round(min(memory, limits.memory_bytes or memory) / _GIB, 2),
        gpus=_discover_gpus(),
    )


def accelerator_name(product: str, memory_gib: float) -> str:
    """The field's short name of an NVIDIA product: ``NVIDIA A100-SXM4-80GB`` is ``A100-80GB``."""
    words = re.sub(r"\b(NVIDIA|Tesla|GeForce|Quadro)\b", "", product).replace("-", " ").split()
    if not words:
        return product.strip()
    name = words[0]
    if name == "RTX" and len(words) > 1:
        model = words[1:3] if words[1] == "PRO" else words[1:2]
        # The workstation cards A2000 to A6000 go by their bare number.
        name = model[0] if re.match(r"A\d", model[0]) else "RTX" + "".join(model)
        name += "-Ada" if "Ada" in words else ""
    if name in ("A100", "V100") and memory_gib > {"A100": 45, "V100": 20}[name]:
        name += {"A100": "-80GB", "V100": "-32GB"}[name]
    return canonical_name(name)


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _discover_gpus() -> tuple[Gpu, ...]:
    command = shutil.which("nvidia-smi")
    if command is not None:
        try:
            answer = subprocess.run(
                [command, *_SMI], capture_output=True, text=True, timeout=10, check=True
            ).stdout
        except (OSError, subprocess.SubprocessError):
            # The tool is installed but no driver answers it: look where the driver itself would show.
            return _gpus_of_driver()
        return parse_smi(answer)
    return _gpus_of_driver()


def parse_smi(answer: str) -> tuple[Gpu, ...]:
    """GPUs of ``index, name, MiB`` lines; lines of GPUs that report no memory figure are left out."""
    found = []
    for line in answer.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 3 and parts[0].isdigit() and parts[2].isdigit():
            memory = round(int(parts[2]) / 1024, 1)
            found.append(Gpu(int(parts[0]), accelerator_name(parts[1], memory), memory))
    return tuple(found)


def _gpus_of_driver(folder: Path = Path("/proc/driver/nvidia/gpus")) -> tuple[Gpu, ...]:
    """From the kernel driver alone: it does not tell the memory, which is then 0 (unknown)."""
    found = []
    for index, path in enumerate(sorted(folder.glob("*/information"))):
        model = re.search(
            r"^Model:\s*(.+)$", path.read_text(encoding="utf-8", errors="replace"), re.MULTILINE
        )
        found.append(Gpu(index, accelerator_name(model.group(1) if model else "NVIDIA", 0), 0))
    return tuple(found)
