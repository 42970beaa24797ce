"""Which services of a view HAProxy can be given: one bad certificate or taken port must not stop the
others."""

from __future__ import annotations

import os
import socket
import ssl
from dataclasses import replace
from typing import Dict, Mapping, Optional, Tuple

from .files import write_text
from .render import certificate_file
from .view import Service, View


def admit(
    view: View, running: Mapping[str, Service], folder: str, bind: str
) -> Tuple[Dict[str, Service], Dict[str, str]]:
    """Services by name, and problems by name.

    A service whose new port or certificate will not do keeps the ones that it has in ``running``, or waits.
    """
    admitted: Dict[str, Service] = {}
    problems: Dict[str, str] = {}
    open_ports = {service.port for service in running.values()}
    for service in view.services:
        before = running.get(service.name)
        problem = None if service.port in open_ports else _port_problem(bind, service.port)
        if service.tls and not problem and (before is None or before.tls != service.tls):
            problem = _certificate_problem(service, folder)
        if problem:
            problems[service.name] = problem
            if before is None:
                continue
            service = replace(service, port=before.port, tls=before.tls)
        admitted[service.name] = service
    ports: Dict[int, str] = {}
    for name in sorted(admitted, key=lambda one: one in problems):
        if admitted[name].port in ports:
            problems[name] += f" Its old port is now that of {ports[admitted[name].port]}, so it is off."
            del admitted[name]
        else:
            ports[admitted[name].port] = name
    return admitted, problems


def _port_problem(bind: str, port: int) -> Optional[str]:
    host = "" if bind == "*" else bind
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as exc:
            return (
                f"Port {port} cannot be opened ({exc.strerror}). Free it, or give the service another port."
            )
    return None


def _certificate_problem(service: Service, folder: str) -> Optional[str]:
    assert service.tls is not None
    path = os.path.join(folder, certificate_file(service))
    write_text(path, f"{service.tls.certificate.strip()}\n{service.tls.key.strip()}\n")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path)
    except (ssl.SSLError, OSError) as exc:
        os.unlink(path)
        return f"Its certificate and key will not do ({exc}). Give PEM texts that belong together."
    return None
