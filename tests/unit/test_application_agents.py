"""Reports, commands and autostop."""

from __future__ import annotations

import pytest

from stix.api.v1 import Autostop
from stix.application import want
from stix.application.cancel_jobs import cancel
from stix.application.join_nodes import GoneError
from stix.application.sweep import sweep
from stix.model.errors import InvalidInputError
from stix.model.status import ClusterStatus, JobStatus, NodeStatus, OperationStatus, Wanted
from tests.unit.world import ANN, WORKSPACE


@pytest.fixture
def cluster(plane):
    return plane.bring_up(task={"secrets": {"TOKEN": None}}, secrets={"TOKEN": "hush"})


def tell(plane, cluster, status, **fields):
    return plane.report(cluster, jobs=[{"id": 1, "status": status} | fields])


def test_job_follows_its_head_when_reports_come_in_order(plane, cluster):
    tell(plane, cluster, "SETTING_UP")
    assert plane.job(cluster).status is JobStatus.SETTING_UP
    tell(plane, cluster, "RUNNING", started_at=5.0)
    tell(plane, cluster, "FAILED", reason="exit 3", ended_at=9.0, exit_codes=[3, None])
    job = plane.job(cluster)
    assert (job.status, job.reason, job.started_at, job.ended_at) == (JobStatus.FAILED, "exit 3", 5.0, 9.0)
    assert (job.exit_codes, job.exit_code, job.due_at) == ((3, None), 3, None)
    assert plane.events.names().count("JobEnded") == 1


@pytest.mark.parametrize("late", ["PENDING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED"])
def test_ended_job_stays_as_it_is_when_a_late_report_comes(plane, cluster, late):
    tell(plane, cluster, "SUCCEEDED", ended_at=9.0, exit_codes=[0])
    before = plane.job(cluster)
    tell(plane, cluster, late, reason="late", exit_codes=[1])
    assert plane.job(cluster) == before


def test_earlier_status_is_ignored_when_reports_overtake_each_other(plane, cluster):
    tell(plane, cluster, "RUNNING", started_at=5.0)
    tell(plane, cluster, "SETTING_UP")
    assert plane.job(cluster).status is JobStatus.RUNNING


def test_secrets_are_gone_when_the_job_ends(plane, cluster):
    assert list(plane.secrets.kept.values()) == [{"TOKEN": "hush"}]
    tell(plane, cluster, "RUNNING")
    assert plane.secrets.kept
    tell(plane, cluster, "SUCCEEDED")
    assert plane.secrets.kept == {}


def test_secrets_are_gone_when_the_end_is_reported_again_after_a_crash(plane, cluster):
    kept = dict(plane.secrets.kept)
    tell(plane, cluster, "SUCCEEDED")
    plane.secrets.kept.update(kept)  # as if the first report had died before their deletion
    tell(plane, cluster, "SUCCEEDED")
    assert plane.secrets.kept == {}


def test_reported_job_is_ignored_when_nobody_knows_it(plane, cluster):
    plane.report(cluster, jobs=[{"id": 77, "status": "RUNNING"}])
    assert [job.id for job in plane.jobs(cluster)] == [1]


@pytest.mark.parametrize(
    "entry",
    [{"id": 1}, {"status": "RUNNING"}, {"id": 1, "status": "DANCING"}, {"id": "x", "status": "RUNNING"}],
)
def test_report_is_refused_when_a_job_makes_no_sense(plane, cluster, entry):
    with pytest.raises(InvalidInputError, match="jobs"):
        plane.report(cluster, jobs=[entry])


def test_report_costs_one_write_when_nothing_has_changed(plane, cluster):
    plane.report(cluster, idle_since=5.0)
    versions = plane.by_id(cluster).version, plane.nodes(cluster)[0].version
    plane.pass_time(60)
    plane.report(cluster, idle_since=5.0)
    assert (plane.by_id(cluster).version, plane.nodes(cluster)[0].version) == versions


def test_peers_are_told_when_a_nodes_address_changes(plane, cluster):
    before = plane.by_id(cluster).peers_version
    plane.report(cluster, address="10.9.9.9", peer_port=1, facts={"cpus": 2})
    assert plane.by_id(cluster).peers_version == before + 1
    peers = plane.commands(cluster, peers_version=before)["peers"]
    assert peers == [{"rank": 0, "address": "10.9.9.9", "port": 1}]


def test_node_stays_down_when_an_agent_reports_from_a_stopped_cluster(plane, cluster):

    want.stop_cluster(plane.world, ANN, "train", key=None)
    plane.run_terminate(cluster)
    answer = plane.report(cluster, jobs=[{"id": 1, "status": "RUNNING"}])
    assert answer["wanted"] == "STOPPED"
    assert plane.nodes(cluster)[0].status is NodeStatus.STOPPED
    assert plane.cluster().status is ClusterStatus.STOPPED
    assert plane.job(cluster).status is JobStatus.CANCELLED


def test_agent_hears_that_it_is_over_when_the_cluster_has_ended(plane, cluster):
    want.take_down(plane.world, ANN, "train", purge=True, key=None)
    with pytest.raises(GoneError):
        plane.report(cluster)
    with pytest.raises(GoneError):
        plane.commands(cluster)


# Commands


def test_command_is_given_until_it_is_acknowledged(plane, cluster):
    (first,) = plane.commands(cluster)["commands"]
    assert (first["seq"], first["type"], first["job"]["id"]) == (1, "run", 1)
    assert first["job"]["run"] == "echo hi"
    assert first["job"]["has_secrets"]
    assert "hush" not in str(first)
    assert plane.commands(cluster)["commands"] == [first]
    assert plane.commands(cluster, after=1)["commands"] == []
    assert plane.store.children(WORKSPACE, "command", cluster.id).items == ()


def test_commands_come_in_batches_when_there_are_many(plane, cluster):
    for _ in range(120):
        plane.execute()
    first = plane.commands(cluster)
    assert [c["seq"] for c in first["commands"]] == list(range(1, 101))
    assert first["more"]
    second = plane.commands(cluster, after=100)
    assert (second["commands"], second["more"]) == ([], True)
    third = plane.commands(cluster, after=100)
    assert [c["seq"] for c in third["commands"]] == list(range(101, 122))
    assert not third["more"]


def test_job_is_skipped_when_it_ended_before_its_head_heard_of_it(plane):
    plane.launch()
    cluster = plane.cluster()
    cancel(plane.world, cluster, [1], every=False)
    plane.rank(cluster)
    plane.create(plane.cluster())
    plane.await_join(cluster)
    plane.join(cluster)
    plane.hand_over(cluster)
    assert plane.commands(cluster)["commands"] == [{"seq": 1, "type": "skip", "job_id": 1}]


def test_commands_are_for_the_head_of_a_cluster_that_is_up(plane):
    cluster = plane.boot(task={"num_nodes": 2})
    plane.join(cluster, 0)
    assert plane.commands(cluster, 0)["commands"] == []
    plane.join(cluster, 1)
    plane.hand_over(cluster)
    assert len(plane.commands(cluster, 0)["commands"]) == 1
    assert plane.commands(cluster, 1)["commands"] == []


def test_settings_are_sent_when_the_agent_has_older_ones(plane, cluster):
    want.set_autostop(plane.world, ANN, "train", Autostop(idle_minutes=5, down=True))
    version = plane.by_id(cluster).settings_version
    settings = plane.commands(cluster, settings_version=version - 1)["settings"]
    assert settings["autostop"] == {"idle_minutes": 5, "down": True, "wait_for": "jobs_and_ssh"}
    assert settings["wanted"] == "UP"
    assert "settings" not in plane.commands(cluster, settings_version=version)


def test_following_is_news_once_when_somebody_begins_to_watch_a_log(plane, cluster):
    from stix.application.agents import commands
    from stix.application.logs import log_page

    def ask(seen):
        versions = {
            "peers_version": plane.by_id(cluster).peers_version,
            "settings_version": plane.by_id(cluster).settings_version,
            "after": 1,
        }
        return commands(plane.world, plane.node_principal(cluster), versions | {"follow_version": seen})

    answer, news = ask(0)
    assert (answer["follow"], news) == ([], False)
    log_page(plane.world, cluster, plane.job(cluster), cursor="", follow=True)
    answer, news = ask(0)
    assert news
    assert answer["follow"] == [{"job": 1, "until": plane.clock.now() + 60}]
    assert not ask(answer["follow_version"])[1]
    plane.pass_time(61)
    assert ask(answer["follow_version"])[0]["follow"] == []


# Autostop


def idle(plane, cluster, minutes=10, **fields):
    """A cluster with autostop whose only job is over, idle from now on."""
    want.set_autostop(plane.world, ANN, "train", Autostop(idle_minutes=minutes, **fields))
    tell(plane, cluster, "SUCCEEDED")
    since = plane.clock.now()
    plane.report(cluster, idle_since=since)
    return since


@pytest.mark.parametrize(("down", "wanted"), [(False, Wanted.STOPPED), (True, Wanted.ABSENT)])
def test_cluster_stops_by_itself_when_its_report_says_it_was_idle_for_long(plane, cluster, down, wanted):
    since = idle(plane, cluster, down=down)
    plane.pass_time(599)
    plane.report(cluster, idle_since=since)
    assert plane.cluster().wanted is Wanted.UP
    plane.pass_time(1)
    plane.report(cluster, idle_since=since)
    after = plane.cluster()
    assert (after.status, after.wanted) == (ClusterStatus.AUTOSTOPPING, wanted)
    assert plane.workflows.machines() == ["launch", "terminate"]
    assert "AutostopBegan" in plane.events.names()


def test_cluster_stops_by_itself_when_the_sweep_finds_it_idle(plane, cluster):
    since = idle(plane, cluster)
    for _ in range(3):
        plane.pass_time(200)
        sweep(plane.world)
    assert plane.cluster().status is ClusterStatus.AUTOSTOPPING
    assert plane.cluster().reason == "autostop: idle for 10 minutes"
    assert since + 600 == plane.clock.now()


def test_cluster_stays_up_when_a_job_came_that_its_head_had_not_heard_of(plane, cluster):
    since = idle(plane, cluster)
    plane.pass_time(600)
    plane.execute()
    plane.report(cluster, idle_since=since)
    assert plane.cluster().status is ClusterStatus.UP
    sweep(plane.world)
    assert plane.cluster().status is ClusterStatus.UP


def test_cluster_stops_whatever_runs_when_autostop_waits_for_nothing(plane, cluster):
    want.set_autostop(plane.world, ANN, "train", Autostop(idle_minutes=0, wait_for="none"))
    tell(plane, cluster, "RUNNING")
    plane.report(cluster, idle_since=plane.clock.now())
    assert plane.cluster().status is ClusterStatus.AUTOSTOPPING


def test_cluster_goes_down_when_autostop_decided_on_what_it_read_before(plane, cluster):
    since = idle(plane, cluster)
    read = plane.cluster()
    operation = want.take_down(plane.world, ANN, "train", purge=False, key=None)["operation_id"]
    plane.pass_time(600)
    want.autostop_now(plane.world, read)
    plane.report(cluster, idle_since=since)
    assert plane.cluster().wanted is Wanted.ABSENT
    assert plane.operation(operation).status is OperationStatus.PENDING


def test_running_launch_is_left_alone_when_autostop_is_set(plane):
    """No second run may begin beside it."""
    plane.boot()
    want.set_autostop(plane.world, ANN, "train", Autostop(idle_minutes=10))
    plane.pass_time(90)
    sweep(plane.world)
    assert [machine for machine in plane.workflows.machines() if machine != "sweep"] == ["launch"]


def test_autostop_is_cancelled_when_none_is_set(plane, cluster):
    since = idle(plane, cluster)
    want.set_autostop(plane.world, ANN, "train", None)
    plane.pass_time(3600)
    plane.report(cluster, idle_since=since)
    assert plane.cluster().status is ClusterStatus.UP
