"""Cluster names and patterns as people type them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import click

from stix.sdk.errors import SdkError
from stix.sdk.responses import Cluster

if TYPE_CHECKING:
    from stix.sdk.client import Client

__all__ = ["check_choice", "choose", "matching"]


def _is_pattern(name: str) -> bool:
    return any(sign in name for sign in "*?[")


def matching(
    client: Client, names: Sequence[str], *, verbose: bool = False
) -> tuple[list[Cluster], list[str]]:
    """The clusters that the names and patterns mean (all without any), and the names that mean none."""
    patterns = any(_is_pattern(name) for name in names)
    found = [
        cluster
        for cluster in client.clusters(() if patterns else names, verbose=verbose)
        if not names or any(fnmatchcase(cluster["name"], name) for name in names)
    ]
    known = [cluster["name"] for cluster in found]
    return found, [name for name in names if not any(fnmatchcase(other, name) for other in known)]


def check_choice(names: Sequence[str], everything: bool) -> None:
    """Either names or ``--all``; to be asked before a control plane is started for nothing. Raises
    ``click.UsageError``."""
    if everything == bool(names):
        raise click.UsageError("Name the clusters (patterns such as 'dev-*' work), or give --all, not both.")


def choose(
    client: Client,
    names: Sequence[str],
    everything: bool,
    applies: Callable[[Cluster], bool] = lambda cluster: True,
) -> list[str]:
    """The clusters to act on. Of ``--all`` and of patterns only those that it ``applies`` to and that are no
    managed job's; a name that was written out is always meant. Raises ``SdkError`` 404."""
    if names and not any(_is_pattern(name) for name in names):
        return list(dict.fromkeys(names))
    found, missing = matching(client, names)
    if missing:
        raise SdkError(
            "not_found", f"No cluster matches {', '.join(missing)}.", "`stix status` lists them.", 404
        )
    return [
        cluster["name"]
        for cluster in found
        if (applies(cluster) and not cluster.get("owner")) or cluster["name"] in names
    ]
