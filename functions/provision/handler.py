"""Worker: everything that talks to a cloud."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from stix.application import (
    create_machines,
    join_nodes,
    lost_machines,
    settle_cluster,
    sweep_orphans,
    undo_attempt,
)
from stix.application.world import World
from stix.runtime.dispatch import Action, dispatch
from stix.runtime.metrics import ORPHAN_SECONDS, write_seconds

logger = Logger(service="provision")


def _of_cluster(use_case: Callable[[World, str, str], dict[str, Any]]) -> Action:
    return lambda world, event: use_case(world, event["cluster"]["workspace"], event["cluster"]["id"])


def _sweep_place(world: World, event: Mapping[str, Any]) -> dict[str, Any]:
    result = sweep_orphans.sweep_place(
        world, event["place"]["cloud"], event["place"]["region"], event["mode"]
    )
    if result.get("orphan_seconds"):
        write_seconds(world, ORPHAN_SECONDS, result["orphan_seconds"])
    return result


ACTIONS: dict[str, Action] = {
    "create": _of_cluster(create_machines.create),
    "await_join": lambda w, e: join_nodes.await_join(
        w, e["cluster"]["workspace"], e["cluster"]["id"], e["token"]
    ),
    "look": _of_cluster(lost_machines.look),
    "hand_over": _of_cluster(join_nodes.hand_over),
    "undo": lambda w, e: undo_attempt.undo(
        w, e["cluster"]["workspace"], e["cluster"]["id"], e["failure"], attempt=e["attempt"]
    ),
    "abandon": lambda w, e: undo_attempt.abandon(
        w, e["cluster"]["workspace"], e["cluster"]["id"], e["failure"]
    ),
    "give_up": _of_cluster(undo_attempt.give_up),
    "settle": _of_cluster(settle_cluster.settle),
    "confirm": _of_cluster(settle_cluster.confirm),
    "sweep_place": _sweep_place,
}


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """One step of the launch, terminate or sweep machine."""
    return dispatch(ACTIONS, event, logger)
