"""Services from up to down over the application's fakes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from stix.application import reconcile_service
from stix.application.service_bodies import explain_service, service_body
from stix.application.service_ports import FIRST_PORT
from stix.application.service_view import services_view
from stix.application.submit_service import down, terminate_replica
from stix.model.errors import ConflictError, NotFoundError, TaskError
from stix.model.status import ReplicaStatus, ServiceStatus, Wanted
from tests.unit.serving_plane import SCALED, SPOT, ServingPlane
from tests.unit.world import ANN, WORKSPACE, offer


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[ServingPlane]:
    plane = ServingPlane(tmp_path)
    yield plane
    plane.close()


def test_a_service_comes_up_serves_and_leaves_nothing(plane: ServingPlane) -> None:
    service = plane.up(replicas=2)
    assert (service.port, service.status) == (FIRST_PORT, ServiceStatus.REPLICA_INIT)
    assert plane.statuses() == {1: "PENDING", 2: "PENDING"}
    assert plane.boot_all() == [1, 2]
    assert plane.statuses() == {1: "READY", 2: "READY"}
    assert plane.shown() == {"1": "1 ready", "2": "1 ready"}
    service = plane.service()
    assert (service.status, service.ready_at) == (ServiceStatus.READY, plane.clock.now())
    body = service_body(plane.world, service)
    assert (body["ready_replicas"], body["target"], body["policy"]) == (2, 2, "2 replicas")
    plane.down()
    assert plane.service().ended_at is not None
    assert plane.compute.alive() == []
    assert plane.shown() == {}
    assert plane.due() == []
    assert plane.up(replicas=1).port == FIRST_PORT
    assert list(plane.statuses()) == [3], "numbers of replicas go on"


def test_a_replica_knows_its_number_when_it_runs(plane: ServingPlane) -> None:
    plane.up(replicas=1, task={"envs": {"MODEL": "small"}})
    cluster = plane.boot(1)
    [command] = plane.commands(cluster)["commands"]
    envs = command["job"]["envs"]
    assert (envs["SKYPILOT_SERVE_REPLICA_ID"], envs["STIX_SERVE_REPLICA_ID"]) == ("1", "1")
    assert envs["MODEL"] == "small"
    assert "managed" not in command["job"]


def test_up_twice_is_refused_and_with_one_key_answers_the_same(plane: ServingPlane) -> None:
    plane.up(key="k", replicas=1)
    plane.up(key="k", replicas=1)
    assert len(plane.replicas()) == 1
    with pytest.raises(ConflictError, match="serve update"):
        plane.up(replicas=1)


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({"resources": {}}, "where replicas listen"),
        ({"resources": {"ports": "8000-8001"}}, "where replicas listen"),
        ({"run": None}, "needs something to run"),
        ({"deadline": "3h"}, "a service has none"),
        ({"resources": {"ports": 80, "autostop": 5}}, "never idle"),
        ({"resources": {"ports": 80, "job_recovery": {"replace": "failed"}}}, "replaced whole"),
        ({"volumes": {"/x": "y"}}, "not supported by `serve up` yet"),
    ],
)
def test_a_task_that_cannot_serve_is_refused_by_field(
    plane: ServingPlane, task: dict[str, object], words: str
) -> None:
    with pytest.raises(TaskError, match=words):
        plane.up(replicas=1, task=task)


def test_load_brings_more_replicas_after_the_delay_and_fewer_later(plane: ServingPlane) -> None:
    plane.up(replica_policy=SCALED | {"downscale_delay_seconds": 120})
    plane.boot_all()
    plane.rate = 2.5
    plane.wait(40)
    assert len(plane.statuses()) == 1
    plane.wait(60)
    assert len(plane.statuses()) == 3
    plane.boot_all()
    plane.rate = 0.5
    plane.busy.add(3)
    plane.wait(180)
    assert plane.statuses() == {1: "READY", 3: "SHUTTING_DOWN"}, "it waits for its last request"
    plane.busy.clear()
    plane.wait(40)
    assert plane.statuses() == {1: "READY"}
    assert len(plane.compute.alive()) == 1
    words = " ".join(one["reason"] for one in explain_service(plane.world, plane.service())["decisions"])
    assert "2.5 requests/s" in words


def test_a_service_goes_from_none_to_four_and_back_by_the_default_delays(plane: ServingPlane) -> None:
    policy = {"min_replicas": 0, "max_replicas": 4, "target_qps_per_replica": 1}
    plane.up(replica_policy=policy)
    plane.waiting = 1
    plane.gateway()
    assert plane.statuses() == {1: "PENDING"}, "from zero at once"
    plane.boot_all()
    plane.waiting, plane.rate = 0, 9.0
    sizes: list[int] = []

    def watch(seconds: float) -> None:
        until = plane.clock.now() + seconds
        while plane.clock.now() < until:
            plane.wait(20)
            plane.boot_all()
            sizes.append(sum(status == "READY" for status in plane.statuses().values()))

    watch(280)
    assert set(sizes) == {1}, "300 s upwards"
    watch(60)
    assert sizes[-1] == 4
    plane.rate = 0.9
    watch(1160)
    assert sizes[-1] == 4, "1200 s downwards"
    watch(80)
    assert sizes[-1] == 1
    plane.rate = 0.0
    watch(1160)
    assert sizes[-1] == 1
    watch(80)
    assert [size for size, _ in itertools.groupby(sizes)] == [1, 4, 1, 0], "no step but these"
    assert plane.compute.alive() == []


def test_a_drain_ends_after_its_limit_when_requests_never_end(plane: ServingPlane) -> None:
    plane.up(replicas=1, load_balancer={"drain_seconds": 40})
    plane.boot_all()
    plane.busy.add(1)
    terminate_replica(plane.world, ANN, "chat", 1, purge=False)
    plane.settle()
    assert plane.statuses() == {1: "SHUTTING_DOWN", 2: "PENDING"}
    plane.wait(20)
    assert plane.replica(1).ended_at is None
    plane.wait(40)
    assert plane.replica(1).closed


def test_a_service_without_requests_goes_to_zero_and_one_request_brings_it_back(plane: ServingPlane) -> None:
    policy = SCALED | {"min_replicas": 0, "downscale_delay_seconds": 60}
    plane.up(replica_policy=policy)
    assert plane.statuses() == {}
    assert plane.service().status is ServiceStatus.NO_REPLICA
    plane.gateway()
    plane.waiting = 1
    plane.gateway()
    assert plane.statuses() == {1: "PENDING"}
    plane.boot_all()
    plane.waiting = 0
    plane.wait(120)
    assert plane.statuses() == {}
    assert plane.compute.alive() == []


def test_a_lost_replica_is_replaced_as_soon_as_its_provider_says_so(plane: ServingPlane) -> None:
    plane.up(replicas=2, task={"resources": SPOT})
    plane.boot_all()
    plane.lose(1)
    assert plane.replica(1).status is ReplicaStatus.PREEMPTED
    assert plane.statuses() == {2: "READY", 3: "PENDING"}
    place = plane.replica(1).offer.place
    assert plane.service().memory.lost_at == {place: plane.clock.now()}
    assert plane.replica(1).closed


def test_a_replica_that_does_not_answer_is_kept_while_its_machine_runs(plane: ServingPlane) -> None:
    plane.up(replicas=1)
    plane.boot_all()
    plane.states[1] = ("not_ready", "no answer within 15 s")
    plane.gateway()
    assert plane.statuses() == {1: "NOT_READY"}
    assert plane.replica(1).reason == "no answer within 15 s"
    plane.states[1] = ("failed", "no answer within 15 s; so for 180 s")
    plane.gateway()
    assert plane.replica(1).status is ReplicaStatus.FAILED_PROBING
    assert plane.statuses() == {}, "the next one waits, as replicas that keep failing do"
    plane.wait(40)
    assert plane.statuses() == {2: "PENDING"}


def test_a_server_that_ends_has_failed(plane: ServingPlane) -> None:
    plane.up(replicas=1)
    plane.boot_all()
    plane.tell(1, "SUCCEEDED", exit_codes=[0])
    assert plane.replica(1).status is ReplicaStatus.FAILED
    assert "ended" in plane.replica(1).reason


def test_a_stand_in_starts_at_the_notice_and_the_noticed_replica_serves_on(plane: ServingPlane) -> None:
    plane.up(replica_policy={"min_replicas": 1, "dynamic_ondemand_fallback": True}, task={"resources": SPOT})
    assert [one.offer.spot for one in plane.replicas()] == [True, False], "on-demand stands in meanwhile"
    plane.boot(1)
    plane.gateway()
    plane.wait(20)
    assert plane.statuses() == {1: "READY"}, "what stood in is not needed"
    plane.notice(1, 120)
    assert plane.statuses() == {1: "READY", 3: "PENDING", 4: "PENDING"}
    assert {one.offer.spot for one in plane.replicas() if one.id in (3, 4)} == {True, False}
    assert plane.shown() == {"1": "1 ready"}
    plane.boot(4)
    plane.gateway()
    assert plane.shown()["1"] == "1 draining"
    plane.gateway()
    assert plane.replica(1).ended_at is not None


def test_a_machine_that_outlives_its_notice_is_kept(plane: ServingPlane) -> None:
    plane.up(replicas=1, task={"resources": SPOT})
    plane.boot_all()
    plane.notice(1, -90)
    assert plane.replica(1).gone_at is None, "a notice of long ago"
    assert plane.statuses() == {1: "READY"}


def test_places_that_refuse_are_left_and_the_next_launch_waits(plane: ServingPlane) -> None:
    plane.compute.full = {"a", "b", "c"}
    plane.up(replicas=1, task={"resources": SPOT})
    plane.find_no_place(1)
    assert plane.replica(1).status is ReplicaStatus.FAILED_PROVISION
    service = plane.service()
    assert sorted(service.memory.lost_at) == ["fake/north/a", "fake/north/b", "fake/north/c"]
    assert service.launch_after == plane.clock.now() + 5
    assert plane.statuses() == {}
    plane.compute.full.clear()
    plane.wait(900, step=60)
    assert list(plane.statuses().values()) == ["PENDING"]


def test_a_rolling_update_replaces_replicas_one_by_one_with_all_versions_serving(plane: ServingPlane) -> None:
    plane.up(replicas=2)
    plane.boot_all()
    plane.update(replicas=2)
    assert plane.statuses() == {1: "READY", 2: "READY", 3: "PENDING", 4: "PENDING"}
    plane.boot(3)
    plane.gateway()
    assert plane.shown()["3"] == "2 ready"
    plane.gateway()
    assert sorted(plane.statuses()) in ([1, 3, 4], [2, 3, 4])
    plane.boot(4)
    plane.wait(60)
    assert plane.shown() == {"3": "2 ready", "4": "2 ready"}
    assert plane.service().serving == (2,)


def test_blue_green_takes_no_request_before_all_are_ready(plane: ServingPlane) -> None:
    plane.up(replicas=2)
    plane.boot_all()
    plane.update("blue_green", replicas=2)
    plane.boot(3)
    plane.gateway()
    assert plane.shown() == {"1": "1 ready", "2": "1 ready", "3": "2 standby"}
    plane.boot(4)
    plane.gateway()
    assert plane.shown() == {"1": "1 draining", "2": "1 draining", "3": "2 ready", "4": "2 ready"}
    plane.wait(40)
    assert sorted(plane.statuses()) == [3, 4]


@pytest.mark.parametrize("mode", ["rolling", "blue_green"])
def test_a_version_that_never_gets_ready_stops_and_the_old_one_serves(plane: ServingPlane, mode: str) -> None:
    plane.up(replicas=2)
    plane.boot_all()
    plane.update(mode, replicas=2)
    plane.boot(3)
    plane.states[3] = ("failed", "never ready within 1200 s")
    plane.gateway()
    assert plane.replica(3).status is ReplicaStatus.FAILED_INITIAL_DELAY
    service = plane.service()
    assert (service.active, service.serving, service.newest.failed) == (1, (1,), True)
    plane.wait(60)
    assert plane.shown() == {"1": "1 ready", "2": "1 ready"}
    assert plane.statuses() == {1: "READY", 2: "READY"}
    plane.lose(1)
    assert plane.replicas()[-1].service_version == 1, "what is missing is launched of the old version"
    plane.update(mode, replicas=1)
    assert plane.service().active == 3


def test_a_first_version_that_fails_is_not_launched_again(plane: ServingPlane) -> None:
    plane.up(replicas=1)
    plane.boot(1)
    plane.tell(1, "FAILED", exit_codes=[3], reason="exit code 3")
    plane.wait(300, step=60)
    assert plane.statuses() == {}
    assert plane.service().status is ServiceStatus.FAILED
    assert "failed before it was ever ready" in plane.service().reason
    assert plane.compute.alive() == []


def test_replicas_are_a_services_own(plane: ServingPlane) -> None:
    from stix.application.want import take_down

    plane.up(replicas=1)
    cluster = plane.boot(1)
    with pytest.raises(ConflictError, match="belongs to service 'chat'"):
        take_down(plane.world, ANN, cluster.name, purge=False, key=None)


def test_a_replica_that_a_person_ends_is_replaced(plane: ServingPlane) -> None:
    plane.up(replicas=1)
    plane.boot_all()
    terminate_replica(plane.world, ANN, "chat", 1, purge=True)
    plane.settle()
    assert plane.statuses() == {2: "PENDING"}
    assert plane.held(1).ended
    with pytest.raises(NotFoundError, match="no replica 9"):
        terminate_replica(plane.world, ANN, "chat", 9, purge=False)


def test_down_during_a_launch_leaves_nothing_and_purge_waits_for_nobody(plane: ServingPlane) -> None:
    plane.up(replicas=2)
    plane.boot(1)
    plane.compute.lag = 1e6
    plane.down()
    assert plane.service().ended_at is None
    assert plane.service().status is ServiceStatus.SHUTTING_DOWN
    assert services_view(plane.world, WORKSPACE) == []
    with pytest.raises(ConflictError, match="going down"):
        plane.update(replicas=1)
    plane.down(purge=True)
    assert plane.service().ended_at is not None
    with pytest.raises(NotFoundError):
        down(plane.world, ANN, "chat", purge=False)


def test_nothing_is_started_once_the_budget_is_spent(plane: ServingPlane) -> None:
    from stix.application.budgets import set_budget

    plane.up(replicas=1)
    plane.boot_all()
    plane.pass_time(7200)
    set_budget(plane.world, WORKSPACE, 0.5)
    plane.lose(1)
    assert plane.statuses() == {}
    assert "budget" in plane.service().reason
    set_budget(plane.world, WORKSPACE, 100.0)
    plane.wait(960, step=60)
    assert plane.statuses() == {2: "PENDING"}


def test_secrets_and_certificates_go_with_their_service(plane: ServingPlane) -> None:
    spec = {"tls": {"keyfile": "k.pem", "certfile": "c.pem"}}
    files = {"tls": {"certificate": "-----BEGIN C", "key": "-----BEGIN K"}, "secrets": {"KEY": "s3cret"}}
    plane.up(replicas=1, task={"secrets": {"KEY": None}}, request=files, **spec)
    [entry] = services_view(plane.world, WORKSPACE)
    assert entry["tls"] == {"certificate": "-----BEGIN C", "key": "-----BEGIN K"}
    plane.boot_all()
    plane.down()
    assert plane.secrets.kept == {}


def test_a_step_that_fails_is_said_and_tried_again_later(plane: ServingPlane) -> None:
    plane.up(replicas=1)
    told = {"Error": "UnavailableError", "Cause": "the store is away"}
    assert reconcile_service.record_failure(plane.world, WORKSPACE, "chat", told) == {"outcome": "RECORDED"}
    service = plane.service()
    assert (service.failures, service.due_at) == (1, plane.clock.now() + 10)
    plane.pass_time(11)
    plane.sweep()
    assert (plane.service().failures, plane.service().reason[:9]) == (0, "1 replica")


def test_a_teardown_that_keeps_failing_is_shown(plane: ServingPlane) -> None:
    plane.up(replicas=1)
    cluster = plane.boot(1)
    plane.compute.lag = 1e6
    plane.down()
    current = plane.by_id(cluster)
    assert current.wanted is Wanted.ABSENT
    from stix.application.records import save

    save(plane.world, current.changed(failures=3, reason="the cloud is away"))
    plane.pass_time(3700)
    plane.sweep()
    assert plane.service().status is ServiceStatus.FAILED_CLEANUP
    assert plane.replica(1).status is ReplicaStatus.FAILED_CLEANUP


def test_spot_replicas_spread_over_zones(tmp_path: Path) -> None:
    zones = tuple(offer(zone, 1.0 + number / 10, spot=True) for number, zone in enumerate("abc"))
    plane = ServingPlane(tmp_path, zones)
    plane.up(replica_policy={"min_replicas": 3, "spot_placer": "dynamic_fallback"}, task={"resources": SPOT})
    assert sorted(one.offer.zone for one in plane.replicas()) == ["a", "b", "c"]
    plane.close()
