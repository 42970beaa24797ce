"""stix-agent: runs on every node, joins its cluster, runs jobs and ships their logs.

Standard library only, Python 3.8 or newer, relative imports only: the package is shipped as one zipapp.
"""

from __future__ import annotations

AGENT_VERSION = "0.1.0"
PROTOCOL = 1
