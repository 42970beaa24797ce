"""For all tests: property tests draw the same examples in every run (``make soak`` runs those that are marked
``property`` too, with new ones), and a process reads each of the AWS SDK's service descriptions once."""

from __future__ import annotations

import functools
import sqlite3

import botocore.session
import pytest
from hypothesis import is_hypothesis_test, settings

from stix.adapters.sqlite_database import SqliteDatabase
from tests.samples import FULL

settings.register_profile("repeatable", derandomize=True)
if not FULL:
    settings.load_profile("repeatable")

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


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if is_hypothesis_test(getattr(item, "obj", None)):
            item.add_marker("property")
