"""Stix runs AI and batch work on whichever cloud is cheapest and available.

The public names load on first use, so that ``import stix`` stays light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stix.model.dag import Dag
    from stix.model.resources import Resources
    from stix.model.storage import Storage
    from stix.model.task import Task

__all__ = ["Dag", "Resources", "Storage", "Task", "__version__"]

__version__ = "0.1.0"

_HOMES = {
    "Dag": "stix.model.dag",
    "Resources": "stix.model.resources",
    "Storage": "stix.model.storage",
    "Task": "stix.model.task",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'stix' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
