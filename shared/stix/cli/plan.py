"""``stix plan``: needs no account, no control plane and no network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from stix.cli.plan_output import plan_document, show_plan
from stix.cli.session import Session
from stix.cli.tables import output_option, print_json
from stix.cli.task_options import RESOURCE_FLAGS, read_task, task_options

if TYPE_CHECKING:
    from stix.catalog.index import CatalogIndex
    from stix.optimizer.plan import Plan
    from stix.optimizer.request import Request

__all__ = ["plan_command"]

_TOP = 10
_ARCHITECTURES = {"any": "", "x86_64": "x86_64", "arm64": "arm64"}


@click.command("plan", short_help="Show where a task would run best, and what it costs.")
@click.argument("entrypoint", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--objective",
    type=click.Choice(["cost", "time", "balanced"]),
    help="What is best; else what the task says, else cost.",
)
@click.option("--top", type=click.IntRange(1, 200), default=_TOP, show_default=True, help="How many places.")
@click.option(
    "--arch",
    type=click.Choice(list(_ARCHITECTURES)),
    default="any",
    show_default=True,
    help="Architecture of the machines.",
)
@task_options
@output_option
@click.pass_obj
def plan_command(
    session: Session,
    /,
    entrypoint: tuple[str, ...],
    objective: str | None,
    top: int,
    arch: str,
    output: str,
    **flags: Any,
) -> None:
    """Show the best places for a task on every cloud of the catalog: a YAML file, or flags alone.

    A file of several tasks is planned as a whole, with the data between them.
    """
    from stix.catalog.snapshot import active_catalog
    from stix.cli.prices import prices_document

    request = _request(entrypoint, flags, session, _ARCHITECTURES[arch], objective)
    active = active_catalog(session.home)
    index = active.open()
    try:
        plan = _plan(request, index, session.now())
        prices = prices_document(active, index, session.now())
        if output == "json":
            print_json(session, plan_document(plan, index, top, prices))
        else:
            show_plan(session, plan, request, index, top, prices)
    finally:
        index.close()


def _request(
    entrypoint: tuple[str, ...], flags: dict[str, Any], session: Session, arch: str, objective: Any
) -> Request:
    from stix.optimizer.from_model import request_of_dag, request_of_task

    now = session.now()
    if len(entrypoint) == 1 and entrypoint[0].lower().endswith((".yaml", ".yml")):
        from stix.model.dag import Dag

        dag = Dag.from_yaml(entrypoint[0])
        if len(dag) > 1:
            given = {field: flags[field] for field in RESOURCE_FLAGS}
            dag.tasks[:] = [
                task.with_overrides(num_nodes=flags["num_nodes"], resources=given) for task in dag.tasks
            ]
            return request_of_dag(dag, now=now, arch=arch, objective=objective)
    task = read_task(entrypoint, flags, session.environ)
    return request_of_task(task, now=now, arch=arch, objective=objective)


def _plan(request: Request, index: CatalogIndex, now: float) -> Plan:
    from stix.catalog.planner import priced_plan

    return priced_plan(request, index, now=now)
