"""For all tests: property tests draw the same examples in every run (``make soak`` runs those that are marked
``property`` too, with new ones), and a process reads each of the AWS SDK's service descriptions once."""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Iterator

import botocore.session
import pytest
from hypothesis import is_hypothesis_test, settings

from stix.adapters.sqlite_database import SqliteDatabase
from tests.samples import FULL

# No test judges a time: a busy machine is no failure.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("new", deadline=None)
settings.load_profile("new" if FULL else "repeatable")

# EC2's alone is megabytes of JSON, and adapters, the SDK and moto have sessions of their own.
botocore.session.create_loader = functools.cache(botocore.session.create_loader)

_open_durably = SqliteDatabase._open


@functools.wraps(_open_durably)
def _open(self: SqliteDatabase) -> sqlite3.Connection:
    """What this process writes need not survive a power cut: tests would mostly wait for the disk. Processes
    that tests start, and kill, write as they always do."""
    connection = _open_durably(self)
    connection.execute("PRAGMA synchronous = OFF")
    return connection


SqliteDatabase._open = _open  # type: ignore[method-assign]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "property: draws examples; put on by itself, `make soak` draws more")


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    for item in items:
        if is_hypothesis_test(getattr(item, "obj", None)):
            item.add_marker("property")
    yield
    if config.getoption("loadgroup", False):
        for item in items:
            _name_group(item)


def _name_group(item: pytest.Item) -> None:
    """xdist tells a test's group by the end of its id, which its release 3.8 writes where pytest 9.2 does not
    read any more: tests of one group would run in several processes, each with fixtures of its own."""
    group = "_".join(sorted({str(mark.args[0]) for mark in item.iter_markers("xdist_group")}))
    if group and not item.nodeid.endswith(f"@{group}"):
        item._id = type(item._id).parse(f"{item.nodeid}@{group}")
