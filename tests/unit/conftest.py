"""Fixtures of the use cases' tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.world import ControlPlane


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[ControlPlane]:
    """A control plane over fakes of our own and a SQLite table."""
    made = ControlPlane(tmp_path)
    yield made
    made.close()
