"""The agent's own log: ``agent.log`` in its state folder, two files of 1 MB."""

from __future__ import annotations

import logging
import os

_LIMIT = 1_000_000
_FIELDS = ("job", "rank", "detail")


class RotatingFile(logging.Handler):
    """Like the standard library's, without what it imports: an idle agent has to stay small."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path
        self._stream = open(path, "a", encoding="utf-8")  # noqa: SIM115 - lives as long as the process
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            fields = "".join(
                f" {name}={record.__dict__[name]!r}" for name in _FIELDS if name in record.__dict__
            )
            text = self.format(record)
            head, newline, rest = text.partition("\n")
            self._stream.write(f"{head}{fields}{newline}{rest}\n")
            self._stream.flush()
            if self._stream.tell() > _LIMIT:
                self._stream.close()
                os.replace(self._path, self._path + ".1")
                self._stream = open(self._path, "a", encoding="utf-8")  # noqa: SIM115
        except (OSError, ValueError):
            return  # A full disk must not take the agent down; the journal is the least of it.


def start_journal(state_dir: str) -> None:
    root = logging.getLogger("stix.agent")
    root.setLevel(logging.INFO)
    root.propagate = False
    root.addHandler(RotatingFile(os.path.join(state_dir, "agent.log")))
