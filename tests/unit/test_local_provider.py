"""The local provider's decisions and readings, without a process."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from stix.clouds.local.cgroups import CgroupTree, Groups, cgroup_trees, enclosing_limits
from stix.clouds.local.claims import SHARED_ADDRESS, Claims, Holder
from stix.clouds.local.host import Gpu, accelerator_name, discover_host, parse_smi
from stix.clouds.local.lifecycle import Seen, Step, Verdict, Wanted, judge
from stix.clouds.local.records import MachineFolders, MachineRecord, RecordError
from stix.ports.compute import MachineState as State

_ALIVE, _LEFTOVERS, _NOTHING = Seen(True), Seen(False, 2), Seen(False)


def _judge(
    wanted: Wanted, seen: Seen, *, now: float = 0, escalate_at: float | None = 8, launched: bool = True
) -> Verdict:
    return judge(wanted, launched=launched, seen=seen, escalate_at=escalate_at, now=now)


# --- lifecycle ---


@pytest.mark.parametrize(
    ("wanted", "seen", "now", "state", "step"),
    [
        (Wanted.RUNNING, _ALIVE, 0, State.RUNNING, Step.NOTHING),
        (Wanted.RUNNING, _LEFTOVERS, 0, State.STOPPING, Step.KILL),
        (Wanted.RUNNING, _NOTHING, 0, State.STOPPED, Step.RELEASE),
        (Wanted.STOPPED, _ALIVE, 7.9, State.STOPPING, Step.NOTHING),
        (Wanted.STOPPED, _ALIVE, 8, State.STOPPING, Step.KILL),
        (Wanted.STOPPED, _LEFTOVERS, 0, State.STOPPING, Step.KILL),
        (Wanted.STOPPED, _NOTHING, 0, State.STOPPED, Step.RELEASE),
        (Wanted.TERMINATED, _ALIVE, 7.9, State.TERMINATING, Step.NOTHING),
        (Wanted.TERMINATED, _ALIVE, 8, State.TERMINATING, Step.KILL),
        (Wanted.TERMINATED, _LEFTOVERS, 0, State.TERMINATING, Step.KILL),
        (Wanted.TERMINATED, _NOTHING, 0, State.TERMINATED, Step.REMOVE),
    ],
)
def test_judge_names_state_and_step_when_seen(
    wanted: Wanted, seen: Seen, now: float, state: State, step: Step
) -> None:
    verdict = _judge(wanted, seen, now=now)
    assert (verdict.state, verdict.step) == (state, step)


def test_judge_says_pending_when_nothing_was_ever_started() -> None:
    assert _judge(Wanted.RUNNING, _NOTHING, launched=False).state is State.PENDING


def test_judge_never_removes_when_something_of_the_machine_lives() -> None:
    for wanted, seen, now, launched in itertools.product(
        Wanted, (_ALIVE, _LEFTOVERS), (0, 100), (True, False)
    ):
        step = _judge(wanted, seen, now=now, launched=launched).step
        assert step in (Step.NOTHING, Step.KILL), (wanted, seen, now)


def test_judge_kills_at_once_when_an_ending_machine_has_no_time_left_to_it() -> None:
    assert _judge(Wanted.TERMINATED, _ALIVE, escalate_at=None).step is Step.KILL


# --- records ---


def test_record_comes_back_whole_when_written(tmp_path: Path) -> None:
    folders = MachineFolders(tmp_path)
    record = MachineRecord(
        "m",
        tags={"a": "ü"},
        gpus=({"index": 1, "name": "T4", "memory_gib": 16.0},),
        cgroups=("/x",),
        wanted=Wanted.STOPPED,
        escalate_at=3.5,
    )
    folders.place(record)
    assert folders.read("m") == record
    folders.write(record.changed(pid=5))
    assert folders.read("m") == record.changed(pid=5)
    assert folders.ids() == ["m"]


def test_record_ignores_fields_when_a_newer_release_wrote_them(tmp_path: Path) -> None:
    folders = MachineFolders(tmp_path)
    folders.place(MachineRecord("m"))
    path = folders.folder("m") / "machine.json"
    path.write_text(path.read_text().replace("{", '{"later": 1,', 1))
    assert folders.read("m") == MachineRecord("m")


def test_record_is_none_when_unknown_and_an_error_when_lost(tmp_path: Path) -> None:
    folders = MachineFolders(tmp_path)
    assert folders.read("m") is None
    folders.place(MachineRecord("m"))
    (folders.folder("m") / "machine.json").unlink()
    with pytest.raises(RecordError, match="missing"):
        folders.read("m")


def test_machine_is_unknown_at_once_when_removed(tmp_path: Path) -> None:
    folders = MachineFolders(tmp_path)
    folders.place(MachineRecord("m"))
    folders.remove("m")
    assert folders.read("m") is None
    assert folders.ids() == []
    folders.empty_trash()
    assert list((tmp_path / "nodes/.trash").iterdir()) == []


def test_failed_write_keeps_the_old_record_when_the_disk_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = MachineFolders(tmp_path)
    folders.place(MachineRecord("m"))

    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(OSError, match="No space"):
            folders.write(MachineRecord("m", pid=7))
    assert folders.read("m") == MachineRecord("m")
    assert not list(folders.folder("m").glob("*.new"))


# --- claims ---


def _holder(tmp_path: Path, name: str) -> Holder:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "machine.json").touch()
    return Holder(str(folder), f"c-{name}")


def test_address_is_taken_once_when_two_machines_start_at_the_same_number(tmp_path: Path) -> None:
    claims = Claims(tmp_path / "claims")
    first, second = _holder(tmp_path, "a"), _holder(tmp_path, "b")
    with claims.locked() as ledger:
        one = ledger.take_address("token", 0, first)
    with claims.locked() as ledger:
        other = ledger.take_address("token", 0, second)
    assert one != other
    assert all(64 <= int(address.split(".")[1]) <= 127 for address in (one, other))


def test_addresses_are_neighbours_when_they_belong_to_one_gang(tmp_path: Path) -> None:
    with Claims(tmp_path / "claims").locked() as ledger:
        found = [ledger.take_address("t", index, _holder(tmp_path, str(index))) for index in range(3)]
    tails = [int(address.split(".")[3]) for address in found]
    assert {(after - before) % 254 for before, after in itertools.pairwise(tails)} == {1}


def test_claim_is_void_when_its_holder_has_no_record(tmp_path: Path) -> None:
    claims = Claims(tmp_path / "claims")
    holder = _holder(tmp_path, "a")
    with claims.locked() as ledger:
        address = ledger.take_address("token", 0, holder)
    (tmp_path / "a/machine.json").unlink()
    (tmp_path / "claims/gpu-0.claim").write_text("not a claim")
    with claims.locked() as ledger:
        assert ledger.take_address("token", 0, _holder(tmp_path, "b")) == address
        assert ledger.gpu_holders([0]) == {}


def test_address_is_shared_when_the_system_routes_no_other_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stix.clouds.local.claims._can_bind", lambda address: False)
    with Claims(tmp_path / "claims").locked() as ledger:
        assert ledger.take_address("token", 0, _holder(tmp_path, "a")) == SHARED_ADDRESS
    assert not list((tmp_path / "claims").glob("*.claim"))


def test_no_gpu_is_taken_when_too_few_are_free(tmp_path: Path) -> None:
    first, second = _holder(tmp_path, "a"), _holder(tmp_path, "b")
    with Claims(tmp_path / "claims").locked() as ledger:
        assert ledger.take_gpus([0, 1, 2], 2, first) == [0, 1]
        assert ledger.take_gpus([0, 1, 2], 2, second) == [2]
        assert ledger.gpu_holders([0, 1, 2]) == {0: first, 1: first}
        assert ledger.take_gpus([0, 1, 2], 3, first) == [0, 1, 2]


# --- the computer ---


@pytest.mark.parametrize(
    ("product", "memory_gib", "name"),
    [
        ("NVIDIA A100-SXM4-80GB", 80, "A100-80GB"),
        ("NVIDIA A100-SXM4-40GB", 40, "A100"),
        ("NVIDIA A100 80GB PCIe", 80, "A100-80GB"),
        ("NVIDIA H100 80GB HBM3", 80, "H100"),
        ("NVIDIA H200", 141, "H200"),
        ("Tesla V100-SXM2-16GB", 16, "V100"),
        ("Tesla V100-SXM2-32GB", 32, "V100-32GB"),
        ("Tesla T4", 15, "T4"),
        ("NVIDIA L40S", 45, "L40S"),
        ("NVIDIA GeForce RTX 4090", 24, "RTX4090"),
        ("NVIDIA RTX A6000", 48, "A6000"),
        ("NVIDIA RTX 6000 Ada Generation", 48, "RTX6000-Ada"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 96, "RTXPRO6000"),
    ],
)
def test_accelerator_name_is_the_usual_one_when_the_driver_names_the_product(
    product: str, memory_gib: float, name: str
) -> None:
    assert accelerator_name(product, memory_gib) == name


def test_gpus_are_read_when_the_tool_lists_them() -> None:
    answer = "0, NVIDIA A100-SXM4-80GB, 81920\n1, Tesla T4, 15360\n2, NVIDIA Thor, [N/A]\nNo devices\n"
    assert parse_smi(answer) == (Gpu(0, "A100-80GB", 80.0), Gpu(1, "T4", 15.0))


def test_host_has_cpus_and_memory_when_discovered() -> None:
    host = discover_host()
    assert 0 < host.cpus <= (os.cpu_count() or 1)
    assert host.memory_gib > 0


# --- control groups ---


def _process(folder: Path, mountinfo: str, cgroup: str) -> Path:
    folder.mkdir()
    (folder / "mountinfo").write_text(mountinfo)
    (folder / "cgroup").write_text(cgroup)
    return folder


def test_v1_trees_are_found_when_each_controller_is_mounted(tmp_path: Path) -> None:
    for name in ("cpu/job", "memory/job/deep"):
        (tmp_path / name).mkdir(parents=True)
    process = _process(
        tmp_path / "self",
        f"33 31 0:31 / {tmp_path}/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
        f"34 31 0:31 / {tmp_path}/memory rw - cgroup cgroup rw,memory\n"
        f"35 31 0:31 / {tmp_path}/pids rw - cgroup cgroup rw,pids\n"
        "36 31 0:31 / /tmp rw - tmpfs tmpfs rw\n",
        "3:memory:/job/deep\n2:cpu,cpuacct:/job\n1:pids:/\n",
    )
    assert cgroup_trees(process) == [
        CgroupTree(1, ("cpu",), tmp_path / "cpu", tmp_path / "cpu/job"),
        CgroupTree(1, ("memory",), tmp_path / "memory", tmp_path / "memory/job/deep"),
    ]


def test_own_group_is_the_mount_when_a_container_sees_only_its_own(tmp_path: Path) -> None:
    process = _process(
        tmp_path / "self", f"33 31 0:31 /docker/abc {tmp_path} rw - cgroup2 cgroup rw\n", "0::/docker/abc\n"
    )
    (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
    assert cgroup_trees(process) == [CgroupTree(2, ("cpu", "memory"), tmp_path, tmp_path)]


def test_no_tree_is_found_when_the_system_has_no_groups(tmp_path: Path) -> None:
    assert cgroup_trees(tmp_path / "absent") == []


def test_limits_are_the_tightest_when_groups_are_nested(tmp_path: Path) -> None:
    inner = tmp_path / "outer/inner"
    inner.mkdir(parents=True)
    (tmp_path / "outer/cpu.max").write_text("150000 100000\n")
    (inner / "cpu.max").write_text("max 100000\n")
    (tmp_path / "outer/memory.max").write_text("2147483648\n")
    (inner / "memory.max").write_text("max\n")
    limits = enclosing_limits([CgroupTree(2, ("cpu", "memory"), tmp_path, inner)])
    assert (limits.cpus, limits.memory_bytes) == (1.5, 2**31)


def test_limits_are_none_when_v1_says_unlimited(tmp_path: Path) -> None:
    (tmp_path / "cpu.cfs_quota_us").write_text("-1\n")
    (tmp_path / "cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    limits = enclosing_limits([CgroupTree(1, ("cpu", "memory"), tmp_path, tmp_path)])
    assert (limits.cpus, limits.memory_bytes) == (None, None)


def test_groups_claim_no_limit_when_they_cannot_be_written(tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    groups = Groups(
        [CgroupTree(1, ("memory",), absent, absent), CgroupTree(2, ("cpu", "memory"), absent, absent)]
    )
    assert groups.limits() == {"cpu": "none", "memory": "none"}
    assert groups.create("m", cpus=1, memory_gib=1) == ()


def test_v2_limits_are_written_when_the_group_was_delegated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cgroup.subtree_control").write_text("cpu memory")
    group = tmp_path / "stix/m"
    group.mkdir(parents=True)
    for name in ("memory.max", "memory.swap.max", "cpu.max"):
        (group / name).touch()
    (tmp_path / "stix/cgroup.controllers").write_text("cpu memory io")
    (tmp_path / "stix/cgroup.subtree_control").touch()
    # A plain folder stands for the kernel's: its files keep what is written, "+cpu" included.
    monkeypatch.setattr("stix.clouds.local.cgroups._accepts_processes", lambda group: True)
    groups = Groups([CgroupTree(2, ("cpu", "memory"), tmp_path, tmp_path / "session")])
    assert groups.create("m", cpus=1.5, memory_gib=2) == (str(group),)
    assert (tmp_path / "stix/cgroup.subtree_control").read_text() == "+memory +cpu"
    assert (group / "memory.max").read_text() == str(2 * 2**30)
    assert (group / "memory.swap.max").read_text() == "0"
    assert (group / "cpu.max").read_text() == "150000 100000"


def test_only_old_groups_of_nobody_are_removed_when_cleaning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stix.clouds.local.cgroups._accepts_processes", lambda group: True)
    groups = Groups([CgroupTree(1, ("memory",), tmp_path, tmp_path)])
    (tmp_path / "stix/a-file").touch()
    (tmp_path / "stix/vanished").symlink_to(tmp_path / "nowhere")
    for name, age in (("known", 100), ("unknown", 100), ("young", 0)):
        folder = tmp_path / "stix" / name
        folder.mkdir(parents=True)
        os.utime(folder, (1000 - age, 1000 - age))
    groups.remove_unknown({"known"}, before=950)
    assert sorted(path.name for path in (tmp_path / "stix").iterdir()) == [
        "a-file",
        "known",
        "vanished",
        "young",
    ]
