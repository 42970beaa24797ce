"""Which control plane a client talks to: the environment's, the one logged in to, else the embedded one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from stix.sdk.errors import NotConfiguredError

__all__ = [
    "Discovery",
    "Endpoint",
    "home_directory",
    "is_loopback",
    "remove_login",
    "save_login",
    "valid_url",
]

# What the embedded server imports beyond the base installation.
_LOCAL_EXTRA = ("uvicorn", "httptools", "aws_lambda_powertools")
Source = Literal["given", "environment", "login", "embedded"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Base URL without a trailing slash, and the bearer token for it."""

    url: str
    token: str = field(repr=False, default="")
    source: Source = "given"


def home_directory(environ: Mapping[str, str]) -> Path:
    """``STIX_HOME``, else ``~/.stix``. Not created here."""
    return Path(environ.get("STIX_HOME") or "~/.stix").expanduser()


def is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host in {"localhost", "::1"} or host.startswith("127.")


def valid_url(url: str, where: str) -> str:
    """The URL without its trailing slash. Raises ``NotConfiguredError`` naming ``where`` it came from."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise NotConfiguredError(
            f"{where} is {url!r}, which is not the address of a control plane.",
            "Write it as https://HOST or http://HOST:PORT.",
        )
    return url.rstrip("/")


def save_login(home: Path, url: str, token: str) -> Path:
    """Remember a deployed control plane; the file is readable by its owner only."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = home / "endpoint.json"
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
        json.dump({"url": url, "token": token}, out)
    os.replace(fresh, path)
    return path


def remove_login(home: Path) -> bool:
    """True when there was a login to remove."""
    try:
        (home / "endpoint.json").unlink()
    except FileNotFoundError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Discovery:
    """Finds the endpoint. ``on_start`` is called before the embedded control plane is started."""

    environ: Mapping[str, str]
    on_start: Callable[[], None] = lambda: None

    @property
    def home(self) -> Path:
        return home_directory(self.environ)

    def find(self, *, start: bool) -> Endpoint | None:
        """The endpoint; with ``start`` an embedded one is started where none runs, and one that is older than
        this package is replaced; else None is the answer."""
        return self.configured() or (self.start() if start else self.running())

    def configured(self) -> Endpoint | None:
        """The endpoint from the environment or from a login."""
        url = self.environ.get("STIX_API_URL", "")
        token = self.environ.get("STIX_API_TOKEN", "")
        if url:
            if not token:
                raise NotConfiguredError(
                    "STIX_API_URL is set, but STIX_API_TOKEN is not.", "Set both or neither."
                )
            return Endpoint(valid_url(url, "STIX_API_URL"), token, "environment")
        path = self.home / "endpoint.json"
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            return Endpoint(valid_url(str(stored["url"]), str(path)), str(stored["token"]), "login")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, KeyError, TypeError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else "it is not what `stix api login` writes"
            raise NotConfiguredError(
                f"{path} cannot be read: {reason}.",
                "Log in again with `stix api login`, or remove it with `stix api logout`.",
            ) from exc

    def running(self) -> Endpoint | None:
        """The embedded control plane where one runs already; nothing is started."""
        if not (self.home / "server.json").exists():
            return None
        return _embedded(self.daemon().read_endpoint(self.home))

    def start(self, port: int | None = None, public_url: str | None = None) -> Endpoint:
        """Start the embedded control plane, or find the running one. Raises ``NotConfiguredError`` without
        the ``local`` extra, and what ``stix.local.daemon.ensure_running`` raises."""
        daemon = self.daemon()
        if self.running() is None:
            for module in _LOCAL_EXTRA:
                if find_spec(module) is None:
                    raise _extra_missing(module)
            self.on_start()
        options = {"public_url": public_url} if public_url else {}
        started = _embedded(daemon.ensure_running(self.home, port, **options))
        assert started is not None
        return started

    def again(self, start: bool) -> Endpoint | None:
        """Look once more after a refused connection: the embedded server may have come back on another
        port."""
        if self.configured() is not None:
            return None
        return self.start() if start else self.running()

    @staticmethod
    def daemon() -> Any:
        """``stix.local.daemon``, imported only when it is needed."""
        try:
            return import_module("stix.local.daemon")
        except ImportError as exc:
            raise _extra_missing(exc.name or str(exc)) from exc


def _embedded(found: Any) -> Endpoint | None:
    return Endpoint(found.url.rstrip("/"), found.token, "embedded") if found else None


def _extra_missing(module: str) -> NotConfiguredError:
    return NotConfiguredError(
        f"The local control plane is not installed (there is no {module}).",
        "Install it with: pip install 'stix-cloud[local]'. For a deployed one use `stix api login`.",
    )
