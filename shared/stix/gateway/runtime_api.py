"""HAProxy's run-time API: its admin socket, and the master's, through which old processes answer too."""

from __future__ import annotations

import csv
import os
import re
import socket
from dataclasses import dataclass
from typing import Dict, Iterator, List, Mapping, Optional, Tuple

from .render import ADMIN_SOCKET, MASTER_SOCKET
from .slots import Server

ANSWERS = ("1xx", "2xx", "3xx", "4xx", "5xx")
_TIMEOUT = 5.0
_ADDRESS_SET = re.compile(r"(IP changed|no need to change|port changed)")
_FORCED_OFF = 0x01
_DRAINED = 0x08


class RuntimeApiError(Exception):
    """HAProxy did not take a command, or does not answer."""


@dataclass(frozen=True)
class Load:
    """Of one proxy or server: what is in progress, and counters since the process began."""

    in_flight: int
    requests: int
    bytes_in: int
    bytes_out: int
    connect_errors: int
    response_errors: int
    retries: int
    status: str
    answers: Dict[str, int]


class RuntimeApi:
    """Commands to the HAProxy of a state folder. Raises ``RuntimeApiError``."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def ask(self, command: str, name: str = ADMIN_SOCKET) -> str:
        # The path of a socket is at most 107 bytes; that of an open folder always fits.
        try:
            folder = os.open(self._folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
                    stream.settimeout(_TIMEOUT)
                    stream.connect(f"/proc/self/fd/{folder}/{name}")
                    # The master closes only after "quit", and that is how the end of its answer is known.
                    quits = "quit\n" if name == MASTER_SOCKET else ""
                    stream.sendall(f"{command}\n{quits}".encode())
                    return b"".join(iter(lambda: stream.recv(1 << 16), b"")).decode(errors="replace").strip()
            finally:
                os.close(folder)
        except OSError as exc:
            raise RuntimeApiError(f"HAProxy's {name} does not answer to {command!r}: {exc}") from exc

    def order(self, command: str) -> None:
        answer = self.ask(command)
        if answer and not _ADDRESS_SET.match(answer):
            raise RuntimeApiError(f"HAProxy refuses {command!r}: {answer}")

    def pid(self) -> int:
        """The process that takes new connections."""
        found = re.search(r"^Pid: (\d+)$", self.ask("show info"), re.MULTILINE)
        if not found:
            raise RuntimeApiError("HAProxy does not say its process id.")
        return int(found.group(1))

    def old_pids(self) -> List[int]:
        """Processes from before a reload that still have requests."""
        listed = self.ask("show proc", MASTER_SOCKET)
        _, _, old = listed.partition("# old workers")
        return [int(pid) for pid in re.findall(r"^(\d+)\s+worker", old, re.MULTILINE)]

    def loads(self, pid: Optional[int] = None) -> Dict[Tuple[str, str], Load]:
        """By proxy and server (or FRONTEND, BACKEND); of an old process with ``pid``."""
        if pid is None:
            text = self.ask("show stat")
        else:
            text = self.ask(f"@!{pid} show stat", MASTER_SOCKET)
        return dict(_loads(text))

    def waiting(self) -> Dict[str, int]:
        """Requests that wait for a first replica, by service."""
        cells = (line.split() for line in self.ask("show waiting").splitlines())
        return {one[0]: int(one[1]) for one in cells if len(one) == 2}

    def servers(self) -> Dict[str, Dict[str, Server]]:
        """What each slot really is, without its label."""
        found: Dict[str, Dict[str, Server]] = {}
        for line in self.ask("show servers state").splitlines():
            cells = line.split()
            if len(cells) > 18 and cells[0].isdigit():
                off = int(cells[6]) & (_FORCED_OFF | _DRAINED)
                server = Server(cells[4], int(cells[18]), int(cells[7]), not off)
                found.setdefault(cells[1], {})[cells[3]] = server
        return found

    def entries(self, kind: str, file: str) -> Dict[str, str]:
        """Of an ``acl`` or a ``map``: its keys, with the values of a map."""
        cells = (line.split(None, 2) for line in self.ask(f"show {kind} {file}").splitlines())
        return {one[1]: one[2] if len(one) > 2 else "" for one in cells if one and one[0].startswith("0x")}

    def cut(self, proxy: str, server: str, pids: List[int]) -> None:
        """Ends the requests that are still in progress, in old processes too."""
        self.ask(f"shutdown sessions server {proxy}/{server}")
        for pid in pids:
            self.ask(f"@!{pid} shutdown sessions server {proxy}/{server}", MASTER_SOCKET)


def changes(
    proxy: str, before: Mapping[str, Server], after: Mapping[str, Server], labels: str
) -> Iterator[str]:
    """The commands that lead from one to the other; a server is off while its address changes."""
    for name, server in after.items():
        old = before.get(name, Server())
        where = f"{proxy}/{name}"
        moved = (old.address, old.port) != (server.address, server.port)
        if old.up and (moved or not server.up):
            yield f"set server {where} state maint"
        if moved:
            yield f"set server {where} addr {server.address} port {server.port}"
        if old.label != server.label:
            yield f"set map {labels} {name} {server.label or '/'}"
        if server.weight != old.weight:
            yield f"set server {where} weight {server.weight}"
        if server.up and (moved or not old.up):
            yield f"set server {where} state ready"


def _loads(text: str) -> Iterator[Tuple[Tuple[str, str], Load]]:
    rows = csv.DictReader(text.lstrip("# ").splitlines())
    for row in rows:
        if not row.get("svname"):
            continue
        yield (
            (row["pxname"], row["svname"]),
            Load(
                in_flight=_int(row["scur"]),
                requests=_int(row["req_tot"] or row["stot"]),
                bytes_in=_int(row["bin"]),
                bytes_out=_int(row["bout"]),
                connect_errors=_int(row["econ"]),
                response_errors=_int(row["eresp"]),
                retries=_int(row["wretr"]),
                status=row["status"],
                answers={kind: _int(row[f"hrsp_{kind}"]) for kind in ANSWERS},
            ),
        )


def _int(cell: Optional[str]) -> int:
    return int(cell) if cell else 0
