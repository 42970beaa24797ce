"""The data path of services: HAProxy, kept as the control plane's view wants it.

    python -m stix.gateway --view FILE --state DIR

Standard library only and Python 3.8, since it runs beside the agent. Modules import each other relatively, so
that they work from an archive under any name. Nothing here talks to the control plane: the view comes in as a
file, what the replicas are doing goes out as another one (``status.json``).
"""

from __future__ import annotations

from .publish import publish_view, read_status
from .view import View, ViewError, parse_view

__all__ = ["View", "ViewError", "parse_view", "publish_view", "read_status"]
