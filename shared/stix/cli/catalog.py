"""``stix catalog``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stix.cli.amounts import age, plural
from stix.cli.prices import prices_document
from stix.cli.session import Session
from stix.cli.tables import Column, output_option, print_json, table
from stix.model.errors import InvalidInputError

if TYPE_CHECKING:
    from stix.catalog.refresh import PartReport
    from stix.catalog.source import Source

__all__ = ["catalog_command"]

_CLOUDS = [
    Column("CLOUD"),
    Column("OFFERS", right=True),
    Column("REGIONS", right=True),
    Column("NEWEST", right=True),
    Column("OLDEST", right=True),
]


@click.group("catalog", short_help="The prices that plans are made with.")
def catalog_command() -> None:
    """The prices on this machine: those that came with Stix until you fetch or import others."""


@catalog_command.command("info")
@output_option
@click.pass_obj
def info_command(session: Session, output: str) -> None:
    """Show how many offers there are of each cloud, and how old their prices are."""
    from stix.catalog.snapshot import active_catalog

    active = active_catalog(session.home)
    index = active.open()
    try:
        clouds = index.clouds()
        prices = prices_document(active, index, session.now())
    finally:
        index.close()
    if output == "json":
        described = [
            {
                "cloud": cloud.cloud,
                "offers": cloud.offers,
                "regions": cloud.regions,
                "oldest": cloud.oldest,
                "newest": cloud.newest,
            }
            for cloud in clouds
        ]
        print_json(session, {"path": str(active.path), "clouds": described, "prices": prices})
        return
    now = session.now()
    rows = [
        (cloud.cloud, str(cloud.offers), str(cloud.regions), age(now - cloud.newest), age(now - cloud.oldest))
        for cloud in clouds
    ]
    table(session, _CLOUDS, rows)
    total = plural(sum(cloud.offers for cloud in clouds), "offer")
    origin = "that came with Stix" if active.shipped else f"in {active.path}"
    session.note(f"{total} {origin}. `stix catalog refresh` fetches new prices.")


@catalog_command.command("import")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIR")
@click.pass_obj
def import_command(session: Session, folder: Path) -> None:
    """Take over the catalog in DIR: SkyPilot's format, one CLOUD/vms.csv per cloud. These clouds' offers are
    replaced, the others stay."""
    from stix.catalog.csv_import import import_folder
    from stix.catalog.own_rows import replace_clouds

    clouds = import_folder(folder)
    for cloud in clouds:
        if not cloud.rows:
            raise InvalidInputError(f"{folder}/{cloud.cloud}/vms.csv has no offer that can be used.")
    total = replace_clouds(session.home, {cloud.cloud: cloud.rows for cloud in clouds})
    for cloud in clouds:
        session.say(f"{cloud.cloud}: {plural(len(cloud.rows), 'offer')}{_left_out(dict(cloud.left_out))}")
    session.note(f"The catalog has {plural(total, 'offer')} now.")


@catalog_command.command("refresh")
@click.argument("clouds", nargs=-1, metavar="[CLOUD]...")
@click.option("--allow-shrink", is_flag=True, help="Accept a price list that lost over 30 % of its offers.")
@output_option
@click.pass_obj
def refresh_command(session: Session, clouds: tuple[str, ...], allow_shrink: bool, output: str) -> None:
    """Fetch prices from the clouds themselves, by default from all whose credentials are in the environment.
    What cannot be fetched keeps its prices and their age. Exit code 1 when nothing could be fetched."""
    from stix.catalog.own_rows import refresh_clouds

    sources = _sources(session, clouds)

    def tell(report: PartReport) -> None:
        name = f"{report.cloud}/{report.part}" if report.part else report.cloud
        result = f"not fetched: {report.error}" if report.error else plural(report.rows, "offer")
        session.note(f"{name}: {result}{'' if report.error else _left_out(dict(report.left_out))}")

    reports, total = refresh_clouds(session.home, sources, allow_shrink=allow_shrink, progress=tell)
    failed = [report for report in reports if report.error]
    if output == "json":
        parts = [
            {"cloud": report.cloud, "part": report.part, "offers": report.rows, "error": report.error}
            for report in reports
        ]
        print_json(session, {"parts": parts, "offers": total})
    else:
        fetched = plural(len(reports) - len(failed), "part")
        session.say(f"{fetched} of {len(reports)} fetched; {plural(total, 'offer')} now.")
    if len(failed) == len(reports):
        raise click.exceptions.Exit(1)


def _sources(session: Session, clouds: tuple[str, ...]) -> list[Source]:
    """Those that were named, or all that have credentials. Raises ``InvalidInputError``."""
    import random
    import time

    from stix.control_plane import open_control_plane

    open_control_plane(session.home)  # which has the fetchers
    from stix.catalog.fetchers.registry import CLOUDS, make_client, missing, sources
    from stix.catalog.snapshot import snapshot_rows

    unknown = [cloud for cloud in clouds if cloud not in CLOUDS]
    if unknown:
        raise InvalidInputError(
            f"Prices of {', '.join(unknown)} cannot be fetched.", hint=f"Known are: {', '.join(CLOUDS)}."
        )
    for cloud in clouds or CLOUDS:
        lacking = missing(cloud, session.environ)
        if lacking and cloud in clouds:
            raise InvalidInputError(
                f"{cloud} shows its prices only with credentials.", hint=f"Set {', '.join(lacking)}."
            )
        if lacking:
            session.note(
                f"{cloud}: left out, {', '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} not set"
            )
    found: dict[str, Any] = sources(
        session.environ,
        client=lambda cloud: make_client(cloud, session.environ),
        sleep=time.sleep,
        random=random.random,
        now=session.now,
        published=snapshot_rows(),
    )
    return [found[cloud] for cloud in clouds or found]


def _left_out(reasons: dict[str, int]) -> str:
    if not reasons:
        return ""
    return f" (left out: {', '.join(f'{count} {reason}' for reason, count in sorted(reasons.items()))})"
