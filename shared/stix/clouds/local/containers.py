"""What a machine leaves in a container engine when its folder is deleted."""

from __future__ import annotations

import json
import logging
import subprocess
from pathlib import Path

__all__ = ["remove_container"]

_RECORD = Path("agent", "container", "container.json")
_SECONDS = 60.0
_log = logging.getLogger(__name__)


def remove_container(folder: Path) -> None:
    """Removes the container that the machine's agent wrote down.

    The process that held it is gone, so it is ending; what runs inside gets the rest of its time. An engine
    that does not answer keeps a stopped container, which its own ``prune`` removes.
    """
    try:
        kept = json.loads((folder / _RECORD).read_bytes())
        for words in (("stop", "--time", "6"), ("rm", "--force")):
            done = subprocess.run(
                [kept["engine"], *words, kept["name"]],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_SECONDS,
                check=False,
            )
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError, subprocess.SubprocessError) as exc:
        _log.warning("A machine's container may be left", extra={"folder": str(folder), "error": str(exc)})
        return
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        _log.warning("A machine's container is left", extra={"container": kept["name"], "error": said})
