"""The deployed system without an account: the synthesized template is a stack, its functions are processes.

Everything below goes through the command line, to the stack's own API, over TLS, with the stack's own routes.
Machines are processes that their real user-data started; EC2 is the strict one of ``tests/providers/aws``.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from layers.build import assemble, download
from stix.adapters.dynamodb import DynamoStateStore
from stix.adapters.s3 import S3ObjectStore
from stix.catalog.index_compile import compile_index
from stix.catalog.publish import publish_index
from stix.catalog.row import CatalogRow
from stix.local.http_events import HttpRequest
from tests.deployed.account import REGION, Account
from tests.deployed.artifacts import difference, is_compiled
from tests.deployed.chaos import Chaos
from tests.deployed.invariants import MachineTime, Settling, wrong_jobs, wrong_times
from tests.deployed.permissions import tasks
from tests.deployed.serving import Served, Streams, write_task
from tests.deployed.synthesis import synthesize
from tests.deployed.under_chaos import People
from tests.e2e.embedded import EmbeddedHome, await_that, live_items
from tests.integration.gateway_world import has_haproxy

pytestmark = pytest.mark.xdist_group("e2e-deployed")

SAMPLE, SAMPLE_SEED = 20, 4
"""Operations under chaos in every run, and their seed; the full size draws one."""
HERE = ("--infra", f"aws/{REGION}", "--cpus", "2")


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """An account in which the stack is deployed."""
    folder = tmp_path_factory.mktemp("account")
    made = Account(folder, wheels=download("core", "host"))
    try:
        made.deploy(synthesize(folder / "assembly"))
        _publish_prices(made, folder / "prices")
        yield made
    finally:
        made.close()


def _publish_prices(account: Account, file: Path) -> None:
    """What the catalog's machine publishes after it asked the price lists; those that ship know no spot."""
    rows = [
        CatalogRow("aws", REGION, zone, kind, 2, 8, price=price, spot_price=price / 3, as_of=time.time())
        for zone in (f"{REGION}a", f"{REGION}b")
        for kind, price in (("m5.large", 0.096), ("m6i.large", 0.097))
    ]
    compile_index(rows, file)
    publish_index(S3ObjectStore(account.outputs["ObjectsBucket"], account.client("s3")), file)


@pytest.fixture(scope="module")
def person(account: Account, tmp_path_factory: pytest.TempPathFactory) -> EmbeddedHome:
    """Somebody with AWS credentials who has logged in to the stack."""
    home = EmbeddedHome(
        tmp_path_factory.mktemp("person") / "home",
        PYTHONPATH=account.computers.pythonpath,
        AWS_ENDPOINT_URL=account.url,
        AWS_ACCESS_KEY_ID="person",
        AWS_SECRET_ACCESS_KEY="person",
        AWS_REGION=REGION,
        **account.computers.environ,
    )
    said = home.stix("api", "login", "--stack", account.stack).stdout
    assert account.outputs["ApiUrl"] in said
    return home


def cluster(person: EmbeddedHome, name: str) -> dict[str, Any]:
    """Empty where there is none of that name."""
    told = json.loads(person.stix("status", "-v", "-o", "json").stdout)["clusters"]
    return next((one for one in told if one["name"] == name), {})


def instances(account: Account) -> list[str]:
    """Machines that EC2 bills for."""
    billed = [{"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]}]
    found = account.client("ec2").describe_instances(Filters=billed)["Reservations"]
    return [one["InstanceId"] for reservation in found for one in reservation["Instances"]]


def asked(account: Account, method: str, path: str, token: str = "") -> int:
    """The status of the stack's answer to a request with this token."""
    (front,) = account.fronts.http.values()
    headers = (("host", "here"), *((("authorization", f"Bearer {token}"),) if token else ()))
    return front.answer(HttpRequest(method, path, "", headers, "127.0.0.1", body=b"{}")).status


def login_of(person: EmbeddedHome) -> str:
    return str(json.loads((person.folder / "endpoint.json").read_text())["token"])


def swept(account: Account, seconds: float) -> dict[str, int]:
    """What the scheduled sweep looked at, by kind, once so much time has passed."""
    (outcome,) = account.pass_time(seconds)["Runs sweep-due-items every 60 seconds."]
    return dict(json.loads(outcome.payload)["looked_at"])


def tokens_of_nodes(account: Account) -> list[str]:
    files = [host.folder / "root" / "agent" / "identity.json" for host in account.machines.values()]
    return [str(json.loads(file.read_text())["node_token"]) for file in files]


def test_layers_of_both_processors_differ_only_in_what_is_compiled() -> None:
    for layer in ("core",):
        download(layer, "arm64")
        download(layer, "host")
        arm64, host = difference(assemble(layer, "arm64"), assemble(layer, "host"))
        assert {path for path in arm64 | host if not is_compiled(path)} == set()
        # As many libraries for the one as for the other: nothing was left out.
        libraries = [{path.parent for path in each if path.suffix == ".so"} for each in (arm64, host)]
        assert libraries[0] == libraries[1]
        assert libraries[0]


def test_stack_answers_whoever_logged_in_with_its_outputs(person: EmbeddedHome) -> None:
    assert "No clusters" in person.stix("status").stdout
    checks = json.loads(person.stix("check", "-o", "json").stdout)["clouds"]
    assert [one["cloud"] for one in checks if one["enabled"]] == ["aws"]


def test_task_runs_on_two_machines_and_its_cluster_stops_when_idle(
    account: Account, person: EmbeddedHome
) -> None:
    done = person.stix("launch", "-y", "-c", "train", *HERE, "--num-nodes", "2", "echo rank $STIX_NODE_RANK")
    assert "Job 1 SUCCEEDED." in done.stderr
    assert len(instances(account)) == 2
    logs = person.stix("logs", "train", "1").stdout
    assert sorted(logs.splitlines()) == ["(head, rank=0) rank 0", "(worker1, rank=1) rank 1"]
    # Each node listens on the wake channel, by which a command reaches an idle one at once.
    (channel,) = account.fronts.sockets.values()
    await_that("both nodes listen", lambda: len(channel.connections) == 2)

    seconds = []
    for number in range(5):
        begun = time.monotonic()
        assert person.stix("exec", "train", f"echo {number}").stdout == f"{number}\n"
        seconds.append(time.monotonic() - begun)
    print(f"\nexec on an idle node: {statistics.median(seconds):.2f} s median of {len(seconds)}")

    login, node = login_of(person), tokens_of_nodes(account)[0]
    assert asked(account, "GET", "/v1/clusters", login) == 200
    assert asked(account, "POST", "/agent/v1/commands", node) == 200
    for method, path, tokens in (
        ("GET", "/v1/clusters", {"": 401, "unknown": 403, login + "x": 403, node: 403}),
        ("POST", "/agent/v1/commands", {"": 401, "unknown": 403, node + "x": 403, login: 403}),
    ):
        assert {token: asked(account, method, path, token) for token in tokens} == tokens

    person.stix("autostop", "-y", "-i", "5", "train")
    assert account.pass_time(61) != {}
    assert cluster(person, "train")["status"] == "UP"
    assert swept(account, 301)["cluster"] == 1
    await_that("train stops", lambda: cluster(person, "train")["status"] == "STOPPED", every=1)
    assert not any(host.on for host in account.machines.values())

    person.stix("down", "-y", "train")
    assert instances(account) == []
    # A node's token ends with its cluster, once the gateway has forgotten its last decision.
    account.pass_time(61)
    assert asked(account, "POST", "/agent/v1/commands", node) == 403


def test_lost_spot_machine_is_noticed_and_ends_its_job(account: Account, person: EmbeddedHome) -> None:
    flags = ("launch", "-y", "-d", "-c", "cheap", *HERE, "--num-nodes", "2", "--use-spot")
    person.stix(*flags, "sleep 600")

    def runs() -> bool:
        queue = json.loads(person.stix("queue", "cheap", "-o", "json").stdout)
        return bool(queue["jobs"][0]["status"] == "RUNNING")

    await_that("the job runs", runs, every=1)
    lost = instances(account)[1]
    assert not any(outcome.failed for outcome in account.interrupt_spot(lost))
    # Nobody reports the machine any more: the sweep asks its provider, whose word decides.
    account.pass_time(660)

    def noticed() -> bool:
        return "a node was lost" in cluster(person, "cheap")["reason"]

    await_that("the loss", noticed, every=1)
    (job,) = json.loads(person.stix("queue", "cheap", "-o", "json").stdout)["jobs"]
    assert (job["status"], "a node was lost" in job["reason"]) == ("FAILED_DRIVER", True)
    person.stix("down", "-y", "cheap")


def test_managed_job_goes_on_in_another_zone_when_ec2_takes_its_machine(
    account: Account, person: EmbeddedHome, out: Path
) -> None:
    """By the rule on EC2's events, the deployed function ``recover`` and the deployed machine ``job``."""
    run = f"until [ -e {out}/go ]; do sleep 0.2; done; echo whole"
    person.stix("jobs", "launch", "-y", "-d", "-n", "count", *HERE, "--use-spot", run)

    def job() -> dict[str, Any]:
        return dict(json.loads(person.stix("jobs", "queue", "-o", "json").stdout)["jobs"][0])

    await_that("the job runs", lambda: job()["status"] == "RUNNING", every=1)
    [machine] = instances(account)
    before = job()["tasks"][0]["place"]
    outcomes = account.interrupt_spot(machine)
    assert [json.loads(outcome.payload)["outcome"] for outcome in outcomes] == ["NOTICED"]
    await_that("it runs again", lambda: job()["status"] == "RUNNING" and job()["recoveries"], every=1)
    assert job()["tasks"][0]["place"] != before
    (out / "go").touch()
    # What is left of the first cluster goes once its notice has passed.
    account.pass_time(180)
    assert "SUCCEEDED after 1 recovery" in person.stix("jobs", "wait", "1").stderr
    assert person.stix("jobs", "logs", "1").stdout == "whole\n"
    await_that("no machine is left", lambda: instances(account) == [], every=1)


@has_haproxy
def test_service_goes_up_and_down_with_its_load_when_the_schedule_fires(
    account: Account, person: EmbeddedHome, tmp_path: Path
) -> None:
    """With both gateways on machines of their own, and what they report. One replica is lost meanwhile."""
    policy = {"min_replicas": 1, "max_replicas": 2, "target_queue_length": 2}
    delays = {"upscale_delay_seconds": 150, "downscale_delay_seconds": 90}
    task = write_task(tmp_path / "serve.yaml", f"aws/{REGION}", **policy, **delays)
    person.stix("serve", "up", "-y", "-n", "chat", task)
    served = Served(account, login_of(person), "chat")
    await_that("one replica is ready", lambda: served.ready() == [1], every=0.5)
    await_that("both gateways are up", lambda: served.endpoints(2), every=0.5)

    streams = Streams(served.endpoints(2)[0], 3)
    account.pass_time(5)  # So often figures are told.
    await_that("the load is known", served.knows(3, "2 once that has held"), every=0.5)
    account.pass_time(61)
    await_that("the load is steady", served.rests, every=0.5)
    # Steady load begins no step: it is the sweep that finds that the delay is over.
    assert swept(account, 91)["service"] == 1
    await_that("a second replica is ready", lambda: served.ready() == [1, 2], every=0.5)

    outcomes = account.interrupt_spot(served.machine(1))
    assert [json.loads(outcome.payload)["outcome"] for outcome in outcomes] == ["NOTICED"]
    await_that("a third one takes its place", lambda: served.ready() == [2, 3], every=0.5)
    lost, new = served.replica(1), served.replica(3)
    assert (lost["status"], new["place"] != lost["place"]) == ("PREEMPTED", True)
    for endpoint in served.endpoints(2):
        assert httpx.get(f"{endpoint}/generate?tokens=4").json()["version"] == "1"

    streams.close()
    account.pass_time(5)
    await_that("its end is known", served.knows(0, "down to 1 once"), every=0.5)
    account.pass_time(91)
    await_that("one replica is left", lambda: len(served.ready()) == 1, every=0.5)
    assert served.targets() == [1, 2, 1]

    person.stix("serve", "down", "-y", "chat")
    await_that("no machine is left", lambda: instances(account) == [], every=0.5)
    assert "No services" in person.stix("serve", "status").stdout


def test_roles_allow_all_that_was_asked_of_aws(account: Account, person: EmbeddedHome) -> None:
    assert account.permissions.refused == []
    runs = account.client("stepfunctions")
    for machine in runs.list_state_machines()["stateMachines"]:
        told = runs.describe_state_machine(stateMachineArn=machine["stateMachineArn"])
        role = told["roleArn"].rpartition("/")[2]
        for function in tasks(told["definition"]):
            assert account.permissions.allow(role, ("lambda:InvokeFunction", function)), machine["name"]


def test_nothing_is_left_when_every_cluster_is_down(account: Account, person: EmbeddedHome) -> None:
    store = DynamoStateStore(account.outputs["TableName"], account.client("dynamodb"))
    runs = account.client("stepfunctions")
    machines = {one["name"]: one["stateMachineArn"] for one in runs.list_state_machines()["stateMachines"]}

    def states(name: str) -> set[str]:
        found = runs.list_executions(stateMachineArn=machines[name])["executions"]
        return {run["status"] for run in found}

    # What a machine held besides goes after it.
    await_that(
        "no run is under way", lambda: not any("RUNNING" in states(name) for name in machines), every=1
    )
    assert instances(account) == []
    assert account.client("ec2").describe_launch_templates()["LaunchTemplates"] == []
    # That of the deployment's own network costs nothing; those that opened ports are gone.
    ours = [{"Name": "tag-key", "Values": ["stix-deployment"]}]
    groups = account.client("ec2").describe_security_groups(Filters=ours)["SecurityGroups"]
    assert [one["GroupName"] for one in groups] == [f"stix-{account.outputs['Deployment']}"]
    assert not any(host.on for host in account.machines.values())
    assert [item.key for item in live_items(store)] == []
    for name in machines:
        assert states(name) <= {"SUCCEEDED"}, name
    queue = account.client("sqs")
    (letters,) = queue.list_queues()["QueueUrls"]
    assert queue.receive_message(QueueUrl=letters).get("Messages", []) == []


@pytest.mark.parametrize("operations", [SAMPLE, pytest.param(200, marks=pytest.mark.soak)])
def test_invariants_hold_when_everything_goes_wrong(
    account: Account, person: EmbeddedHome, out: Path, operations: int
) -> None:
    drawn = SAMPLE_SEED if operations == SAMPLE else random.SystemRandom().randrange(10**6)
    seed = int(os.environ.get("STIX_TEST_SEED") or drawn)
    print(f"\nSTIX_TEST_SEED={seed}")
    people = People(account, login_of(person), random.Random(seed), out)
    machine_time = account.on_change = MachineTime(account.computers.now)
    account.functions.chaos = chaos = Chaos(seed)
    for _ in range(operations):
        people.step()
    account.functions.chaos = None
    settling = Settling(account)
    settling.until("what was promised is done", lambda: not people.unkept())
    people.take_all_down()
    settling.until("no machine is left", lambda: not machine_time.running)
    settling.until("nothing is due any more", lambda: not settling.live_items())
    print(
        f"operations {dict(people.done)}, troubles {dict(chaos.happened)}, {settling.rounds} rounds to rest"
    )
    assert settling.stuck == [], settling.stuck[:3]
    assert list(people.client.clusters()) == []
    assert wrong_jobs(account, out, people.tasks) == []
    wrong = wrong_times(account, machine_time)
    assert wrong == [], "\n".join(wrong)
    assert instances(account) == []
    assert account.client("ec2").describe_launch_templates()["LaunchTemplates"] == []
    assert not any(host.on for host in account.machines.values())
    assert account.permissions.refused == []
