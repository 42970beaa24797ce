"""What every provider must do, whatever cloud it drives. A new cloud adds its world to ``_WORLDS``.

A provider may refuse at once, or accept and refuse later; then its machines say so (TERMINATING with a
reason) and the same call again raises. ``_refusal`` is where both meet.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

import pytest

from stix.clouds.registry import facts
from stix.model.errors import (
    InvalidRequestError,
    NoCapacityError,
    NotYetTerminatedError,
    ProviderError,
    StixError,
    ThrottledError,
    UnavailableError,
)
from stix.ports.compute import (
    Compute,
    DiscoversOffers,
    GangRequest,
    HoldsMore,
    MachineState,
    ReportsQuotas,
    StopsMachines,
)
from tests.contract.compute_worlds import (
    ComputeWorld,
    LocalWorld,
    await_states,
    build_scripted_archive,
    states,
)
from tests.waiting import eventually


@pytest.fixture(scope="session")
def scripted_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_scripted_archive(tmp_path_factory.mktemp("agent") / "agent.pyz")


_WORLDS = (
    *("aws", "azure", "gcp", "kubernetes", "local"),
    pytest.param("kubernetes-real", marks=pytest.mark.kubernetes),
)


@pytest.fixture(params=_WORLDS)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ComputeWorld]:
    world: ComputeWorld
    if request.param == "local":
        world = LocalWorld(tmp_path, request.getfixturevalue("scripted_archive"))
    elif request.param == "kubernetes-real":
        real = import_module("tests.contract.world_kubernetes_real")
        world = real.World(request.getfixturevalue("control_plane"))
    else:
        world = import_module(f"tests.contract.world_{request.param}").World(tmp_path)
    yield world
    world.close()


@pytest.fixture
def compute(world: ComputeWorld) -> Compute:
    return world.compute()


def _stopping(compute: Compute) -> StopsMachines:
    if not isinstance(compute, StopsMachines):
        pytest.skip(f"{compute.cloud} cannot stop machines")
    return compute


def _needs(world: ComputeWorld, what: str) -> None:
    if what in world.cannot:
        pytest.skip(world.cannot[what])


def _refusal(compute: Compute, world: ComputeWorld, request: GangRequest) -> Exception | None:
    """What the provider says to a creation that it refuses, at once or later."""
    try:
        ids = compute.create(request)
    except StixError as error:
        return error
    world.settle()
    gone = (MachineState.TERMINATING, MachineState.TERMINATED)
    seen = compute.describe(world.place, ids)
    assert any(machine.state in gone and machine.reason for machine in seen)
    try:
        compute.create(request)
    except StixError as error:
        return error
    return None


def _undo(compute: Compute, world: ComputeWorld, request: GangRequest) -> None:
    """End whatever a creation left, as the control plane does."""

    def ended() -> bool:
        left = [m for m in compute.list_tagged(world.place, "dep") if m.tags["stix-intent"] == request.token]
        compute.terminate(world.place, [machine.id for machine in left])
        world.settle()
        if left:
            return False
        if isinstance(compute, HoldsMore):
            try:
                compute.release(world.place, request.token)
            except NotYetTerminatedError:
                return False
        world.settle()
        return True

    eventually(ended, "the gang is gone")


def _listed(compute: Compute, world: ComputeWorld, deployment: str = "dep") -> set[str]:
    return {machine.id for machine in compute.list_tagged(world.place, deployment)}


# --- create ---


def test_create_gives_as_many_machines_when_a_gang_is_asked(compute: Compute, world: ComputeWorld) -> None:
    ids = compute.create(world.request("a", 3))
    assert len(set(ids)) == 3
    await_states(compute, world, ids, MachineState.RUNNING)


def test_create_twice_with_one_token_gives_one_machine(compute: Compute, world: ComputeWorld) -> None:
    (first,) = compute.create(world.request("a"))
    assert compute.create(world.request("a")) == [first]
    assert _listed(compute, world) == {first}


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
    assert isinstance(_refusal(compute, world, world.greedy_request("a")), NoCapacityError)
    world.settle()
    assert _listed(compute, world) == set()


def test_create_refuses_when_the_offer_is_of_another_cloud(compute: Compute, world: ComputeWorld) -> None:
    with pytest.raises(InvalidRequestError):
        compute.create(world.request("a", cloud="elsewhere"))


def test_create_refuses_when_no_machine_is_asked(compute: Compute, world: ComputeWorld) -> None:
    with pytest.raises(InvalidRequestError):
        compute.create(world.request("a", 0))


def test_gang_that_gets_3_of_4_leaves_0(world: ComputeWorld) -> None:
    world.capacity(3)
    compute = world.compute()
    assert isinstance(_refusal(compute, world, world.request("a", 4)), NoCapacityError)
    _undo(compute, world, world.request("a", 4))
    assert _listed(compute, world) == set()
    assert world.leftovers() == []


def test_create_works_when_another_attempt_got_too_little(world: ComputeWorld) -> None:
    world.capacity(3)
    compute = world.compute()
    assert isinstance(_refusal(compute, world, world.request("a", 4)), NoCapacityError)
    _undo(compute, world, world.request("a", 4))
    ids = compute.create(world.request("b", 3))
    await_states(compute, world, ids, MachineState.RUNNING)


def test_timeout_after_success_is_found_again_and_adopted(compute: Compute, world: ComputeWorld) -> None:
    _needs(world, "lose_answer")
    world.lose_answer()
    with pytest.raises(UnavailableError):
        compute.create(world.request("a", 2))
    ids = world.compute().create(world.request("a", 2))
    await_states(compute, world, ids, MachineState.RUNNING)
    assert _listed(compute, world) == set(ids)


def test_one_gang_is_made_when_the_request_is_delivered_twice(compute: Compute, world: ComputeWorld) -> None:
    _needs(world, "deliver_twice")
    world.deliver_twice()
    ids = compute.create(world.request("a", 2))
    await_states(compute, world, ids, MachineState.RUNNING)
    assert _listed(compute, world) == set(ids)


def test_each_error_code_maps_to_its_class(world: ComputeWorld) -> None:
    _needs(world, "refusals")
    wrong: dict[str, str] = {}
    compute = world.compute()
    for code, expected in world.refusals.items():
        request = world.request(f"refused {code}", 2)
        world.refuse(code)
        error = _refusal(compute, world, request)
        if type(error) is not expected:
            wrong[code] = f"{type(error).__name__}: {error}"
        _undo(compute, world, request)
        assert _listed(compute, world) == set(), code
    assert wrong == {}
    assert world.leftovers() == []


def test_refusals_say_the_providers_own_word(world: ComputeWorld) -> None:
    _needs(world, "refusals")
    code = next(iter(world.refusals))
    world.refuse(code)
    compute = world.compute()
    error = _refusal(compute, world, world.request("a"))
    assert isinstance(error, ProviderError)
    assert error.provider_code
    assert error.message
    _undo(compute, world, world.request("a"))


def test_create_says_wait_when_the_provider_throttles(compute: Compute, world: ComputeWorld) -> None:
    _needs(world, "throttle")
    world.throttle(1000)
    with pytest.raises(ThrottledError) as refused:
        compute.create(world.request("a", 2))
    assert refused.value.retry_after > 0
    world.throttle(0)
    ids = compute.create(world.request("a", 2))
    await_states(compute, world, ids, MachineState.RUNNING)
    assert _listed(compute, world) == set(ids)


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


def test_listing_reads_every_page_of_250_machines(compute: Compute, world: ComputeWorld) -> None:
    _needs(world, "add_machines")
    world.add_machines(250, deployment="dep")
    world.add_machines(3, deployment="other")
    assert len(_listed(compute, world)) == 250


def test_listing_is_whole_when_a_page_comes_short(compute: Compute, world: ComputeWorld) -> None:
    _needs(world, "short_pages")
    ids = [compute.create(world.request(f"g{number}"))[0] for number in range(5)]
    world.short_pages(2)
    assert _listed(compute, world) == set(ids)


def test_machines_of_a_gang_have_addresses_of_their_own_when_running(
    compute: Compute, world: ComputeWorld
) -> None:
    ids = compute.create(world.request("a", 3))
    machines = await_states(compute, world, ids, MachineState.RUNNING)
    assert len({machine.address for machine in machines}) == 3


# --- terminate ---


def test_terminate_of_an_absent_machine_succeeds(compute: Compute, world: ComputeWorld) -> None:
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
    first, second, third = ids = compute.create(world.request("a", 3))
    await_states(compute, world, ids, MachineState.RUNNING)
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


def test_stop_and_start_keep_disks(compute: Compute, world: ComputeWorld) -> None:
    power = _stopping(compute)
    (machine_id,) = compute.create(world.request("a"))
    await_states(compute, world, [machine_id], MachineState.RUNNING)
    before = world.disks(machine_id)
    assert before
    power.stop(world.place, [machine_id])
    await_states(compute, world, [machine_id], MachineState.STOPPED)
    assert world.disks(machine_id) == before
    power.start(world.place, [machine_id])
    await_states(compute, world, [machine_id], MachineState.RUNNING)
    assert world.disks(machine_id) == before


def test_stop_succeeds_when_the_machine_is_absent_or_stopped(compute: Compute, world: ComputeWorld) -> None:
    power = _stopping(compute)
    power.stop(world.place, ["never-made"])
    ids = compute.create(world.request("a"))
    await_states(compute, world, ids, MachineState.RUNNING)
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
    await_states(compute, world, ids, MachineState.RUNNING)
    power.stop(world.place, ids)

    def started() -> bool:
        try:
            world.settle()
            power.start(world.place, ids)
        except NotYetTerminatedError:
            return False
        return True

    eventually(started, "the machine can be started")
    await_states(compute, world, ids, MachineState.RUNNING)


def test_terminate_ends_the_machine_when_it_is_stopped(compute: Compute, world: ComputeWorld) -> None:
    power = _stopping(compute)
    ids = compute.create(world.request("a"))
    await_states(compute, world, ids, MachineState.RUNNING)
    power.stop(world.place, ids)
    await_states(compute, world, ids, MachineState.STOPPED)
    compute.terminate(world.place, ids)
    await_states(compute, world, ids, MachineState.TERMINATED)
    assert _listed(compute, world) == set()


# --- what a gang holds besides machines ---


def test_release_leaves_nothing_when_the_gang_has_ended(compute: Compute, world: ComputeWorld) -> None:
    ports = ("8080", "9000-9010") if facts(compute.cloud).opens_ports else ()
    request = world.request("a", 2, ports=ports) if ports else world.request("a", 2)
    ids = compute.create(request)
    await_states(compute, world, ids, MachineState.RUNNING)
    _undo(compute, world, request)
    assert _listed(compute, world) == set()
    assert world.leftovers() == []


def test_release_succeeds_when_there_was_no_such_gang(compute: Compute, world: ComputeWorld) -> None:
    if not isinstance(compute, HoldsMore):
        pytest.skip(f"a gang of {compute.cloud} holds nothing but machines")
    compute.release(world.place, world.request("never").token)


# --- spot ---


def test_spot_preemption_is_seen_by_poll(compute: Compute, world: ComputeWorld) -> None:
    _needs(world, "preempt")
    (machine_id,) = compute.create(world.request("a", spot=True))
    (before,) = await_states(compute, world, [machine_id], MachineState.RUNNING)
    assert not before.preempted
    world.preempt(machine_id)
    world.settle()
    (after,) = compute.describe(world.place, [machine_id])
    assert after.state not in (MachineState.RUNNING, MachineState.PENDING)
    assert after.preempted


def test_spot_preemption_is_seen_by_notice(compute: Compute, world: ComputeWorld) -> None:
    from stix.agent.notices import read_notice

    _needs(world, "announce_preemption")
    (machine_id,) = compute.create(world.request("a", spot=True))
    await_states(compute, world, [machine_id], MachineState.RUNNING)
    url = world.announce_preemption(machine_id)
    notice = read_notice(compute.cloud, url)
    assert notice is not None
    assert notice.kind == "preemption"


# --- who, and how much ---


def test_identity_names_somebody(compute: Compute) -> None:
    assert compute.identity()


def test_quotas_have_families_of_offers_when_the_provider_reports_them(
    compute: Compute, world: ComputeWorld
) -> None:
    if not isinstance(compute, ReportsQuotas):
        pytest.skip(f"{compute.cloud} does not report quotas")
    quotas = compute.quotas(world.place)
    family = facts(compute.cloud).quota_family(world.request("a").offer)
    assert family in {quota.family for quota in quotas}
    assert all(quota.limit >= 0 <= quota.used for quota in quotas)


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
