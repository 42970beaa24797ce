"""For all tests: property tests draw the same examples in every run; ``make soak`` draws new ones."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True)
if not os.environ.get("STIX_TEST_NEW_EXAMPLES"):
    settings.load_profile("repeatable")
