"""The table's view of machines, made again from what their providers say: after a restore, or a roll-back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from stix.application.jobs import counter_key
from stix.application.ledger import open_entry
from stix.application.machine_tags import TaggedGang, read_tags
from stix.application.places import place_of, used_places
from stix.application.records import cluster_by_name, cluster_key, intent_key, load, name_held_by, put
from stix.application.sweep_guard import arm, change_guard, read_guard
from stix.application.tokens import UserPrincipal, hash_token
from stix.application.world import World
from stix.model.cluster import Cluster, Intent, Lifetime, Node
from stix.model.errors import InvalidInputError
from stix.model.status import ClusterStatus, IntentStatus, NodeStatus, Wanted
from stix.ports.compute import Machine, MachineState, Place
from stix.ports.state_store import Item, Put, VersionConflictError
from stix.ports.surroundings import Event

__all__ = ["adopt_place", "guard_view", "start_rebuild"]

_WAITING = -1
_SOON_SECONDS = 5.0
_JOBS_FROM = 100_000


def start_rebuild(world: World, who: UserPrincipal, extra: Sequence[str]) -> dict[str, Any]:
    """Visit every place that was ever used, and ``extra`` ones; the body of ``Rebuild``.

    Until each of them has been visited, no machine is called unknown. Raises ``InvalidInputError``.
    """
    places = {f"{place.cloud}/{place.region}" for place in used_places(world)}
    places |= {_checked(world, text) for text in extra}
    now = world.clock.now()

    waiting = dict.fromkeys(sorted(places), _WAITING)
    change_guard(world, lambda _: {"reason": "a rebuild is under way", "places": waiting, "clusters": []})
    world.events.publish(Event("RebuildBegan", who.workspace, "rebuild", now, {"user": who.user}))
    if places:
        world.workflows.start("sweep", f"rebuild-{int(now * 1000)}", {"mode": "rebuild"})
    else:
        arm(world)
    return guard_view(world)


def guard_view(world: World) -> dict[str, Any]:
    """Whether machines may be called unknown, and how far a rebuild has come: the body of ``Rebuild``."""
    guard = read_guard(world)
    visited: Mapping[str, int] = guard["places"]
    return {
        "armed": not guard["reason"],
        "reason": guard["reason"],
        "waiting": [place for place, adopted in visited.items() if adopted == _WAITING],
        "visited": [place for place, adopted in visited.items() if adopted != _WAITING],
        "clusters": guard["clusters"],
    }


def adopt_place(world: World, cloud: str, region: str) -> dict[str, Any]:
    """Write down the clusters whose machines the table does not know. Idempotent.

    With the last place of the rebuild the orphan sweep is armed again; what carries this deployment's tag and
    tells of no cluster, or of one that has ended, is an orphan then.
    """
    place = Place(cloud, region)
    machines = list(world.compute[cloud].list_tagged(place, world.deployment))
    gangs: dict[str, list[tuple[TaggedGang, Machine]]] = defaultdict(list)
    for machine in machines:
        story = read_tags(machine, place)
        if story is not None:
            gangs[story.token].append((story, machine))
    # Ranks whose first machines were replaced, by cluster: the others are those of the first creation.
    replaced: dict[str, set[int]] = defaultdict(set)
    for gang in gangs.values():
        replaced[gang[0][0].cluster_id].update(gang[0][0].ranks)
    adopted = [
        name for gang in gangs.values() if (name := _adopt(world, gang, replaced[gang[0][0].cluster_id]))
    ]
    left: list[int] = []

    def change(guard: dict[str, Any]) -> dict[str, Any] | None:
        if f"{cloud}/{region}" not in guard["places"]:
            return None
        places = {**guard["places"], f"{cloud}/{region}": len(adopted)}
        left[:] = [count for count in places.values() if count == _WAITING]
        names = [*guard["clusters"], *(name for name in adopted if name not in guard["clusters"])]
        return {**guard, "places": places, "clusters": names}

    if change_guard(world, change) and not left:
        arm(world)
    return {"marked": 0, "ended": 0, "machines": len(machines), "adopted": len(adopted)}


def _adopt(world: World, gang: Sequence[tuple[TaggedGang, Machine]], replaced: Collection[int]) -> str:
    """The name of the cluster that was written; empty where the table knows the creation or its end.
    ``replaced``: the ranks that other creations of the cluster name."""
    story = gang[0][0]
    key = cluster_key(story.workspace, story.cluster_id)
    creation = intent_key(story.workspace, story.cluster_id, story.attempt)
    item, intent_item = world.store.get_many([key, creation])
    if intent_item is not None or (item is not None and load(Cluster, item).ended):
        return ""
    now = world.clock.now()
    machines = sorted((machine for _, machine in gang), key=lambda machine: machine.id)
    stopped = all(machine.state in (MachineState.STOPPING, MachineState.STOPPED) for machine in machines)
    lifetime = None if story.delete_at is None else Lifetime(max_lifetime=max(0.0, story.delete_at - now))
    found = Cluster(
        workspace=story.workspace,
        id=story.cluster_id,
        name=_free_name(world, story),
        status=ClusterStatus.STOPPED if stopped else ClusterStatus.INIT,
        wanted=Wanted.STOPPED if stopped else Wanted.UP,
        reason="found by a rebuild",
        since=now,
        created_at=now,
        due_at=now + _SOON_SECONDS,
        user=story.user,
        num_nodes=story.num_nodes,
        offer=story.offer,
        attempt=story.attempt,
        autostop=story.autostop,
        lifetime=lifetime,
        cluster_key=hash_token(world.ids.secret()),
    )
    if item is not None:
        # An earlier attempt of it is known: it goes on with the one that made these machines.
        known = load(Cluster, item)
        found = known.changed(
            status=found.status,
            wanted=found.wanted,
            reason=found.reason,
            since=now,
            due_at=found.due_at,
            offer=story.offer,
            attempt=max(known.attempt, story.attempt),
        )
    ranks = story.ranks or tuple(rank for rank in range(story.num_nodes) if rank not in replaced)
    ranks = ranks[: len(machines)]
    intent = Intent(
        workspace=story.workspace,
        cluster_id=story.cluster_id,
        attempt=story.attempt,
        status=IntentStatus.CREATED,
        created_at=now,
        accepted_at=now,
        token=story.token,
        offer=story.offer,
        count=story.count,
        join_hash=story.join_hash,
        machine_ids=tuple(machine.id for machine in machines),
        ranks=ranks if replaced else (),
    )
    nodes = [
        Node(
            workspace=story.workspace,
            cluster_id=story.cluster_id,
            rank=rank,
            status=NodeStatus.STOPPED if stopped else NodeStatus.PENDING,
            reason="found by a rebuild",
            since=now,
            machine_id=machine.id,
            attempt=story.attempt,
            due_at=now + world.limits.launch_lease_seconds,
        )
        for rank, machine in zip(ranks, machines, strict=False)
    ]
    # What its head was told is forgotten here: neither a job's id nor a command's number may come again.
    counts = {"job": _JOBS_FROM, "seq": int(now)}
    counter = Put(Item(counter_key(story.workspace, story.cluster_id), counts), unconditional=True)
    pointer = name_held_by(world, story.workspace, found.name, found.id)
    nodes_put = [put(node, unconditional=True) for node in nodes]
    try:
        world.store.transact([put(found), put(intent), pointer, counter, *nodes_put])
    except VersionConflictError:
        return ""  # another run of this step wrote it
    open_entry(world, found, intent)
    return found.name


def _free_name(world: World, story: TaggedGang) -> str:
    holder = cluster_by_name(world, story.workspace, story.name)
    if holder is None or holder.ended or holder.id == story.cluster_id:
        return story.name
    return f"{story.name[:50]}-{story.cluster_id[-6:]}"


def _checked(world: World, text: str) -> str:
    place = place_of(text)
    if place is None:
        raise InvalidInputError(
            f"places: {text!r} is no place.", hint="Write CLOUD/REGION, as in aws/us-east-1."
        )
    if place.cloud not in world.clouds:
        raise InvalidInputError(
            f"places: {place.cloud} is not configured here.", hint="`stix check` shows the clouds."
        )
    return f"{place.cloud}/{place.region}"
