"""Control groups: limits for a machine, and the one sure list of the processes inside it.

A machine's groups are ``stix/<machine id>`` below the group that this process runs in (v1: one for each
controller) or below the nearest delegated one (v2), so that limits set from outside keep holding. Where
none can be written, machines run without limits and say so.
"""

from __future__ import annotations

import os
import stat
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

__all__ = ["CgroupTree", "EnclosingLimits", "Groups", "cgroup_trees", "enclosing_limits", "group_processes"]

_CONTROLLERS = ("memory", "cpu")
_PERIOD_US = 100_000
_SELF = Path("/proc/self")
_GIB = 2**30
_NAME = "stix"


@dataclass(frozen=True, slots=True)
class CgroupTree:
    """One mounted hierarchy: its version, its controllers, where it is mounted and where we are in it."""

    version: int
    controllers: tuple[str, ...]
    mount: Path
    own: Path


@dataclass(frozen=True, slots=True)
class EnclosingLimits:
    """The tightest limits around this process; None where there is none."""

    cpus: float | None
    memory_bytes: int | None


def cgroup_trees(process: Path = _SELF) -> list[CgroupTree]:
    """The hierarchies that carry memory and CPU limits; empty where the system has none (macOS)."""
    try:
        mounts = (process / "mountinfo").read_text(encoding="utf-8").splitlines()
        places = (process / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    own = {}
    for line in places:
        _, listed, path = line.split(":", 2)
        for name in listed.split(","):
            own[name] = path
    trees = []
    for line in mounts:
        left, right = line.split(" - ", 1)
        kind, _, options = right.split(" ", 2)
        root, mount = left.split(" ")[3:5]
        if kind == "cgroup2" and "" in own:
            place = _place(Path(mount), root, own[""])
            trees.append(CgroupTree(2, tuple(_words(Path(mount) / "cgroup.controllers")), Path(mount), place))
        elif kind == "cgroup":
            names = tuple(name for name in _CONTROLLERS if name in options.split(",") and name in own)
            if names:
                trees.append(CgroupTree(1, names, Path(mount), _place(Path(mount), root, own[names[0]])))
    return trees


def enclosing_limits(trees: Sequence[CgroupTree] | None = None) -> EnclosingLimits:
    cpus: list[float] = []
    memory: list[int] = []
    for tree in cgroup_trees() if trees is None else trees:
        for group in [tree.own, *tree.own.parents]:
            if not group.is_relative_to(tree.mount):
                break
            if tree.version == 2:
                quota, period = [*_words(group / "cpu.max"), "max", "max"][:2]
                memory += _numbers(group / "memory.max")
            else:
                quota = "".join(_words(group / "cpu.cfs_quota_us")[:1]) or "-1"
                period = "".join(_words(group / "cpu.cfs_period_us")[:1]) or "-1"
                memory += _numbers(group / "memory.limit_in_bytes")
            if quota.isdigit() and period.isdigit() and int(period):
                cpus.append(int(quota) / int(period))
    return EnclosingLimits(min(cpus, default=None), min(memory, default=None))


class Groups:
    """The groups of machines, at most one per hierarchy and machine; found again by their paths."""

    def __init__(self, trees: Sequence[CgroupTree] | None = None) -> None:
        self._parents: dict[Path, CgroupTree] = {}
        for tree in cgroup_trees() if trees is None else trees:
            parent = _usable_parent(tree)
            if parent is not None:
                self._parents[parent] = replace(tree, controllers=_limited_below(parent, tree))

    @property
    def controllers(self) -> frozenset[str]:
        return frozenset(
            name for tree in self._parents.values() for name in tree.controllers if name in _CONTROLLERS
        )

    def limits(self) -> Mapping[str, str]:
        """The facts' text: ``cgroup`` or ``none`` for each of cpu and memory."""
        return {name: "cgroup" if name in self.controllers else "none" for name in ("cpu", "memory")}

    def create(self, machine_id: str, *, cpus: float, memory_gib: float) -> tuple[str, ...]:
        """The paths of the machine's groups, made where missing, their limits set. Raises OSError."""
        paths = []
        for parent, tree in self._parents.items():
            group = parent / machine_id
            group.mkdir(parents=True, exist_ok=True)
            _limit(group, tree, cpus, memory_gib)
            paths.append(str(group))
        return tuple(paths)

    def paths(self, machine_id: str) -> tuple[str, ...]:
        """Where the machine's groups are if they are below this process's own groups."""
        return tuple(str(parent / machine_id) for parent in self._parents)

    def remove(self, paths: Sequence[str]) -> None:
        """Removes empty groups. One with processes in it stays; ``remove_unknown`` finds it later."""
        for path in paths:
            _remove_empty(Path(path))

    def remove_unknown(self, known: set[str], *, before: float) -> None:
        """Removes the empty groups, made before that time, of machines that are not ``known``."""
        for parent in self._parents:
            for name in set(os.listdir(parent)) - known:
                # A young group may be one whose first process is about to enter.
                if _is_old_folder(parent / name, before):
                    _remove_empty(parent / name)


def group_processes(paths: Sequence[str]) -> set[int]:
    """Pids in the groups; a group that is gone has none."""
    found = set()
    for path in paths:
        found |= {int(word) for word in _words(Path(path) / "cgroup.procs")}
    return found


def _usable_parent(tree: CgroupTree) -> Path | None:
    """``…/stix``, made and tried out with a real process, or None."""
    if not set(tree.controllers) & set(_CONTROLLERS):
        return None
    candidates = [tree.own]
    if tree.version == 2:
        # A v2 group that holds processes cannot hand controllers on: go up to one that already does.
        candidates = [group for group in (tree.own, *tree.own.parents) if group.is_relative_to(tree.mount)]
    for candidate in candidates:
        if tree.version == 2 and "memory" not in _words(candidate / "cgroup.subtree_control"):
            continue
        parent = candidate / _NAME
        try:
            parent.mkdir(exist_ok=True)
            if tree.version == 2:
                wanted = [name for name in _CONTROLLERS if name in _words(parent / "cgroup.controllers")]
                (parent / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in wanted))
            if _accepts_processes(parent / f"probe-{uuid.uuid4().hex}"):
                return parent
        except OSError:
            continue
    return None


def _limited_below(parent: Path, tree: CgroupTree) -> tuple[str, ...]:
    return tuple(_words(parent / "cgroup.subtree_control")) if tree.version == 2 else tree.controllers


def _accepts_processes(group: Path) -> bool:
    group.mkdir(exist_ok=True)
    try:
        script = 'echo $$ > "$1/cgroup.procs"'
        probe = subprocess.run(
            ["/bin/sh", "-c", script, "probe", str(group)], stderr=subprocess.DEVNULL, timeout=10
        )
        return probe.returncode == 0
    finally:
        _remove_empty(group)


def _limit(group: Path, tree: CgroupTree, cpus: float, memory_gib: float) -> None:
    memory = str(int(memory_gib * _GIB))
    quota = max(1000, int(cpus * _PERIOD_US))
    if tree.version == 2:
        if (group / "memory.max").exists():
            (group / "memory.max").write_text(memory)
        if (group / "memory.swap.max").exists():
            (group / "memory.swap.max").write_text("0")
        if (group / "cpu.max").exists():
            (group / "cpu.max").write_text(f"{quota} {_PERIOD_US}")
        return
    if "memory" in tree.controllers:
        (group / "memory.limit_in_bytes").write_text(memory)
        swap = group / "memory.memsw.limit_in_bytes"
        if swap.exists():
            swap.write_text(memory)
    if "cpu" in tree.controllers:
        (group / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
        (group / "cpu.cfs_quota_us").write_text(str(quota))


def _place(mount: Path, root: str, own: str) -> Path:
    """Where a group is below the mount, which in a container may already begin at our own group."""
    if root not in ("", "/") and (own == root or own.startswith(root + "/")):
        own = own[len(root) :]
    place = mount / own.lstrip("/")
    return place if place.is_dir() else mount


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split()
    except OSError:
        return []


def _numbers(path: Path) -> list[int]:
    # Without a limit v1 answers with a number near 2**63, v2 with "max".
    return [int(word) for word in _words(path) if word.isdigit() and int(word) < 2**60]


def _is_old_folder(path: Path, before: float) -> bool:
    try:
        found = path.stat()
    except OSError:
        # Another control plane removed it after it was listed.
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_mtime < before


def _remove_empty(group: Path) -> None:
    try:
        group.rmdir()
    except OSError:
        return
