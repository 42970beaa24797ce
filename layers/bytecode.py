"""Bytecode as Lambda's Python will run it: a deployed file system cannot be written, so each cold start of a
function without it would compile every module again.

Bytecode is the same for all processors, and belongs to one minor version of Python. The functions therefore
run on the version that builds them, where Lambda has it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["NOTE_WITHOUT", "RUNTIMES", "compile_tree", "is_compiled_here", "runtime"]

RUNTIMES = ("3.11", "3.12", "3.13", "3.14")
"""Of Lambda's versions of Python, those that the package runs on."""
_ELSE = "3.12"
_HERE = f"{sys.version_info.major}.{sys.version_info.minor}"

NOTE_WITHOUT = (
    f"Lambda has no Python {_HERE}: the functions get {_ELSE} and no bytecode, and each of their cold starts"
    f" takes a second longer. Deploy with Python {', '.join(RUNTIMES)} to avoid that."
)


def runtime() -> str:
    """The functions' version of Python, for example ``3.12``."""
    return _HERE if _HERE in RUNTIMES else _ELSE


def is_compiled_here() -> bool:
    """Whether this Python makes the bytecode of the functions' one."""
    return runtime() == _HERE


def compile_tree(tree: Path, shown: str, *, replace: bool = False) -> None:
    """Add the bytecode of all modules below ``tree``, which will be the folder ``shown``.

    The same bytes wherever and whenever it is done: a process of its own, sources in order, no times and no
    path of this machine in it. Python takes it without a look at the source (PEP 552, unchecked), which stays
    for tracebacks unless ``replace`` is given. Does nothing where Lambda lacks this Python.
    """
    if not is_compiled_here():
        return
    command = [sys.executable, "-s", "-S", "-m", "compileall", "-q", "-f", "-j", "1"]
    command += ["--invalidation-mode", "unchecked-hash", "-s", str(tree), "-p", shown]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    # Sets of constants would else be written in another order each time.
    environ["PYTHONHASHSEED"] = "0"
    subprocess.run([*command, *(["-b"] if replace else []), str(tree)], check=True, env=environ)
    if replace:
        for source in tree.rglob("*.py"):
            if source.with_suffix(".pyc").is_file():
                source.unlink()
