"""From a checked task to a request: local files are packed and sent first, if the store does not hold
them yet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stix.model.errors import InvalidInputError
from stix.model.problems import Problem, task_error
from stix.model.runnable import check_runnable
from stix.model.task import Task
from stix.sdk.client import Client
from stix.sdk.errors import LinkExpiredError
from stix.sdk.packing import pack

__all__ = ["service_fields", "task_fields", "upload_service", "upload_task"]

Report = Callable[[str], None]
_SHOWN_FROM = 8 * 1024 * 1024


def task_fields(task: Task, *, follow: bool = False, managed: bool = False) -> dict[str, Any]:
    """The request's part that is the task alone, enough to ask for a plan. Raises ``InvalidInputError`` where
    a local path does not exist, and ``TaskError`` for what cannot be launched, or (``managed``) run as a
    managed job, yet."""
    check_runnable(task, managed=managed)
    for field, source in _local_paths(task):
        if not Path(source).expanduser().exists():
            raise InvalidInputError(
                f"{field}: {source!r} does not exist on this machine.",
                hint=f"Relative paths begin at the current folder, {Path.cwd()}.",
            )
    return {"task": task.to_yaml_config(), "secrets": task.secret_values(), "follow": follow}


def upload_task(
    client: Client, task: Task, report: Report, *, follow: bool, managed: bool = False
) -> dict[str, Any]:
    """The whole task request, with its files in the store. Raises ``InvalidInputError``, ``SdkError``."""
    request = task_fields(task, follow=follow, managed=managed)
    if isinstance(task.workdir, str):
        request["workdir"] = _upload(client, task.workdir, "", "workdir", report)
    if mounts := task.local_mounts():
        request["file_mounts"] = [
            _upload(client, source, target, f"file_mounts.{target}", report)
            for target, source in mounts.items()
        ]
    return request


def upload_service(client: Client, task: Task, report: Report) -> dict[str, Any]:
    """The whole request of a task with a ``service:``, with its files in the store and those of its ``tls``
    beside it. Raises ``InvalidInputError``, ``SdkError``."""
    fields, bare = service_fields(task)
    request = upload_task(client, bare, report, follow=False, managed=True)
    return {**request, **fields, "task": {**request["task"], **fields["task"]}}


def service_fields(task: Task) -> tuple[dict[str, Any], Task]:
    """The request's part that is the service, and the task without it. Raises ``TaskError`` for a task that
    has none, and ``InvalidInputError`` for a file of ``tls`` that cannot be read."""
    spec = task.service
    if spec is None:
        text = "there is none, and `serve` needs it."
        raise task_error([Problem(("service",), text, "Add service: with readiness_probe: and replicas:.")])
    bare = Task.from_yaml_config(
        {name: value for name, value in task.to_yaml_config(reveal_secrets=True).items() if name != "service"}
    )
    check_runnable(bare, managed=True, verb="serve up")
    fields: dict[str, Any] = {"task": {"service": spec.to_config()}}
    if spec.tls is not None:
        files = {"certificate": ("certfile", spec.tls.certfile), "key": ("keyfile", spec.tls.keyfile)}
        fields["tls"] = {name: _read_pem(*where) for name, where in files.items()}
    return fields, bare


def _read_pem(field: str, path: str) -> str:
    try:
        text = Path(path).expanduser().read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not PEM text"
        raise InvalidInputError(
            f"service.tls.{field}: {path!r} cannot be read: {reason}.",
            hint="Name a PEM file of this machine.",
        ) from None
    if "-----BEGIN" not in text:
        raise InvalidInputError(
            f"service.tls.{field}: {path!r} is not a PEM file.", hint="It begins with -----BEGIN."
        )
    return text


def _local_paths(task: Task) -> list[tuple[str, str]]:
    paths = [(f"file_mounts.{target}", source) for target, source in task.local_mounts().items()]
    return [("workdir", task.workdir), *paths] if isinstance(task.workdir, str) else paths


def _upload(client: Client, source: str, target: str, field: str, report: Report) -> dict[str, Any]:
    path = Path(source).expanduser()
    with TemporaryDirectory(prefix="stix-pack-") as folder:
        packed = pack(path, field=field, into=folder)
        for warning in packed.warnings:
            report(f"{field}: {warning}")
        _send(client, packed.path, packed.sha256, packed.size, field, report)
        return {
            "dst": target,
            "sha256": packed.sha256,
            "size": packed.size,
            "kind": "dir" if path.is_dir() else "file",
        }


def _send(client: Client, path: Path, sha256: str, size: int, field: str, report: Report) -> None:
    for attempt in range(3):
        target = client.announce_upload(sha256, size)
        url = target["url"]
        if url is None:
            return
        sent = _Sent(field, size, report)
        try:
            client.objects.put_file(url, target["headers"], path, method=target["method"], progress=sent.add)
        except LinkExpiredError:
            if attempt == 2:
                raise
        else:
            sent.finish()
            return


class _Sent:
    """Reports large uploads at every tenth of their size."""

    def __init__(self, field: str, size: int, report: Report):
        self._field, self._size, self._report = field, size, report
        self._done = 0
        self._tenths = 0

    def add(self, count: int) -> None:
        self._done += count
        tenths = self._done * 10 // max(1, self._size)
        if self._size >= _SHOWN_FROM and self._tenths < tenths < 10:
            self._report(f"Uploading {self._field}: {tenths * 10} % of {mebibytes(self._size)}")
            self._tenths = tenths

    def finish(self) -> None:
        self._report(f"Uploaded {self._field} ({mebibytes(self._size)})")


def mebibytes(size: int) -> str:
    """Sizes as people read them."""
    return f"{size / 1024**2:.1f} MiB" if size >= 1024**2 / 10 else f"{size / 1024:.1f} KiB"
