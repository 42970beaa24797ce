"""What every provider must do, whatever cloud it drives. A new cloud adds its world to ``_WORLDS``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stix.model.errors import InvalidRequestError, NoCapacityError, NotYetTerminatedError, ProviderError
from stix.ports.compute import Compute, DiscoversOffers, MachineState, StopsMachines
from tests.contract.compute_worlds import (
    ComputeWorld,
    LocalWorld,
    await_states,
    build_scripted_archive,
    states,
    until,
)


@pytest.fixture(scope="session")
def scripted_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_scripted_archive(tmp_path_factory.mktemp("agent") / "agent.pyz")


_WORLDS: dict[str, Callable[[Path, Path], ComputeWorld]] = {"local": LocalWorld}


@pytest.fixture(params=sorted(_WORLDS))
def world(request: pytest.FixtureRequest, tmp_path: Path, scripted_archive: Path) -> Iterator[ComputeWorld]:
    world = _WORLDS[request.param](tmp_path, scripted_archive)
    yield world
    world.close()


@pytest.fixture
def compute(world: ComputeWorld) -> Compute:
    return world.compute()


def _stopping(compute: Compute) -> StopsMachines:
    if not isinstance(compute, StopsMachines):
        pytest.skip(f"{compute.cloud} cannot stop machines")
    return compute


def _listed(compute: Compute, world: ComputeWorld, deployment: str = "dep") -> set[str]:
    return {machine.id for machine in compute.list_tagged(world.place, deployment)}


# --- create ---


def test_create_gives_as_many_machines_when_a_gang_is_asked(compute: Compute, world: ComputeWorld) -> None:
    ids = compute.create(world.request("a", 3))
    assert len(set(ids)) == 3
    await_states(compute, world, ids, MachineState.RUNNING)


def test_create_makes_one_gang_when_called_twice_with_one_token(
    compute: Compute, world: ComputeWorld
) -> None:
    first = compute.create(world.request("a", 2))
    assert compute.create(world.request("a", 2)) == first
    assert _listed(compute, world) == set(first)


def test_create_makes_one_gang_when_called_at_once_from_many_threads(world: ComputeWorld) -> None:
    adapters = [world.compute() for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        gangs = list(pool.map(lambda adapter: adapter.create(world.request("a", 2)), adapters))
    assert all(gang == gangs[0] for gang in gangs)
    assert _listed(adapters[0], world) == set(gangs[0])


def test_create_makes_another_gang_when_the_token_differs(compute: Compute, world: ComputeWorld) -> None:
    assert set(compute.create(world.request("a"))).isdisjoint(compute.create(world.request("b")))


def test_create_makes_one_gang_when_the_control_plane_restarted(
    compute: Compute, world: ComputeWorld
) -> None:
    first = compute.create(world.request("a", 2))
    assert world.compute().create(world.request("a", 2)) == first


def test_create_refuses_when_the_token_was_used_for_another_gang(
    compute: Compute, world: ComputeWorld
) -> None:
    ids = compute.create(world.request("a", 2))
    with pytest.raises(InvalidRequestError, match="token"):
        compute.create(world.request("a", 3))
    assert _listed(compute, world) == set(ids)


def test_create_leaves_nothing_when_the_place_has_too_little(compute: Compute, world: ComputeWorld) -> None:
    with pytest.raises(NoCapacityError):
        compute.create(world.greedy_request("a"))
    assert _listed(compute, world) == set()


def test_create_refuses_when_the_offer_is_of_another_cloud(compute: Compute, world: ComputeWorld) -> None:
    with pytest.raises(InvalidRequestError):
        compute.create(world.request("a", cloud="elsewhere"))


def test_create_refuses_when_no_machine_is_asked(compute: Compute, world: ComputeWorld) -> None:
    with pytest.raises(InvalidRequestError):
        compute.create(world.request("a", 0))


@pytest.mark.parametrize("index", [0, 1, 2])
def test_create_leaves_nothing_when_one_machine_fails(
    compute: Compute, world: ComputeWorld, index: int
) -> None:
    with (
        world.breaks_at(index, OSError(12, "Cannot allocate memory")),
        pytest.raises(ProviderError, match="memory"),
    ):
        compute.create(world.request("a", 3))
    until(lambda: not _listed(compute, world), "the other machines are gone")


def test_create_works_when_an_earlier_attempt_with_its_token_failed(
    compute: Compute, world: ComputeWorld
) -> None:
    with world.breaks_at(1, ProviderError("no")), pytest.raises(ProviderError):
        compute.create(world.request("a", 2))
    until(lambda: not _listed(compute, world), "the failed attempt is gone")
    ids = compute.create(world.request("a", 2))
    await_states(compute, world, ids, MachineState.RUNNING)


# --- describe, list ---


def test_describe_keeps_the_order_when_some_machines_are_unknown(
    compute: Compute, world: ComputeWorld
) -> None:
    first, second = compute.create(world.request("a", 2))
    asked = [second, "never-made", first]
    described = compute.describe(world.place, asked)
    assert [machine.id for machine in described] == asked
    assert described[1].state is MachineState.TERMINATED


def test_tags_come_back_when_described_and_listed(compute: Compute, world: ComputeWorld) -> None:
    request = world.request("a", tags={"owner": "Zoë", "empty": "", "stix-name": "my cluster"})
    ids = compute.create(request)
    for machine in (*compute.describe(world.place, ids), *compute.list_tagged(world.place, "dep")):
        assert dict(machine.tags) == dict(request.tags)


def test_list_shows_only_its_deployment_when_another_has_machines(
    compute: Compute, world: ComputeWorld
) -> None:
    ours = compute.create(world.request("a"))
    theirs = world.compute(deployment="other").create(world.request("a", deployment="other"))
    assert _listed(compute, world) == set(ours)
    assert _listed(compute, world, "other") == set(theirs)
    assert _listed(compute, world, "nobody") == set()


def test_list_shows_every_machine_when_the_control_plane_restarted(
    compute: Compute, world: ComputeWorld
) -> None:
    ids = [*compute.create(world.request("a", 3)), *compute.create(world.request("b", 2))]
    assert _listed(world.compute(), world) == set(ids)


def test_machines_of_a_gang_have_addresses_of_their_own_when_running(
    compute: Compute, world: ComputeWorld
) -> None:
    ids = compute.create(world.request("a", 3))
    machines = await_states(compute, world, ids, MachineState.RUNNING)
    assert len({machine.address for machine in machines}) == 3


# --- terminate ---


def test_terminate_succeeds_when_the_machine_never_was(compute: Compute, world: ComputeWorld) -> None:
    compute.terminate(world.place, ["never-made"])
    assert states(compute, world, ["never-made"]) == [MachineState.TERMINATED]


def test_terminate_ends_the_machine_when_called_once(compute: Compute, world: ComputeWorld) -> None:
    ids = compute.create(world.request("a", 2))
    compute.terminate(world.place, ids)
    await_states(compute, world, ids, MachineState.TERMINATED)
    assert _listed(compute, world) == set()


def test_terminate_succeeds_when_repeated(compute: Compute, world: ComputeWorld) -> None:
    ids = compute.create(world.request("a"))
    for _ in range(3):
        compute.terminate(world.place, ids)
    await_states(compute, world, ids, MachineState.TERMINATED)
    compute.terminate(world.place, ids)


def test_terminate_is_finished_when_the_control_plane_restarted(
    compute: Compute, world: ComputeWorld
) -> None:
    ids = compute.create(world.request("a"))
    compute.terminate(world.place, ids)
    await_states(world.compute(), world, ids, MachineState.TERMINATED)


def test_terminate_spares_the_rest_when_one_of_a_gang_is_named(compute: Compute, world: ComputeWorld) -> None:
    first, second, third = compute.create(world.request("a", 3))
    compute.terminate(world.place, [second])
    await_states(compute, world, [second], MachineState.TERMINATED)
    await_states(compute, world, [first, third], MachineState.RUNNING)
    assert _listed(compute, world) == {first, third}


# --- stop and start ---


def test_stop_and_start_keep_the_machine_when_the_provider_can(compute: Compute, world: ComputeWorld) -> None:
    power = _stopping(compute)
    ids = compute.create(world.request("a", 2))
    before = await_states(compute, world, ids, MachineState.RUNNING)
    power.stop(world.place, ids)
    stopped = await_states(compute, world, ids, MachineState.STOPPED)
    assert _listed(compute, world) == set(ids)
    assert [machine.tags for machine in stopped] == [machine.tags for machine in before]
    power.start(world.place, ids)
    after = await_states(compute, world, ids, MachineState.RUNNING)
    assert [machine.address for machine in after] == [machine.address for machine in before]


def test_stop_succeeds_when_the_machine_is_absent_or_stopped(compute: Compute, world: ComputeWorld) -> None:
    power = _stopping(compute)
    power.stop(world.place, ["never-made"])
    ids = compute.create(world.request("a"))
    power.stop(world.place, ids)
    await_states(compute, world, ids, MachineState.STOPPED)
    power.stop(world.place, ids)
    assert states(compute, world, ids) == [MachineState.STOPPED]


def test_start_succeeds_when_the_machine_runs(compute: Compute, world: ComputeWorld) -> None:
    power = _stopping(compute)
    ids = compute.create(world.request("a"))
    power.start(world.place, ids)
    await_states(compute, world, ids, MachineState.RUNNING)


def test_start_refuses_when_the_machine_was_ended(compute: Compute, world: ComputeWorld) -> None:
    power = _stopping(compute)
    ids = compute.create(world.request("a"))
    compute.terminate(world.place, ids)
    with pytest.raises(InvalidRequestError):
        power.start(world.place, ids)
    await_states(compute, world, ids, MachineState.TERMINATED)
    with pytest.raises(InvalidRequestError):
        power.start(world.place, ids)


def test_start_works_or_says_wait_when_the_machine_is_stopping(compute: Compute, world: ComputeWorld) -> None:
    power = _stopping(compute)
    ids = compute.create(world.request("a"))
    power.stop(world.place, ids)

    def started() -> bool:
        try:
            power.start(world.place, ids)
        except NotYetTerminatedError:
            return False
        return True

    until(started, "the machine can be started")
    await_states(compute, world, ids, MachineState.RUNNING)


def test_terminate_ends_the_machine_when_it_is_stopped(compute: Compute, world: ComputeWorld) -> None:
    power = _stopping(compute)
    ids = compute.create(world.request("a"))
    power.stop(world.place, ids)
    await_states(compute, world, ids, MachineState.STOPPED)
    compute.terminate(world.place, ids)
    await_states(compute, world, ids, MachineState.TERMINATED)
    assert _listed(compute, world) == set()


# --- offers ---


def test_offers_can_be_created_when_the_provider_discovers_them(
    compute: Compute, world: ComputeWorld
) -> None:
    if not isinstance(compute, DiscoversOffers):
        pytest.skip(f"{compute.cloud} has a catalog instead")
    offers = compute.offers()
    assert offers
    assert {(offer.cloud, offer.region) for offer in offers} == {(world.place.cloud, world.place.region)}
    offer = min(offers, key=lambda each: each.accelerator_count)
    ids = compute.create(world.request("a", vcpus=offer.vcpus, memory_gib=offer.memory_gib))
    await_states(compute, world, ids, MachineState.RUNNING)
