"""What a refresh asks of a cloud's price fetcher."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from stix.catalog.row import CatalogRow
from stix.model.errors import UnavailableError

__all__ = ["WHOLE_CLOUD", "FetchError", "Fetched", "Source"]

WHOLE_CLOUD = ""
"""The one part of a cloud that is fetched at once; any other part is the name of a region."""


class FetchError(UnavailableError):
    """A price list could not be read in full: the previous rows stay."""

    default_code = "prices_unavailable"


@dataclass(frozen=True, slots=True)
class Fetched:
    """Valid rows, one per place and machine. ``left_out`` counts the others by reason."""

    rows: tuple[CatalogRow, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Source:
    """A cloud's prices.

    Attributes:
        parts: regions that are fetched each on its own, or ``WHOLE_CLOUD`` alone.
        fetch: the rows of one part. Both raise ``FetchError``, ``CredentialsError`` and ``ThrottledError``.
        moving: lists only what is free right now, so that its size says nothing about its health.
    """

    cloud: str
    parts: Callable[[], Sequence[str]]
    fetch: Callable[[str], Fetched]
    moving: bool = False
