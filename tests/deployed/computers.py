"""What an emulated account's computers share: names that lead to this machine, a clock, and whom they trust.

Functions, machines and people's commands are processes of this machine. Each runs a Python that asks a file
for addresses, as it would ask a name server, and whose clock the test can move, for all of them together.
"""

from __future__ import annotations

import time
import venv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import files
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

__all__ = ["Computer", "Computers"]

_WORLD = """
import os, socket, time

HOSTS, CLOCK = {hosts!r}, {clock!r}
_getaddrinfo, _time, _time_ns = socket.getaddrinfo, time.time, time.time_ns


def _read(path):
    with open(path) as file:
        return file.read()


def getaddrinfo(host, port, *more, **named):
    host = host.decode() if isinstance(host, bytes) else host
    for line in _read(HOSTS).splitlines():
        name, address, there = line.split()
        if name == host:
            return _getaddrinfo(address, int(there), *more, **named)
    if host and host != "localhost" and not host.startswith("127."):
        raise socket.gaierror(socket.EAI_NONAME, "there is no way out of the emulated account: %s" % host)
    return _getaddrinfo(host, port, *more, **named)


socket.getaddrinfo = getaddrinfo
time.time = lambda: _time() + float(_read(CLOCK))
time.time_ns = lambda: _time_ns() + int(float(_read(CLOCK)) * 1e9)
"""


@dataclass(frozen=True, slots=True)
class Computer:
    """A Python of its own: ``bin`` goes first on a ``PATH``."""

    python: Path

    @property
    def bin(self) -> Path:
        return self.python.parent


class Computers:
    """Makes computers below ``folder``. ``certificate`` is the file that all of them trust: key and
    certificate of the server that answers for the host names that match ``pattern``."""

    def __init__(self, folder: Path, pattern: str) -> None:
        self._folder = folder
        folder.mkdir(parents=True)
        self._hosts, self._clock = folder / "hosts", folder / "clock"
        self._hosts.write_text("")
        self._clock.write_text("0")
        self._world = folder / "world"
        self._world.mkdir()
        text = _WORLD.format(hosts=str(self._hosts), clock=str(self._clock))
        # Found by any Python that has the folder on its PYTHONPATH.
        (self._world / "sitecustomize.py").write_text(text)
        self.certificate = folder / "certificate.pem"
        self.certificate.write_bytes(_certificate(pattern))

    @property
    def environ(self) -> Mapping[str, str]:
        """For every process: where the certificate is."""
        return {"SSL_CERT_FILE": str(self.certificate), "AWS_CA_BUNDLE": str(self.certificate)}

    @property
    def pythonpath(self) -> str:
        """Makes an installed program's Python one of ours."""
        return str(self._world)

    def make(self, name: str, distributions: Iterable[str] = ()) -> Computer:
        """A Python with these distributions of the running one, and nothing else installed."""
        folder = self._folder / name
        venv.create(folder, with_pip=False, symlinks=True)
        (packages,) = folder.glob("lib/python3*/site-packages")
        (packages / "world_of_test.py").write_text((self._world / "sitecustomize.py").read_text())
        # Unlike a sitecustomize it cannot be hidden by the operating system's.
        (packages / "world_of_test.pth").write_text("import world_of_test\n")
        for distribution in distributions:
            for top in _tops(distribution):
                if not (packages / top.name).exists():
                    (packages / top.name).symlink_to(top)
        return Computer(folder / "bin" / "python3")

    def name(self, host: str, port: int) -> None:
        """From now on ``host`` is this machine's ``port``, whichever port is asked for."""
        with self._hosts.open("a") as file:
            file.write(f"{host} 127.0.0.1 {port}\n")

    def now(self) -> float:
        return time.time() + float(self._clock.read_text())

    def advance(self, seconds: float) -> None:
        """Every computer's clock is ``seconds`` further, at once."""
        fresh = self._clock.with_suffix(".new")
        fresh.write_text(repr(float(self._clock.read_text()) + seconds))
        fresh.replace(self._clock)


def _tops(distribution: str) -> set[Path]:
    """The folders and modules that a distribution put into site-packages."""
    found = set()
    for file in files(distribution) or ():
        top = file.parts[0]
        if top != ".." and not top.startswith("__pycache__"):
            found.add(Path(str(file.locate())).parents[len(file.parts) - 1] / top)
    return found


def _certificate(pattern: str) -> bytes:
    """A certificate that vouches for itself, for the host names that match, with its key."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Emulated account")])
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(pattern)]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + made.public_bytes(serialization.Encoding.PEM)
