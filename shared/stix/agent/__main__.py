"""``python -m stix.agent``: the development form of the zipapp."""

from __future__ import annotations

import sys

from .entry import main

sys.exit(main(sys.argv[1:]))
