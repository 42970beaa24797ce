"""Homes of the embedded system: isolated, empty at first, and gone without a trace at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.embedded import EmbeddedHome


@pytest.fixture(scope="module")
def new_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., EmbeddedHome]]:
    """Makes homes; settings are environment variables of their commands."""
    made: list[EmbeddedHome] = []

    def make(**settings: str) -> EmbeddedHome:
        made.append(EmbeddedHome(tmp_path_factory.mktemp("stix") / "home", **settings))
        return made[-1]

    yield make
    failures = []
    for home in made:
        try:
            home.finish()
        except AssertionError as exc:
            failures.append(str(exc))
    assert not failures, "\n".join(failures)


@pytest.fixture(scope="module")
def home(new_home: Callable[..., EmbeddedHome]) -> EmbeddedHome:
    """One home, and so one server, for a whole module."""
    return new_home()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder that jobs write to, outside of every node."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder
