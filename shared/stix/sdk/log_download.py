"""A job's log as files: the raw bytes of each stream of each rank."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from stix.sdk.logs import NOTE, SETUP_STDERR, SETUP_STDOUT, STDERR, STDOUT, Frame

__all__ = ["FileSink"]

_NAMES = {STDOUT: "stdout", STDERR: "stderr", SETUP_STDOUT: "setup", SETUP_STDERR: "setup", NOTE: "notes"}


class FileSink:
    """Writes ``rank-N/stdout``, ``stderr``, ``setup`` (both streams of the setup) and ``notes`` below
    ``folder``, replacing what was there. A stream that wrote nothing has no file, but stdout and stderr
    always exist."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._stack = ExitStack()
        self._files: dict[tuple[int, str], BinaryIO] = {}

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def ranks(self) -> list[int]:
        return sorted({rank for rank, _ in self._files})

    def write(self, rank: int, frame: Frame) -> None:
        name = _NAMES.get(frame.kind)
        if name is not None:
            self.open(rank, "stdout")
            self.open(rank, "stderr")
            self.open(rank, name).write(frame.payload)

    def flush(self) -> None:
        for file in self._files.values():
            file.flush()

    def open(self, rank: int, name: str) -> BinaryIO:
        """The file of a stream, made empty at the first use."""
        if (rank, name) not in self._files:
            path = self._folder / f"rank-{rank}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            self._files[rank, name] = self._stack.enter_context(path.open("wb"))
        return self._files[rank, name]
