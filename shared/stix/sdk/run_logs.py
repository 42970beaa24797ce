"""Reading the log of one run of a managed job, also after its machines are gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stix.sdk.log_stream import LogReader
from stix.sdk.responses import LogPage

if TYPE_CHECKING:
    from stix.sdk.client import Client

__all__ = ["RunLogReader"]


class RunLogReader(LogReader):
    """Reads the log of run ``run`` of the managed job ``number``. ``rank`` narrows it to one node."""

    def __init__(self, client: Client, number: int, run: int, *, rank: int | None = None) -> None:
        super().__init__(client, "", run, rank=rank)
        self._number, self._run = number, run

    def page(
        self, cursor: str, *, follow: bool = False, hold: bool = False, rank: int | None = None
    ) -> LogPage:
        rank = self.rank if rank is None else rank
        return self.client.run_log_page(
            self._number, self._run, cursor=cursor, follow=follow, hold=hold, rank=rank
        )
