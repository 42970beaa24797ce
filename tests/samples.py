"""How much a property test draws: `make test` takes a sample, `make soak` the full number."""

from __future__ import annotations

import os

__all__ = ["FULL", "examples"]

FULL = bool(os.environ.get("STIX_TEST_NEW_EXAMPLES"))
"""As `make soak` sets it: new examples, and as many as the test names."""


def examples(full: int) -> int:
    """``max_examples`` of a test whose full number is ``full``: a quarter of it in a sample."""
    return full if FULL else -(-full // 4)
