"""The deployment's refresh: its use cases, and the state machine that strings them together."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stix.adapters.local_files import LocalObjectStore
from stix.adapters.sqlite import SqliteStateStore
from stix.adapters.sqlite_database import SqliteDatabase
from stix.application import refresh_catalog
from stix.application.places import SYSTEM
from stix.application.world import World
from stix.catalog.index import open_index
from stix.catalog.publish import POINTER, cached_index
from stix.catalog.refresh import ShrankError
from stix.catalog.row import CatalogRow
from stix.catalog.source import Fetched, FetchError, Source
from stix.local.functions import FUNCTIONS
from stix.local.interpreter import FunctionError, Interpreter, load_definitions
from stix.model.errors import StixError
from stix.ports.state_store import Item, Key
from stix.ports.surroundings import Event
from stix.runtime.bootstrap import install
from stix.runtime.schedules import SCHEDULES
from tests.unit.price_answers import NOW

ROOT = Path(__file__).resolve().parents[2]
DAY = 86400.0
ROW = CatalogRow("aws", "us-east-1", "", "m1", 2, 8, price=0.1, as_of=NOW - 30 * DAY)
SHIPPED = [replace(ROW, region=region, instance_type=f"m{n}") for region in ("a-1", "b-1") for n in range(4)]


class RecordingWorkflows:
    def __init__(self) -> None:
        self.names: list[str] = []

    def start(self, machine: str, name: str, payload: Mapping[str, Any]) -> bool:
        assert (machine, payload) == ("catalog", {})
        self.names.append(name)
        return self.names.count(name) == 1


class RecordingBus:
    def __init__(self) -> None:
        self.published: list[Event] = []

    def publish(self, *events: Event) -> None:
        self.published += events


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    database = SqliteDatabase(tmp_path / "state.db")
    parts = SimpleNamespace(
        store=SqliteStateStore(database, clock=lambda: NOW),
        objects=LocalObjectStore(tmp_path, "http://localhost", b"k" * 32),
        workflows=RecordingWorkflows(),
        events=RecordingBus(),
        clock=SimpleNamespace(now=lambda: NOW),
    )
    yield cast(World, parts)
    database.close()


def use_place(world: World, cloud: str, at: float) -> None:
    key = Key.top(SYSTEM, "place", f"{cloud}.r-{at}")
    world.store.put(Item(key, {"cloud": cloud, "region": "r", "used_at": at}, listed=True, created_at=at))


def published(world: World, tmp_path: Path) -> list[CatalogRow]:
    path = cached_index(world.objects, tmp_path / "cache")
    assert path is not None
    index = open_index(path)
    try:
        return list(index.rows())
    finally:
        index.close()


@pytest.mark.parametrize(
    ("uses", "outcome"),
    [
        ([], "IDLE"),
        ([("local", NOW)], "IDLE"),
        ([("aws", NOW - 31 * DAY)], "IDLE"),
        ([("aws", NOW - 29 * DAY)], "STARTED"),
        ([*(("local", NOW - n) for n in range(150)), ("vast", NOW)], "STARTED"),
    ],
)
def test_refresh_starts_only_when_a_priced_cloud_was_used_lately(
    world: World, uses: list[tuple[str, float]], outcome: str
) -> None:
    for cloud, at in uses:
        use_place(world, cloud, at)
    assert refresh_catalog.start(world, ("aws", "vast")) == {"outcome": outcome}


def test_refresh_runs_once_when_the_schedule_fires_twice(world: World) -> None:
    use_place(world, "aws", NOW)
    outcomes = [refresh_catalog.start(world, ("aws",))["outcome"] for _ in range(2)]
    assert outcomes == ["STARTED", "RUNNING"]


def test_handler_answers_the_schedules_call(world: World) -> None:
    from functions.catalog.handler import handler

    (schedule,) = (schedule for schedule in SCHEDULES if schedule.function == "catalog")
    install(world)
    try:
        answers = [handler(dict(schedule.payload), cast(Any, None))]
        use_place(world, "azure", NOW)
        answers.append(handler(dict(schedule.payload), cast(Any, None)))
    finally:
        install(None)
    assert [answer["outcome"] for answer in answers] == ["IDLE", "STARTED"]


class Clouds:
    """aws with two regions and vast; what they answer can be changed."""

    def __init__(self) -> None:
        self.failing: dict[tuple[str, str], Exception] = {}
        self.count = 5

    def sources(self) -> dict[str, Source]:
        def of(cloud: str, *parts: str) -> Source:
            return Source(cloud, lambda: self.parts(cloud, parts), lambda part: self.fetch(cloud, part))

        return {"aws": of("aws", "a-1", "b-1"), "vast": of("vast", "")}

    def parts(self, cloud: str, parts: tuple[str, ...]) -> tuple[str, ...]:
        if (cloud, "*") in self.failing:
            raise self.failing[cloud, "*"]
        return parts

    def fetch(self, cloud: str, part: str) -> Fetched:
        if (cloud, part) in self.failing:
            raise self.failing[cloud, part]
        plain = replace(ROW, cloud=cloud, region=part or "US", as_of=NOW)
        return Fetched(tuple(replace(plain, instance_type=f"m{n}") for n in range(self.count)))


def run_machine(
    world: World, clouds: Clouds, tmp_path: Path, name: str, shipped: Sequence[CatalogRow] = SHIPPED
) -> str:
    """The status of a run of the state machine's own file, its function called as the handler calls it."""

    def act(payload: dict[str, Any]) -> Any:
        match payload["action"]:
            case "list_parts":
                return refresh_catalog.list_parts(clouds.sources())
            case "fetch_part":
                source = clouds.sources()[payload["place"]["cloud"]]
                return refresh_catalog.fetch_part(world, source, payload["place"]["part"], lambda: shipped)
            case "publish":
                return refresh_catalog.publish(world, shipped)
        raise AssertionError(payload)

    def invoke(function: str, payload: Any) -> Any:
        assert function == "catalog"
        try:
            return json.loads(json.dumps(act(payload)))
        except (StixError, RuntimeError) as exc:
            raise FunctionError(type(exc).__name__, str(exc)) from exc

    moment = [NOW]
    names = {f"{name.capitalize()}FunctionArn": name for name in FUNCTIONS}
    database = SqliteDatabase(tmp_path / f"{name}.db")
    try:
        definitions = load_definitions(ROOT / "infra" / "state_machines", names)
        engine = Interpreter(database, definitions, invoke, clock=lambda: moment[0])
        engine.start("catalog", name, {})
        for _ in range(100):
            engine.run_ready()
            run = engine.describe(name)
            assert run is not None
            if run.status != "RUNNING":
                return run.status
            wakeup = engine.next_wakeup()
            assert wakeup is not None
            moment[0] = max(moment[0], wakeup)
        raise AssertionError("the run does not end")
    finally:
        database.close()


def test_run_publishes_every_part(world: World, tmp_path: Path) -> None:
    assert run_machine(world, Clouds(), tmp_path, "first") == "SUCCEEDED"
    rows = published(world, tmp_path)
    assert len(rows) == 15
    assert {row.as_of for row in rows} == {NOW}
    (event,) = cast(RecordingBus, world.events).published
    assert (event.name, event.detail["rows"]) == ("CatalogPublished", 15)


def test_publication_keeps_the_index_of_before_and_no_older_one(world: World, tmp_path: Path) -> None:
    clouds = Clouds()
    kept = []
    for name in ("first", "second", "third"):
        clouds.count += 1
        assert run_machine(world, clouds, tmp_path, name) == "SUCCEEDED"
        kept.append(json.loads(world.objects.get(POINTER))["sha256"])
    assert set(world.objects.keys("catalog/index/")) == {f"catalog/index/{each}.index" for each in kept[1:]}
    assert refresh_catalog.publish(world, SHIPPED)["sha256"] == kept[2]  # the same rows once more
    assert world.objects.size(f"catalog/index/{kept[2]}.index")


@pytest.mark.parametrize("failure", [FetchError("no answer"), RuntimeError("a defect")])
def test_run_publishes_the_old_rows_of_a_part_that_failed(
    world: World, tmp_path: Path, failure: Exception
) -> None:
    clouds = Clouds()
    clouds.failing["aws", "b-1"] = failure
    assert run_machine(world, clouds, tmp_path, "first") == "SUCCEEDED"
    ages = {(row.cloud, row.region): row.as_of for row in published(world, tmp_path)}
    assert ages == {("aws", "a-1"): NOW, ("aws", "b-1"): ROW.as_of, ("vast", "US"): NOW}


def test_run_goes_on_without_a_cloud_that_cannot_list_its_parts(world: World, tmp_path: Path) -> None:
    clouds = Clouds()
    clouds.failing["aws", "*"] = FetchError("no index")
    assert run_machine(world, clouds, tmp_path, "first") == "SUCCEEDED"
    ages = {(row.cloud, row.as_of) for row in published(world, tmp_path)}
    assert ages == {("aws", ROW.as_of), ("vast", NOW)}


def test_run_keeps_the_last_catalog_when_far_less_would_be_published(world: World, tmp_path: Path) -> None:
    clouds = Clouds()
    assert run_machine(world, clouds, tmp_path, "first") == "SUCCEEDED"
    before = world.objects.get(POINTER)
    for key in list(world.objects.keys("catalog/rows/aws/")):
        world.objects.put(key, b"damaged")
        clouds.failing["aws", key.rpartition("/")[2].removesuffix(".csv.gz")] = FetchError("down")
    assert run_machine(world, clouds, tmp_path, "second", shipped=()) == "FAILED"
    assert world.objects.get(POINTER) == before
    with pytest.raises(ShrankError, match="5 offers where it had 15"):
        refresh_catalog.publish(world, ())
