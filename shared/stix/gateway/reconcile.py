"""Brings HAProxy to what a view and the replicas' health ask for: by its run-time API where that will do."""

from __future__ import annotations

import contextlib
import os
from typing import Dict, Mapping, Optional, Set

from .admission import admit
from .files import Json, read_json, write_json, write_text
from .haproxy import Haproxy
from .health import Health
from .metrics import Metrics
from .probes import Key
from .render import CONFIG, Settings, labels_file, render, side_files, structure, tokens_file
from .runtime_api import RuntimeApi, RuntimeApiError, changes
from .slots import Server, Slots, assign, servers_of
from .view import Service, View

_KEPT = "applied.json"
_SETTLED_SECONDS = 0.2

ByService = Dict[str, Dict[str, Server]]


class Reconciler:
    """``services`` and ``servers`` are what HAProxy has; ``problems`` by service why one is not as in the
    view."""

    def __init__(
        self, folder: str, haproxy: Haproxy, api: RuntimeApi, metrics: Metrics, settings: Settings
    ) -> None:
        self._folder, self._haproxy, self._api, self._metrics = folder, haproxy, api, metrics
        self._settings = settings
        self.services: Dict[str, Service] = {}
        self.servers: ByService = {}
        self.slots: Dict[str, Slots] = {}
        self.problems: Dict[str, str] = {}
        self.leaving: Dict[Key, float] = {}
        self.drained: Dict[Key, int] = {}
        self.starts = self.reloads = 0
        self._structure = ""
        self._tokens: Dict[str, Set[str]] = {}

    def take_over(self) -> Json:
        """Finds the HAProxy and the slots that the process before left; returns the replicas' health then."""
        kept = read_json(os.path.join(self._folder, _KEPT)) or {}
        self.slots = {name: tuple(slots) for name, slots in (kept.get("slots") or {}).items()}
        if self._haproxy.adopt(kept.get("haproxy") or {}):
            self._structure = str(kept.get("structure") or "")
        return kept.get("health") or {}

    def apply(self, view: View, health: Mapping[Key, Health], now: float) -> None:
        """Raises ``HaproxyError``; the HAProxy that runs then goes on as it was."""
        taken_over = bool(self._structure) and not self.services
        services, self.problems = admit(view, self._open_services(view), self._folder, self._settings.bind)
        self._note_leaving(services, now)
        slots = {name: self._assigned(name, service) for name, service in services.items()}
        servers = {
            name: servers_of(service, slots[name], _routed(name, health))
            for name, service in services.items()
        }
        wanted = structure(services, servers, self._settings)
        if not self._haproxy.alive:
            self._write(services, servers)
            self._haproxy.check()
            self._haproxy.start()
            self.starts += 1
        elif wanted != self._structure or not self._change(services, servers):
            self._write(services, servers)
            self._haproxy.check()
            self._haproxy.reload()
            self.reloads += 1
        else:
            self._write(services, servers)
        if not taken_over:
            for name in services.keys() - self.services.keys():
                self._metrics.begin(name, now)
        for name, keys in slots.items():
            before = self.slots.get(name, ())
            for index, key in enumerate(keys):
                if key and index < len(before) and before[index] != key:
                    self._metrics.start_anew(name, f"s{index + 1}")
        self.services, self.servers, self.slots, self._structure = services, servers, slots, wanted
        self._tokens = {name: set(one.tokens or ()) for name, one in services.items()}
        self._keep(health)

    def drain(self, now: float) -> bool:
        """Looks who has finished, by the metrics' last figures; True when something came to an end."""
        ended = False
        for (name, key), since in self.leaving.items():
            server = self.server_of(name, key)
            if (name, key) in self.drained or server is None or now < since + _SETTLED_SECONDS:
                continue
            left = self._metrics.in_flight(name, server)
            late = now >= since + self.services[name].drain_seconds
            if left and not late:
                continue
            if left:
                with contextlib.suppress(RuntimeApiError):
                    self._api.cut(name, server, self._api.old_pids())
            self.drained[name, key] = left
            ended = True
        return ended

    def server_of(self, name: str, key: str) -> Optional[str]:
        """The slot of a replica."""
        slots = self.slots.get(name, ())
        return f"s{slots.index(key) + 1}" if key in slots else None

    def is_up(self, name: str, key: str) -> bool:
        """Whether HAProxy sends new requests to a replica, or need not: one on standby."""
        server = self.server_of(name, key)
        if server is None:
            return False
        if self.servers[name][server].up:
            return True
        return any(one.key == key and one.state == "standby" for one in self.services[name].replicas)

    def _open_services(self, view: View) -> Mapping[str, Service]:
        """Those that HAProxy listens for. After ``take_over`` these are what the view has: their ports are
        not looked at, and a configuration that differs is a reload."""
        if self.services or not self._structure:
            return self.services
        return {service.name: service for service in view.services if service.name in self.slots}

    def _note_leaving(self, services: Mapping[str, Service], now: float) -> None:
        staying = {
            (name, one.key)
            for name, service in services.items()
            for one in service.replicas
            if one.state != "draining"
        }
        held = {(name, key) for name in services for key in self.slots.get(name, ()) if key}
        held |= {(name, one.key) for name, service in services.items() for one in service.replicas}
        self.leaving = {key: self.leaving.get(key, now) for key in held - staying}
        self.drained = {key: left for key, left in self.drained.items() if key in self.leaving}

    def _assigned(self, name: str, service: Service) -> Slots:
        slots = self.slots.get(name, ())
        busy = {
            key for key in slots if key and (name, key) in self.leaving and (name, key) not in self.drained
        }
        return assign(slots, service.replicas, busy)

    def _change(self, services: Mapping[str, Service], servers: ByService) -> bool:
        """By the run-time API; False when only a reload will do."""
        try:
            if not self.servers and services:
                self._look(services)
            for name, service in services.items():
                for command in changes(name, self.servers[name], servers[name], labels_file(name)):
                    self._api.order(command)
                before, after = self._tokens.get(name, set()), set(service.tokens or ())
                for token in sorted(before - after):
                    self._api.order(f"del acl {tokens_file(name)} {token}")
                for token in sorted(after - before):
                    self._api.order(f"add acl {tokens_file(name)} {token}")
        except (RuntimeApiError, KeyError):
            return False
        return True

    def _look(self, services: Mapping[str, Service]) -> None:
        """What a HAProxy that was taken over really has."""
        self.servers = self._api.servers()
        for name, service in services.items():
            labels = self._api.entries("map", labels_file(name))
            self.servers[name] = {
                slot: Server(
                    one.address,
                    one.port,
                    one.weight,
                    one.up,
                    labels.get(slot, "").strip("/") and labels[slot],
                )
                for slot, one in self.servers[name].items()
            }
            if service.tokens is not None:
                self._tokens[name] = set(self._api.entries("acl", tokens_file(name)))

    def _write(self, services: Mapping[str, Service], servers: ByService) -> None:
        """All that an HAProxy that starts anew needs; removes what none needs any more."""
        files = side_files(services, servers)
        files[CONFIG] = render(services, servers, self._settings)
        for name, text in files.items():
            write_text(os.path.join(self._folder, name), text)
        for name in os.listdir(self._folder):
            if name.endswith((".labels", ".tokens", ".pem")) and name not in files:
                os.unlink(os.path.join(self._folder, name))

    def _keep(self, health: Mapping[Key, Health]) -> None:
        kept: Dict[str, Dict[str, Json]] = {}
        for (name, key), one in health.items():
            kept.setdefault(name, {})[key] = dict(vars(one))
        write_json(
            os.path.join(self._folder, _KEPT),
            {
                "haproxy": self._haproxy.to_json(),
                "structure": self._structure,
                "slots": self.slots,
                "health": kept,
            },
        )


def _routed(name: str, health: Mapping[Key, Health]) -> Dict[str, bool]:
    return {key: one.state == "ready" for (service, key), one in health.items() if service == name}
