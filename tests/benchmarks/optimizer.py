"""What a plan costs on a catalog of over 110,000 offers, and that it equals a scan of them all."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from stix.catalog.index import CatalogIndex, compile_index, open_index
from stix.catalog.row import CatalogRow
from stix.optimizer import milp
from stix.optimizer.optimize import optimize
from stix.optimizer.plan import Plan
from stix.optimizer.request import Alternative, Link, Machine, Request, TaskRequest

from .catalog_generator import ACCELERATORS, AS_OF, generate
from .control_plane import clean_environment
from .dag_generator import generate_dag, generated_rates
from .figures import Record, median, percentile

_REQUESTS, _SCANS = 1000, 1000
_CHAIN, _SEEDS = 20, 10
_RATES = generated_rates()
_ANY_OF = ("A100", "H100", "L4", "A10G", "V100", "T4", "A100-80GB", "H200", "L40S", "V100-32GB")


def measure(record: Record) -> None:
    with tempfile.TemporaryDirectory(prefix="stix-bench-") as folder:
        path = Path(folder) / "prices.index"
        rows = list(generate())
        began = time.process_time()
        compile_index(rows, path)
        record.note(
            f"{len(rows)} offers compiled in {time.process_time() - began:.1f} CPU-s,"
            f" {path.stat().st_size / 2**20:.1f} MiB"
        )
        record.add("offers", len(rows))
        index = open_index(path)
        try:
            _measure_single(record, index)
            record.add("differences", _differences(index, rows))
            record.add("accelerators", median([_spent(index.accelerators)[0] for _ in range(50)]))
            chains = list(_chains())
            record.add(
                "chain", median([_spent(lambda r=request: _optimize(r, index))[0] for request in chains])
            )
            _measure_graphs(record, index)
        finally:
            index.close()
        _measure_process(record, path)
        _measure_command(record, Path(folder) / "home")


def _optimize(request: Request, index: CatalogIndex) -> Plan:
    return optimize(request, index, now=AS_OF, rates=_RATES)


def _spent(call: Callable[[], object]) -> tuple[float, object]:
    """Milliseconds of CPU: the cores are not ours alone."""
    began = time.process_time_ns()
    result = call()
    return (time.process_time_ns() - began) / 1e6, result


# -- one task ------------------------------------------------------------------------------------------------


def _measure_single(record: Record, index: CatalogIndex) -> None:
    medians: dict[str, list[float]] = {"a100_8": [], "cpus": [], "any_of_5": []}
    spreads = []
    for name, make in _KINDS.items():
        for spot in (False, True):
            rng = random.Random(f"{name} {spot}")
            requests = [_request(make(rng), spot) for _ in range(_REQUESTS)]
            assert len({request.tasks[0].alternatives for request in requests}) == _REQUESTS, (
                "every request is another one"
            )
            for request in requests[:20]:
                _optimize(request, index)
            spent = [_spent(lambda r=request: _optimize(r, index))[0] for request in requests]
            middle = median(spent)
            spreads.append(percentile(spent, 95) / middle)
            medians[name if name in medians else "cpus"].append(middle)
            record.note(
                f"{name}{' spot' * spot}: median {middle:.2f} CPU-ms, p95 {percentile(spent, 95):.2f}"
            )
    for name, found in medians.items():
        record.add(name, max(found))
    record.add("p95_ratio", max(spreads))


def _a100(rng: random.Random) -> list[Machine]:
    return [
        Machine(
            accelerator="A100",
            accelerator_count=8,
            vcpus=rng.uniform(1, 30),
            vcpus_at_least=True,
            memory_gib=rng.uniform(1, 60),
            memory_at_least=True,
        )
    ]


def _sized(vcpus: float, memory: float = 0) -> Callable[[random.Random], list[Machine]]:
    def make(rng: random.Random) -> list[Machine]:
        return [
            Machine(
                vcpus=vcpus * rng.uniform(0.6, 1.0),
                vcpus_at_least=True,
                memory_gib=memory * rng.uniform(0.6, 1.0) if memory else None,
                memory_at_least=True,
            )
        ]

    return make


def _five(rng: random.Random) -> list[Machine]:
    least = rng.uniform(1, 4)
    return [
        Machine(
            accelerator=name, accelerator_count=rng.choice((1, 2, 4, 8)), vcpus=least, vcpus_at_least=True
        )
        for name in rng.sample(_ANY_OF, 5)
    ]


_KINDS: dict[str, Callable[[random.Random], list[Machine]]] = {
    "a100_8": _a100,
    "8+": _sized(8),
    "8+/64+": _sized(8, 64),
    "64+/512+": _sized(64, 512),
    "any_of_5": _five,
}


def _task(name: str, machines: list[Machine], spot: bool, seconds: float = 3600) -> TaskRequest:
    alternatives = tuple(Alternative(machine, spot, 256, "medium") for machine in machines)
    return TaskRequest(name, alternatives, seconds=seconds)


def _request(machines: list[Machine], spot: bool) -> Request:
    return Request((_task("", machines, spot),))


# -- equal to a scan -----------------------------------------------------------------------------------------


def _differences(index: CatalogIndex, rows: list[CatalogRow]) -> int:
    """Of random requests, how many get another list of best offers than a scan of all rows gives."""
    rng = random.Random(11)
    different = 0
    for _ in range(_SCANS):
        machine, spot = _random_machine(rng, rows), rng.random() < 0.5
        found = [
            (offer.price, offer.cloud, offer.region, offer.zone, offer.instance_type)
            for offer in index.best_per_place(machine, spot=spot)
        ]
        different += found != _scan(rows, machine, spot)
    return different


def _random_machine(rng: random.Random, rows: list[CatalogRow]) -> Machine:
    like = rng.choice(rows)
    with_cpus, with_memory = rng.random() < 0.7, rng.random() < 0.6
    accelerated = rng.random() < 0.4
    per_vcpu = rng.random() < 0.2
    place = rng.choice(("", "", "", "cloud", "region", "zone"))
    return Machine(
        vcpus=like.vcpus if with_cpus else None,
        vcpus_at_least=rng.random() < 0.7,
        memory_gib=(rng.choice((2, 4, 8)) if per_vcpu else like.memory_gib) if with_memory else None,
        memory_at_least=rng.random() < 0.7,
        memory_per_vcpu=per_vcpu,
        accelerator=rng.choice(list(ACCELERATORS)) if accelerated else "",
        accelerator_count=rng.choice((0.5, 1, 2, 4, 8)) if accelerated else 0,
        cloud=like.cloud if place == "cloud" else "",
        region=like.region if place == "region" else "",
        zone=like.zone if place == "zone" else "",
        arch=rng.choice(("", "", "x86_64", "arm64")),
    )


def _scan(rows: list[CatalogRow], asked: Machine, spot: bool) -> list[tuple[float, str, str, str, str]]:
    best: dict[tuple[str, str, str], tuple[object, ...]] = {}
    for row in rows:
        price = row.spot_price if spot else row.price
        if price is None or not _meets(row, asked):
            continue
        place = (row.cloud, row.region, row.zone)
        rank = (price, row.accelerator_count, row.vcpus, row.memory_gib, place, row.instance_type)
        if place not in best or rank < best[place]:
            best[place] = rank
    return [(rank[0], *rank[4], rank[5]) for rank in sorted(best.values())]  # type: ignore[misc]


def _meets(row: CatalogRow, asked: Machine) -> bool:
    if asked.vcpus is not None and (
        row.vcpus < asked.vcpus or (row.vcpus > asked.vcpus and not asked.vcpus_at_least)
    ):
        return False
    if asked.memory_gib is not None:
        least = asked.memory_gib * (row.vcpus if asked.memory_per_vcpu else 1)
        more = asked.memory_at_least or asked.memory_per_vcpu
        if row.memory_gib < least or (row.memory_gib > least and not more):
            return False
    if asked.accelerator:
        if row.accelerator != asked.accelerator:
            return False
        count = asked.accelerator_count
        if not (row.accelerator_count == count if count >= 1 else count <= row.accelerator_count <= 1):
            return False
    return (
        asked.cloud in ("", row.cloud)
        and asked.region in ("", row.region)
        and asked.zone in ("", row.zone)
        and asked.arch in ("", row.arch)
    )


# -- several tasks -------------------------------------------------------------------------------------------


def _chains() -> Iterator[Request]:
    for seed in range(30):
        rng = random.Random(seed)
        tasks = [
            _task(f"t{at}", _five(rng), rng.random() < 0.5, 3600 * rng.lognormvariate(0, 1))
            for at in range(_CHAIN)
        ]
        links = [Link(at, at + 1, rng.lognormvariate(2, 1)) for at in range(_CHAIN - 1)]
        yield Request(tuple(tasks), tuple(links))


def _measure_graphs(record: Record, index: CatalogIndex) -> None:
    if not milp.available():
        record.note("without the extra `dag`: large graphs are searched, not solved")
    else:
        import highspy  # noqa: F401 - its import is once for a process
    unproved = 0
    for gigabytes in (1, 20, 100):
        spent, gaps = [], []
        for seed in range(_SEEDS):
            request = generate_dag(seed, index.places(), gigabytes)
            took, plan = _spent(lambda r=request: _optimize(r, index))
            assert isinstance(plan, Plan)
            spent.append(took / 1000)
            gaps.append(plan.gap)
            unproved += not plan.proved
        record.note(f"graphs at {gigabytes} GB: {', '.join(f'{one:.2f}' for one in spent)} CPU-s")
        record.note(f"graphs at {gigabytes} GB: largest gap {max(gaps):.2%}")
        record.add(f"graph_{gigabytes}_gb", median(spent))
    record.add("unproved_graphs", unproved)


# -- a process -----------------------------------------------------------------------------------------------

# Not getrusage: what it says of a child includes its parent before the exec.
_PEAK = """
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))
"""
_CHILD = """
import json, sys, time
from stix.catalog.index import open_index
from stix.optimizer.optimize import optimize
from stix.optimizer.request import Alternative, Machine, Request, TaskRequest
began = time.perf_counter()
index = open_index(sys.argv[1])
machine = Machine(vcpus=8, vcpus_at_least=True, memory_gib=64, memory_at_least=True)
plan = optimize(Request((TaskRequest("", (Alternative(machine),)),)), index, now=0.0)
took = time.perf_counter() - began
assert len(plan.tasks[0].ranking) > 200
print(json.dumps([took * 1000, peak()]))
"""


def _measure_process(record: Record, path: Path) -> None:
    runs = [json.loads(_python(_PEAK + _CHILD, str(path))) for _ in range(9)]
    empty = min(float(_python(_PEAK + "print(peak())")) for _ in range(3))
    record.add("new_process", median([took for took, _ in runs]))
    record.add("memory", max(memory for _, memory in runs) - empty)


def _python(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environ).stdout


def _measure_command(record: Record, home: Path) -> None:
    """``stix plan`` with a home folder that is not there yet."""
    code = "import sys; from stix.cli.entry import main; sys.argv = ['stix', *sys.argv[1:]]; main()"
    took = []
    for number in range(9):
        environ = clean_environment(home / str(number))
        environ["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)
        command = [sys.executable, "-c", code, "plan", "--gpus", "A100:8"]
        began = time.perf_counter()
        shown = subprocess.run(command, check=True, capture_output=True, text=True, env=environ).stdout
        took.append(time.perf_counter() - began)
        assert max(map(len, shown.splitlines())) <= 80, "readable in 80 columns"
    record.add("plan_command", median(took))
