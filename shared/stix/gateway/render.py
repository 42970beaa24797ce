"""HAProxy's configuration from a view: pure, and with every path relative to the state folder.

Whatever the run-time API can change (the address, weight and state of a server, tokens, labels) is written
too, so that an HAProxy that starts anew serves at once; but ``structure`` leaves it out, and only a change of
the structure is a reload.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional

from .slots import Server
from .view import Service
from .waiting import WAITING

ADMIN_SOCKET = "admin.sock"
MASTER_SOCKET = "master.sock"
CONFIG = "haproxy.cfg"
RETRY_AFTER = 5
_IDEMPOTENT = "GET HEAD OPTIONS"

_GLOBAL = """\
global
    stats socket unix@{admin} mode 600 level admin expose-fd listeners
    lua-load waiting.lua
    maxconn {connections}
    hard-stop-after {last_stream}s
    ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets
    ssl-default-bind-ciphers ECDHE+AESGCM:ECDHE+CHACHA20
    tune.ssl.default-dh-param 2048
{extra}
defaults
    mode http
    timeout connect 2s
    timeout http-request 30s
    timeout http-keep-alive 60s
    timeout client-fin 30s
    timeout tunnel 1h
    # A lost replica has the fewest connections, so it is asked until its third error: twice for two of them.
    retries 6
    option redispatch 1
    retry-on conn-failure empty-response
    option abortonclose
    option dontlognull
    option http-no-delay
    option http-server-close
    option idle-close-on-response
    http-error status 503 content-type text/plain hdr Retry-After {retry} string "{refusal}\\n"
"""

_LOG = (
    r'{"time":%Ts.%ms,"service":"%[NAME]","replica":"%[srv_name,map_str(LABELS,/),word(1,/)]",'
    r'"version":"%[srv_name,map_str(LABELS,/),field(2,/)]","client":"%ci","method":"%HM",'
    r'"path":"%[capture.req.uri,field(1,?),json(utf8s)]","protocol":"%HV","status":%ST,"bytes":%B,'
    r'"waited_ms":%TR,"connect_ms":%Tc,"first_byte_ms":%Tr,"total_ms":%Ta,"retries":"%rc","end":"%ts"}'
)


@dataclass(frozen=True)
class Settings:
    """Of the machine, not of the services. ``user`` is whom HAProxy becomes after binding its ports."""

    bind: str = "*"
    connections: int = 20000
    threads: Optional[int] = None
    user: Optional[str] = None
    last_stream_seconds: int = 3600


def render(
    services: Mapping[str, Service], servers: Mapping[str, Mapping[str, Server]], settings: Settings
) -> str:
    """The configuration; ``servers`` by service, by name of slot."""
    extra = f"    nbthread {settings.threads}\n" if settings.threads else ""
    extra += f"    user {settings.user}\n    group {settings.user}\n" if settings.user else ""
    parts = [
        _GLOBAL.format(
            admin=ADMIN_SOCKET,
            connections=settings.connections,
            last_stream=settings.last_stream_seconds,
            extra=extra,
            retry=RETRY_AFTER,
            refusal="No replica answers; try again soon.",
        )
    ]
    for name in sorted(services):
        parts.append(_frontend(services[name], settings))
        parts.append(_backend(services[name], servers[name]))
    if not services:
        # HAProxy refuses a configuration that listens nowhere.
        parts.append("frontend none\n    bind unix@none.sock mode 600\n    timeout client 1s\n")
    return "\n".join(parts)


def structure(
    services: Mapping[str, Service], servers: Mapping[str, Mapping[str, Server]], settings: Settings
) -> str:
    """Equal for two configurations between which the run-time API can go."""
    blank = {name: dict.fromkeys(slots, Server()) for name, slots in servers.items()}
    return hashlib.sha256((WAITING + render(services, blank, settings)).encode()).hexdigest()


def side_files(
    services: Mapping[str, Service], servers: Mapping[str, Mapping[str, Server]]
) -> Dict[str, str]:
    """The other files that HAProxy reads: name in the state folder, text."""
    files = {"waiting.lua": WAITING}
    for name, service in services.items():
        slots = servers[name]
        files[labels_file(name)] = "".join(f"{slot} {one.label or '/'}\n" for slot, one in slots.items())
        if service.tokens is not None:
            files[tokens_file(name)] = "".join(f"{token}\n" for token in service.tokens)
        if service.tls:
            files[certificate_file(service)] = (
                f"{service.tls.certificate.strip()}\n{service.tls.key.strip()}\n"
            )
    return files


def labels_file(name: str) -> str:
    return f"{name}.labels"


def tokens_file(name: str) -> str:
    return f"{name}.tokens"


def certificate_file(service: Service) -> str:
    """Named by its content: another certificate is another structure."""
    assert service.tls is not None
    digest = hashlib.sha256(f"{service.tls.certificate}\n{service.tls.key}".encode()).hexdigest()
    return f"{service.name}.{digest[:16]}.pem"


def _frontend(service: Service, settings: Settings) -> str:
    """Requests that come to a process that a reload has replaced, on connections that it still has, go
    through a door to the newer one: what the old one knows of the replicas is old."""
    name = service.name
    secure = f" ssl crt {certificate_file(service)} alpn h2,http/1.1" if service.tls else ""
    scheme = "https" if service.tls else "http"
    owner = f" user {settings.user}" if settings.user else ""
    log = _LOG.replace("%[NAME]", name).replace("LABELS", labels_file(name))
    lines = [
        f"frontend {name}",
        f"    bind {settings.bind}:{service.port}{secure}",
        f"    bind unix@{name}.door accept-proxy mode 600{owner}",
        f"    timeout client {service.stream_timeout_seconds}s",
        "    log stdout format raw local0",
        f"    log-format '{log}'",
        "    http-request set-log-level silent if { stopping }",
    ]
    if service.tokens is not None:
        lines.append(
            "    http-request return status 401 content-type text/plain"
            ' string "This service wants a token: Authorization: Bearer ...\\n" hdr WWW-Authenticate Bearer'
            f" unless {{ http_auth_bearer,sha2(256),hex,lower -m str -f {tokens_file(name)} }}"
        )
    none = f"!{{ stopping }} {{ nbsrv({name}) eq 0 }}"
    refusal = (
        "    http-request return status 503 content-type text/plain"
        f' string "%s\\n" hdr Retry-After {RETRY_AFTER} if %s'
    )
    full = f"No replica is ready, and {service.max_queue} requests wait for one already."
    lines += [
        f"    http-request set-header X-Forwarded-Proto {scheme}",
        f"    http-request lua.wait_for_replica {name} {service.wait_seconds} {service.max_queue} if {none}",
        refusal % (full, "{ var(txn.refused) -m bool }"),
        refusal % (f"No replica became ready in {service.wait_seconds} s.", none),
        f"    http-request disable-l7-retry unless {{ method {_IDEMPOTENT} }}",
        f"    use_backend {name}:newer if {{ stopping }}",
        f"    default_backend {name}",
        "",
        f"backend {name}:newer",
        f"    timeout server {service.stream_timeout_seconds}s",
        f"    server door unix@{name}.door send-proxy-v2",
    ]
    return "\n".join(lines) + "\n"


def _backend(service: Service, servers: Mapping[str, Server]) -> str:
    lines = [
        f"backend {service.name}",
        f"    timeout server {service.stream_timeout_seconds}s",
        "    option forwardfor",
        *_balance(service),
    ]
    if service.tokens is not None:
        # The gateway's secret is no business of the replica's.
        lines.append("    http-request del-header Authorization")
    lines += [
        "    default-server check inter 1s fastinter 200ms downinter 500ms fall 2 rise 1",
        "    default-server observe layer4 error-limit 3 on-error mark-down",
    ]
    lines += [_server_line(name, server) for name, server in servers.items()]
    return "\n".join(lines) + "\n"


def _balance(service: Service) -> List[str]:
    if service.policy in ("round_robin", "weighted"):
        return ["    balance roundrobin"]
    if service.policy == "sticky" and service.sticky_header:
        return [f"    balance hdr({service.sticky_header})", "    hash-type consistent"]
    if service.policy == "sticky":
        secure = " secure" if service.tls else ""
        return [
            "    balance leastconn",
            f"    cookie stix-{service.name} insert indirect nocache httponly dynamic{secure}",
            f"    dynamic-cookie-key {hashlib.sha256(service.name.encode()).hexdigest()[:16]}",
        ]
    return ["    balance leastconn"]


def _server_line(name: str, server: Server) -> str:
    host = f"[{server.address}]" if ":" in server.address else server.address
    state = "" if server.up else " disabled"
    return f"    server {name} {host}:{server.port} weight {server.weight}{state}"
