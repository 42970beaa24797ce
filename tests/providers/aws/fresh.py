"""moto's state belongs to the process: what an earlier test of it made is there, unless it is forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from moto import mock_aws
from moto.moto_api._internal import moto_api_backend

__all__ = ["fresh_aws"]


@contextmanager
def fresh_aws() -> Iterator[None]:
    """moto inside this process, with nothing in it. ``mock_aws`` alone keeps what there is where another one
    is under way, as a fixture of a whole session's is."""
    with mock_aws():
        moto_api_backend.reset()
        yield
        moto_api_backend.reset()
