"""What holds for local machines alone: processes, control groups, addresses, GPUs, records on the disk."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from stix.agent import archive as agent_archive
from stix.clouds.local import Gpu, Host, LocalCompute
from stix.clouds.local import processes as process_listing
from stix.clouds.local.cgroups import Groups
from stix.clouds.local.launcher import await_started, launch
from stix.clouds.local.processes import processes, start_mark
from stix.model.errors import NoCapacityError, ProviderError, ThrottledError
from stix.ports.compute import MachineState
from tests.contract.compute_worlds import LocalWorld, await_states, build_scripted_archive, states
from tests.waiting import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")


@pytest.fixture(scope="session")
def scripted_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_scripted_archive(tmp_path_factory.mktemp("agent") / "agent.pyz")


@pytest.fixture
def world(tmp_path: Path, scripted_archive: Path) -> Iterator[LocalWorld]:
    world = LocalWorld(tmp_path, scripted_archive)
    yield world
    world.close()


def _record(world: LocalWorld, machine_id: str) -> dict:
    return json.loads((world.folder(machine_id) / "machine.json").read_text())


def _pid_from(path: Path) -> int:
    def written() -> str:
        text = path.read_text() if path.exists() else ""
        return text if text.endswith("\n") else ""

    return int(eventually(written, f"{path} is written"))


def _gone(pid: int) -> bool:
    return not start_mark(pid)


def _no_groups() -> Groups:
    return Groups([])


@pytest.mark.parametrize("index", [0, 1, 2])
def test_create_leaves_nothing_when_one_machine_fails(world: LocalWorld, index: int) -> None:
    compute = world.compute()
    with (
        world.breaks_at(index, OSError(12, "Cannot allocate memory")),
        pytest.raises(ProviderError, match="memory"),
    ):
        compute.create(world.request("a", 3))
    eventually(lambda: not list(compute.list_tagged(world.place, "dep")), "the other machines are gone")


def test_create_works_when_an_earlier_attempt_with_its_token_failed(world: LocalWorld) -> None:
    compute = world.compute()
    with world.breaks_at(1, ProviderError("no")), pytest.raises(ProviderError):
        compute.create(world.request("a", 2))
    eventually(lambda: not list(compute.list_tagged(world.place, "dep")), "the failed attempt is gone")
    ids = compute.create(world.request("a", 2))
    await_states(compute, world, ids, MachineState.RUNNING)


def _needs(controller: str) -> None:
    if controller not in Groups().controllers:
        pytest.skip(f"no {controller} control group can be written here")


# --- one process tree per machine ---


def test_machine_is_noticed_when_its_process_is_killed(world: LocalWorld) -> None:
    compute = world.compute()
    (machine_id,) = compute.create(world.request("a"))
    await_states(compute, world, [machine_id], MachineState.RUNNING)
    os.kill(_record(world, machine_id)["pid"], signal.SIGKILL)
    (machine,) = await_states(compute, world, [machine_id], MachineState.STOPPED)
    assert machine.reason.startswith("the machine process ended")


def test_whole_machine_ends_when_its_process_is_killed(world: LocalWorld) -> None:
    for groups in (Groups, _no_groups):
        compute = world.compute(payload="sleep 1000 & echo $! > sleeper; wait", groups=groups)
        (machine_id,) = compute.create(world.request(groups.__name__))
        sleeper = _pid_from(world.folder(machine_id) / "home/sleeper")
        os.kill(_record(world, machine_id)["pid"], signal.SIGKILL)
        await_states(compute, world, [machine_id], MachineState.STOPPED)
        assert _gone(sleeper)


@pytest.mark.parametrize("groups", [Groups, _no_groups], ids=["grouped", "ungrouped"])
def test_daemonised_grandchild_ends_when_the_machine_is_terminated(world: LocalWorld, groups: type) -> None:
    payload = (
        "setsid sh -c 'setsid sh -c \"echo \\$\\$ > daemon; trap : TERM; while :; do sleep 1000; done\" &' &"
    )
    compute = world.compute(payload=payload, groups=groups)
    (machine_id,) = compute.create(world.request("a"))
    daemon = _pid_from(world.folder(machine_id) / "home/daemon")
    compute.terminate(world.place, [machine_id])
    world.clock.moved += 9
    await_states(compute, world, [machine_id], MachineState.TERMINATED)
    assert _gone(daemon)


def test_process_without_environment_ends_when_the_machine_was_killed_in_a_group(world: LocalWorld) -> None:
    _needs("memory")
    payload = "env -i /usr/bin/setsid /bin/sh -c 'echo $$ > bare; while :; do /bin/sleep 1000; done' &"
    compute = world.compute(payload=payload)
    (machine_id,) = compute.create(world.request("a"))
    bare = _pid_from(world.folder(machine_id) / "home/bare")
    os.kill(_record(world, machine_id)["pid"], signal.SIGKILL)
    compute.terminate(world.place, [machine_id])
    await_states(compute, world, [machine_id], MachineState.TERMINATED)
    assert _gone(bare)


def test_terminate_kills_when_the_machine_does_not_react_in_time(world: LocalWorld) -> None:
    compute = world.compute(grace_seconds=600.0)
    (machine_id,) = compute.create(world.request("a"))
    pid = _record(world, machine_id)["pid"]
    os.kill(pid, signal.SIGSTOP)
    compute.terminate(world.place, [machine_id])
    compute.terminate(world.place, [machine_id])
    assert states(compute, world, [machine_id]) == [MachineState.TERMINATING]
    assert _record(world, machine_id)["escalate_at"] > world.clock.now()
    assert not _gone(pid)
    world.clock.moved += 601
    # The time by which it must be gone outlives the control plane that set it.
    await_states(world.compute(), world, [machine_id], MachineState.TERMINATED)
    assert _gone(pid)


def test_terminate_leaves_no_trace_when_finished(world: LocalWorld) -> None:
    compute = world.compute()
    (machine_id,) = compute.create(world.request("a"))
    groups = _record(world, machine_id)["cgroups"]
    compute.terminate(world.place, [machine_id])
    await_states(compute, world, [machine_id], MachineState.TERMINATED)
    assert not any(Path(group).exists() for group in groups)
    assert not list(world.claims.glob("*.claim"))
    assert not list((world.root / "nodes").glob("[!.]*"))
    assert not list((world.root / "nodes/.trash").iterdir())


def test_no_zombie_is_left_when_a_machine_of_this_process_ended(world: LocalWorld) -> None:
    compute = world.compute()
    (machine_id,) = compute.create(world.request("a"))
    pid = _record(world, machine_id)["pid"]
    compute.terminate(world.place, [machine_id])
    await_states(compute, world, [machine_id], MachineState.TERMINATED)
    assert not Path(f"/proc/{pid}").exists()


def test_another_process_is_spared_when_it_got_the_machines_pid(world: LocalWorld) -> None:
    compute = world.compute()
    (machine_id,) = compute.create(world.request("a"))
    os.kill(_record(world, machine_id)["pid"], signal.SIGKILL)
    bystander = subprocess.Popen(["sleep", "1000"])
    # Marks count clock ticks. No pid comes twice within one, but this test is that quick.
    while start_mark(bystander.pid) == _record(world, machine_id)["start_mark"]:
        bystander.kill()
        bystander.wait()
        bystander = subprocess.Popen(["sleep", "1000"])
    try:
        record = {**_record(world, machine_id), "pid": bystander.pid}
        (world.folder(machine_id) / "machine.json").write_text(json.dumps(record))
        compute.terminate(world.place, [machine_id])
        world.clock.moved += 9
        await_states(compute, world, [machine_id], MachineState.TERMINATED)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_machine_sees_a_minimal_environment_when_started(
    world: LocalWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not for machines")
    compute = world.compute()
    (machine_id,) = compute.create(world.request("a"))
    eventually((world.folder(machine_id) / "agent/machine.pid").exists, "the shell has become the machine")
    process = Path("/proc") / str(_record(world, machine_id)["pid"])
    names = {
        entry.split(b"=")[0].decode() for entry in (process / "environ").read_bytes().split(b"\0") if entry
    }
    assert names - {"PWD", "OLDPWD"} == {
        *("PATH", "LANG", "HOME", "USER", "TMPDIR", "STIX_MACHINE_ID", "STIX_ENGINE_HOME")
    }
    assert os.readlink(process / "cwd") == str(world.folder(machine_id))
    status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines())
    assert int(status["SigBlk"], 16) == 0
    assert int(status["SigIgn"], 16) & (1 << (signal.SIGINT - 1)) == 0


def test_machine_inherits_no_descriptor_when_started(world: LocalWorld) -> None:
    compute = world.compute()
    with open(__file__) as held:
        os.set_inheritable(held.fileno(), False)
        (machine_id,) = compute.create(world.request("a"))
        pid = _record(world, machine_id)["pid"]
        opened = set()
        for path in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # The machine opens and closes files of its own meanwhile.
                opened.add(os.readlink(path))
    assert opened
    assert __file__ not in opened


# --- what is on the disk ---


def test_home_survives_when_the_machine_is_stopped_and_started(world: LocalWorld) -> None:
    compute = world.compute(payload="date >> boots; echo $$ > booted")
    (machine_id,) = compute.create(world.request("a"))
    home = world.folder(machine_id) / "home"
    first = _pid_from(home / "booted")
    compute.stop(world.place, [machine_id])
    await_states(compute, world, [machine_id], MachineState.STOPPED)
    compute.start(world.place, [machine_id])
    eventually(lambda: _pid_from(home / "booted") != first, "it booted again")
    assert len((home / "boots").read_text().splitlines()) == 2


def test_start_says_what_to_do_when_the_agents_config_is_lost(world: LocalWorld) -> None:
    compute = world.compute()
    (machine_id,) = compute.create(world.request("a"))
    compute.stop(world.place, [machine_id])
    await_states(compute, world, [machine_id], MachineState.STOPPED)
    (world.folder(machine_id) / "agent.json").write_text("")
    with pytest.raises(ProviderError, match="launch it again"):
        compute.start(world.place, [machine_id])


def test_folders_are_private_when_made(world: LocalWorld) -> None:
    compute = world.compute()
    (machine_id,) = compute.create(world.request("a"))
    folder = world.folder(machine_id)
    for path in (world.root / "nodes", folder, folder / "home", folder / "agent", folder / "tmp"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    for name in ("agent.json", "machine.json", "machine.log"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600, name


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"id": "other"}', b"\xff\xfe\x00", None])
def test_machine_is_reported_and_can_be_ended_when_its_record_is_damaged(
    world: LocalWorld, damage: bytes | None
) -> None:
    compute = world.compute()
    broken, whole = compute.create(world.request("a", 2))
    pid = _record(world, broken)["pid"]
    path = world.folder(broken) / "machine.json"
    path.unlink() if damage is None else path.write_bytes(damage)
    listed = {machine.id: machine for machine in compute.list_tagged(world.place, "dep")}
    assert set(listed) == {broken, whole}
    assert str(path) in listed[broken].reason
    assert listed[broken].state is MachineState.RUNNING
    with pytest.raises(ProviderError, match=r"machine\.json"):
        compute.create(world.request("a", 2))
    compute.terminate(world.place, [broken])
    await_states(compute, world, [broken], MachineState.TERMINATED)
    assert _gone(pid)
    assert states(compute, world, [whole]) == [MachineState.RUNNING]


# --- a control plane that is killed ---

_KILLED_WHILE_CREATING = """
import os, sys
from pathlib import Path
from stix.clouds.local.node import Nodes
from stix.clouds.local import LocalCompute
from tests.contract.compute_worlds import LocalWorld
from tests.waiting import eventually

when = sys.argv[3]
start = Nodes.start
def dying_start(self, folder, record):
    if when == "before-start" and record.index == 1:
        os._exit(9)
    launch = start(self, folder, record)
    if when == "after-spawn" and record.index == 1:
        os._exit(9)
    if when == "after-boot" and record.index == 1:
        eventually(lambda: (folder / "agent/machine.pid").exists())
        os._exit(9)
    return launch
Nodes.start = dying_start
if when == "after-place":
    LocalCompute._run = lambda *_: os._exit(9)
world = LocalWorld(Path(sys.argv[1]), Path(sys.argv[2]))
world.compute().create(world.request("a", 3))
if when == "afterwards":
    os.kill(os.getpid(), 9)
"""


def test_machine_runs_when_whoever_started_it_dies_before_it_says_so(tmp_path: Path) -> None:
    group = tmp_path / "group"
    group.mkdir()
    os.mkfifo(group / "cgroup.procs")  # where the shell waits
    started = launch(tmp_path, ["sleep", "60"], {"PATH": os.environ["PATH"]}, [str(group)])
    assert started is not None
    os.close(started.report)
    process = psutil.Process(started.pid)
    try:
        assert (group / "cgroup.procs").read_text() == f"{started.pid}\n"
        eventually(lambda: process.is_running() and process.cmdline()[:1] == ["sleep"], "it is the machine")
    finally:
        process.kill()
        os.waitpid(started.pid, 0)


@pytest.mark.parametrize("when", ["after-place", "before-start", "after-spawn", "after-boot", "afterwards"])
@pytest.mark.parametrize("then", ["completed", "undone"])
def test_gang_is_completed_or_undone_when_the_control_plane_was_killed(
    world: LocalWorld, tmp_path: Path, when: str, then: str
) -> None:
    command = [sys.executable, "-c", _KILLED_WHILE_CREATING, tmp_path, world.archive, when]
    died = subprocess.run(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, timeout=60)
    assert died.returncode in (9, -signal.SIGKILL)
    compute = world.compute()
    known = [machine.id for machine in compute.list_tagged(world.place, "dep")]
    assert len(known) == 3
    if then == "undone":
        compute.terminate(world.place, known)
        await_states(compute, world, known, MachineState.TERMINATED)
    else:
        # A process that has not even written its pid yet answers "the same call again".
        eventually(lambda: _created_or_throttled(compute, world), "the gang is complete")
        ids = compute.create(world.request("a", 3))
        assert ids == known
        await_states(compute, world, ids, MachineState.RUNNING)
    for machine_id in known:
        # A child that has not become the agent yet still carries the machine's command: look until it has.
        eventually(
            lambda one=machine_id: _machine_processes(one) == (1 if then == "completed" else 0), "one of each"
        )


def _created_or_throttled(compute: LocalCompute, world: LocalWorld) -> bool:
    try:
        compute.create(world.request("a", 3))
    except ThrottledError:
        return False
    return True


def _machine_processes(machine_id: str) -> int:
    found = 0
    for pid in processes():
        try:
            words = (Path("/proc") / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        found += "machine" in words and any(machine_id in word for word in words)
    return found


def test_started_machine_is_adopted_when_the_control_plane_died_before_writing_it_down(
    world: LocalWorld, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", _KILLED_WHILE_CREATING, tmp_path, world.archive, "after-boot"]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, timeout=60)
    compute = world.compute()
    second = [machine.id for machine in compute.list_tagged(world.place, "dep")][1]
    assert states(compute, world, [second]) == [MachineState.RUNNING]
    pid = int((world.folder(second) / "pid").read_text())
    compute.create(world.request("a", 3))
    assert _record(world, second)["pid"] == pid
    assert not _gone(pid)


def test_machine_is_not_started_again_when_its_process_holds_the_lock(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"]}
    first = launch(tmp_path, ["sleep", "1000"], environment, [])
    assert first is not None
    try:
        assert launch(tmp_path, ["sleep", "1000"], environment, []) is None
        await_started({"m": first}, {"m": tmp_path})
    finally:
        os.kill(first.pid, signal.SIGKILL)
        os.waitpid(first.pid, 0)
    again = launch(tmp_path, ["false"], environment, [])
    assert again is not None
    os.close(again.report)
    os.waitpid(again.pid, 0)


# --- a process that cannot start ---


def test_create_says_why_when_the_agent_is_missing(world: LocalWorld, tmp_path: Path) -> None:
    world.archive = tmp_path / "nowhere.pyz"
    with pytest.raises(ProviderError, match=r"nowhere\.pyz"):
        world.compute().create(world.request("a", 2))
    assert list(world.compute().list_tagged(world.place, "dep")) == []


def test_create_gives_the_processes_words_when_it_cannot_enter_its_group(
    world: LocalWorld, tmp_path: Path
) -> None:
    class Unenterable(Groups):
        def create(self, machine_id: str, *, cpus: float, memory_gib: float) -> tuple[str, ...]:
            return (str(tmp_path / "no-such-group"),)

    compute = world.compute(groups=lambda: Unenterable([]))
    with pytest.raises(ProviderError, match=r"cannot enter the control group .*no-such-group"):
        compute.create(world.request("a", 2))
    eventually(lambda: not list(compute.list_tagged(world.place, "dep")), "nothing is left")


def test_machine_says_why_when_its_agent_is_broken(world: LocalWorld, tmp_path: Path) -> None:
    world.archive = tmp_path / "broken.pyz"
    with zipfile.ZipFile(world.archive, "w") as archive:
        archive.writestr("__main__.py", "raise SystemExit('this agent is broken')")
    compute = world.compute()
    ids = compute.create(world.request("a"))
    (machine,) = await_states(compute, world, ids, MachineState.STOPPED)
    assert machine.reason == "the machine process ended: this agent is broken"


# --- what machines must not share ---


def test_addresses_are_unique_when_twenty_gangs_are_created_at_once(
    world: LocalWorld, tmp_path: Path
) -> None:
    roots = [world.root, tmp_path / "second"]
    with ThreadPoolExecutor(20) as pool:
        gangs = list(
            pool.map(
                lambda number: world.compute(root=roots[number % 2]).create(world.request(f"t{number // 2}")),
                range(20),
            )
        )
    try:
        assert len({machine_id for gang in gangs for machine_id in gang}) == 20
        addresses = [
            machine.address
            for root in roots
            for machine in world.compute(root=root).list_tagged(world.place, "dep")
        ]
        assert len(addresses) == len(set(addresses)) == 20
        for address in addresses:
            with socket.socket() as listener:
                listener.bind((address, 0))
    finally:
        second = world.compute(root=roots[1], grace_seconds=0.0)
        ids = [machine.id for machine in second.list_tagged(world.place, "dep")]
        second.terminate(world.place, ids)
        await_states(second, world, ids, MachineState.TERMINATED)


def test_gpus_are_exclusive_when_clusters_share_the_computer(world: LocalWorld) -> None:
    world.host = lambda: Host(4, 8, (Gpu(0, "A100", 40), Gpu(1, "A100", 40), Gpu(2, "T4", 16)))
    compute = world.compute()

    def granted(machine_id: str) -> list[int]:
        config = json.loads((world.folder(machine_id) / "agent.json").read_text())
        return [gpu["index"] for gpu in config["gpus"]]

    (first,) = compute.create(world.request("a", accelerator="A100", accelerator_count=1))
    (half,) = compute.create(world.request("b", accelerator="A100", accelerator_count=0.5))
    (none,) = compute.create(world.request("c"))
    assert sorted(granted(first) + granted(half)) == [0, 1]
    assert granted(none) == []
    with pytest.raises(NoCapacityError, match=r"GPU 0 by c-a.*GPU 1 by c-b"):
        compute.create(world.request("d", accelerator="A100", accelerator_count=1))
    (other_kind,) = compute.create(world.request("e", accelerator="T4", accelerator_count=1))
    assert granted(other_kind) == [2]

    compute.stop(world.place, [first])
    await_states(compute, world, [first], MachineState.STOPPED)
    (taker,) = compute.create(world.request("f", accelerator="A100", accelerator_count=1))
    with pytest.raises(NoCapacityError, match="c-f"):
        compute.start(world.place, [first])
    compute.terminate(world.place, [taker])
    await_states(compute, world, [taker], MachineState.TERMINATED)
    compute.start(world.place, [first])
    assert granted(first) == [0]


def test_create_leaves_nothing_when_gpus_suffice_for_half_the_gang(world: LocalWorld) -> None:
    world.host = lambda: Host(4, 8, (Gpu(0, "A100", 40), Gpu(1, "A100", 40)))
    compute = world.compute()
    with pytest.raises(NoCapacityError):
        compute.create(world.request("a", 3, accelerator="A100", accelerator_count=1))
    assert list(compute.list_tagged(world.place, "dep")) == []
    ids = compute.create(world.request("b", 2, accelerator="A100", accelerator_count=1))
    await_states(compute, world, ids, MachineState.RUNNING)


# --- limits ---


def test_hog_is_killed_when_it_passes_the_memory_of_its_machine(world: LocalWorld) -> None:
    _needs("memory")
    hog = (
        f"{sys.executable} -c 'x = bytearray(400 << 20); x[::4096] = b\"x\" * len(x[::4096])'; echo $? > code"
    )
    compute = world.compute(payload=hog)
    (small,) = compute.create(world.request("a", memory_gib=0.125))
    (large,) = compute.create(world.request("b", memory_gib=1))
    assert _pid_from(world.folder(small) / "home/code") == 128 + signal.SIGKILL
    assert _pid_from(world.folder(large) / "home/code") == 0
    await_states(compute, world, [small, large], MachineState.RUNNING)


def test_cpu_time_is_bounded_when_the_machine_has_half_a_cpu(world: LocalWorld) -> None:
    _needs("cpu")
    compute = world.compute(payload="(while :; do :; done) & (while :; do :; done) & wait")
    (machine_id,) = compute.create(world.request("a", vcpus=0.5))
    paths = [Path(path) for path in _record(world, machine_id)["cgroups"]]
    throttled = [path / "cpu.stat" for path in paths if (path / "cpu.stat").exists()]

    def periods() -> int:
        lines = dict(line.split() for path in throttled for line in path.read_text().splitlines())
        return int(lines["nr_throttled"])

    eventually(lambda: periods() >= 3, "the machine was held back")


def test_limits_are_told_to_the_agent_when_there_are_none(world: LocalWorld) -> None:
    compute = world.compute(groups=_no_groups)
    (machine_id,) = compute.create(world.request("a"))
    config = json.loads((world.folder(machine_id) / "agent.json").read_text())
    assert config["limits"] == {"cpu": "none", "memory": "none", "network": "own loopback address"}


def test_machine_runs_and_ends_when_processes_are_listed_by_ps(
    world: LocalWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_listing, "PROC", tmp_path / "no-proc")
    compute = world.compute(groups=_no_groups, payload="sleep 1000 & echo $! > sleeper; wait")
    (machine_id,) = compute.create(world.request("a"))
    await_states(compute, world, [machine_id], MachineState.RUNNING)
    sleeper = _pid_from(world.folder(machine_id) / "home/sleeper")
    compute.terminate(world.place, [machine_id])
    await_states(compute, world, [machine_id], MachineState.TERMINATED)
    assert _gone(sleeper)


# --- the real agent ---


def test_real_agent_runs_when_the_real_archive_is_used(world: LocalWorld, tmp_path: Path) -> None:
    source = Path(agent_archive.__file__).with_name("agent.py")
    if not source.exists():
        pytest.skip("the agent's main module is not part of this tree")
    world.archive = tmp_path / "real.pyz"
    agent_archive.build_archive(world.archive)
    compute = world.compute()
    (machine_id,) = compute.create(world.request("a"))
    log = world.folder(machine_id) / "agent" / "agent.log"
    eventually(lambda: log.exists() and log.stat().st_size > 0, "the agent wrote its log")
    assert states(compute, world, [machine_id]) == [MachineState.RUNNING]
    compute.terminate(world.place, [machine_id])
    await_states(compute, world, [machine_id], MachineState.TERMINATED)
