"""What machines of one user on one computer must not share: loopback addresses and GPUs.

A claim is a file that names its holder's folder; it counts as long as that folder has a record. So claims of
deployments that were deleted by hand expire by themselves, and all deployments of a user see each other's.
"""

from __future__ import annotations

import errno
import hashlib
import json
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stix.clouds.local.locking import exclusive
from stix.clouds.local.records import replace_file

__all__ = ["SHARED_ADDRESS", "Claims", "Holder", "Ledger", "default_claims_folder"]

SHARED_ADDRESS = "127.0.0.1"
_ADDRESSES = 64 * 256 * 254  # 127.64.0.1 to 127.127.255.254, without the .0 and .255 of every last octet


def default_claims_folder() -> Path:
    return Path.home() / ".cache" / "stix" / "claims"


@dataclass(frozen=True, slots=True)
class Holder:
    """A machine's folder, and the cluster's name for messages."""

    folder: str
    cluster: str = ""

    @property
    def machine_id(self) -> str:
        return Path(self.folder).name

    @property
    def alive(self) -> bool:
        return (Path(self.folder) / "machine.json").exists()


class Claims:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def locked(self) -> Iterator[Ledger]:
        """Place the claiming machine's record before leaving: a claim without a record is void."""
        with exclusive(self._folder / "lock"):
            yield Ledger(self._folder)


class Ledger:
    """The claims as they are while the lock is held."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._holders: dict[str, Holder] = {}
        for path in folder.glob("*.claim"):
            holder = _read_holder(path)
            if holder is not None and holder.alive:
                self._holders[path.stem] = holder
            else:
                path.unlink(missing_ok=True)

    def machine_ids(self) -> set[str]:
        return {holder.machine_id for holder in self._holders.values()}

    def take_address(self, token: str, index: int, holder: Holder) -> str:
        """A free loopback address; members of one gang get neighbours. ``127.0.0.1``, unclaimed, where the
        system routes no other one (macOS)."""
        start = int.from_bytes(hashlib.sha256(token.encode()).digest()[:8], "big") + index
        for step in range(_ADDRESSES):
            address = _nth_address(start + step)
            if address in self._holders:
                continue
            if not _can_bind(address):
                return SHARED_ADDRESS
            self._take(address, holder)
            return address
        return SHARED_ADDRESS

    def take_gpus(self, indices: Sequence[int], count: int, holder: Holder) -> list[int]:
        """``count`` of ``indices``, the holder's own first; when fewer are free, none is taken."""
        own = [index for index in indices if self._holders.get(f"gpu-{index}") == holder]
        free = [index for index in indices if f"gpu-{index}" not in self._holders]
        chosen = (own + free)[:count]
        if len(chosen) == count:
            for index in chosen:
                self._take(f"gpu-{index}", holder)
        return chosen

    def gpu_holders(self, indices: Sequence[int]) -> dict[int, Holder]:
        return {index: self._holders[f"gpu-{index}"] for index in indices if f"gpu-{index}" in self._holders}

    def release(self, folder: Path, *, only_gpus: bool = False) -> None:
        for name, holder in list(self._holders.items()):
            if holder.folder == str(folder) and (name.startswith("gpu-") or not only_gpus):
                del self._holders[name]
                (self._folder / f"{name}.claim").unlink(missing_ok=True)

    def _take(self, name: str, holder: Holder) -> None:
        data = json.dumps({"folder": holder.folder, "cluster": holder.cluster}).encode()
        replace_file(self._folder / f"{name}.claim", data)
        self._holders[name] = holder


def _read_holder(path: Path) -> Holder | None:
    try:
        raw = json.loads(path.read_bytes())
        return Holder(str(raw["folder"]), str(raw["cluster"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _nth_address(number: int) -> str:
    rest, last = divmod(number % _ADDRESSES, 254)
    return f"127.{64 + rest // 256}.{rest % 256}.{last + 1}"


def _can_bind(address: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError as exc:
            if exc.errno == errno.EADDRNOTAVAIL:
                return False
            raise
    return True
