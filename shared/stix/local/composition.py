"""The composition root of the embedded control plane: every port over one folder."""

from __future__ import annotations

import getpass
import logging
import os
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from stix.adapters.file_secrets import FileSecrets
from stix.adapters.local_files import LocalObjectStore
from stix.adapters.sqlite import SqliteStateStore
from stix.adapters.sqlite_database import SqliteDatabase
from stix.adapters.system import LoggingEventBus, SystemClock, SystemIds
from stix.application.tokens import create_user_token
from stix.application.world import World
from stix.clouds.registry import facts
from stix.local.clouds import connect_clouds
from stix.local.functions import FUNCTIONS, Functions, Handler, bundle_folder
from stix.local.gateway_keeper import GatewayKeeper, missing_haproxy, port_is_free
from stix.local.home import Home, write_private
from stix.local.interpreter import FunctionError, Interpreter, WorkflowDriver, load_definitions
from stix.local.limits import limits_from
from stix.local.parking import Parking, ParkingWake
from stix.local.scheduler import Recurring, Scheduler
from stix.local.sockets import LocalSockets
from stix.local.upkeep import purge_in_portions, trim_log
from stix.ports.compute import Compute
from stix.ports.state_store import Item, Key
from stix.runtime.agent_archive import archive_hash
from stix.runtime.current_catalog import home_catalog
from stix.runtime.gateway_settings import gateways_from
from stix.runtime.schedules import SCHEDULES, Schedule

__all__ = ["Embedded", "compose"]

logger = logging.getLogger(__name__)

WORKSPACE = "default"
LOCAL = "local"

_UPKEEP_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Embedded:
    """The parts that a server runs. ``start`` and ``stop`` are called once each."""

    world: World
    functions: Functions
    parking: Parking
    sockets: LocalSockets
    objects: LocalObjectStore
    database: SqliteDatabase
    driver: WorkflowDriver
    scheduler: Scheduler
    gateway: GatewayKeeper | None = None

    def start(self) -> None:
        """Go on with the state machines that an earlier process left, and fire what fell due meanwhile."""
        recovered = self.driver.start()
        if recovered:
            logger.info("%d invocations of an earlier process run again", recovered)
        self.scheduler.start()
        if self.gateway is not None:
            self.gateway.start()

    def stop(self, seconds: float) -> bool:
        """Begin nothing new; False when invocations are still running after ``seconds``.

        All that matters is on the disk already: what was cut off runs again after the next start.
        """
        self.scheduler.stop()
        if self.gateway is not None:
            self.gateway.stop()
        finished = self.functions.close(seconds)
        self.driver.stop()
        if finished:
            self.database.close()
        return finished


def compose(
    home: Home,
    handlers: Mapping[str, Handler],
    *,
    local_url: Callable[[], str],
    public_url: str = "",
    state_machines: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Embedded:
    """Build everything over ``home``; makes its identity and its token at the first start.

    ``local_url`` is the loopback address, known only when the server listens. Raises ``StoreCorruptError``,
    ``UnavailableError``, ``ForbiddenError``, ``InvalidInputError`` and ``DefinitionError``, each for people.
    """
    clock = SystemClock()
    database = SqliteDatabase(home.state_file)
    store = SqliteStateStore(database, clock=clock.now)
    deployment = _deployment(store)

    def api_url() -> str:
        return public_url or local_url()

    signing_key = bytes.fromhex(_kept(home.signing_key_file, lambda: secrets.token_hex(32)))
    objects = LocalObjectStore(home.objects, api_url, signing_key, clock=clock.now)
    functions = Functions(handlers)
    interpreter = Interpreter(
        database,
        load_definitions(
            state_machines or bundle_folder() / "infra" / "state_machines",
            {f"{name.capitalize()}FunctionArn": name for name in FUNCTIONS},
        ),
        functions.invoke,
        clock=clock.now,
    )
    parking = Parking()
    archive = _AgentArchive(home.agent_archive)
    keeper: GatewayKeeper | None = None
    sockets = LocalSockets(functions)
    clouds = connect_clouds(
        home.config_file, deployment=deployment, clock=clock, public=bool(public_url), environ=environ
    )
    world = World(
        deployment=deployment,
        runtime="embedded",
        store=store,
        objects=objects,
        workflows=interpreter,
        compute={LOCAL: _local_compute(home, deployment, clock, archive), **clouds.computes},
        secrets=FileSecrets(home.secrets),
        events=LoggingEventBus(),
        wake=ParkingWake(parking, {"services": lambda: keeper.wake() if keeper is not None else None}),
        clock=clock,
        ids=SystemIds(),
        limits=limits_from(environ, public=bool(public_url)),
        api_url=api_url,
        catalog=home_catalog(home.folder, clock),
        clouds={LOCAL: facts(LOCAL), **clouds.facts},
        unusable=clouds.problems,
        agent_hash=lambda: archive_hash(objects),
        sockets=sockets,
        gateways=gateways_from(environ, nodes=0, missing=missing_haproxy, usable_port=port_is_free),
    )
    if not world.gateways.nodes:
        keeper = GatewayKeeper(home.gateway, world, WORKSPACE, home.agent_archive, archive)
    _make_token(home, world)

    def upkeep() -> None:
        purge_in_portions(store.purge)
        trim_log(home.log_file)

    recurring = [
        Recurring(each.name, each.every_seconds, _firing(functions, each))
        for each in SCHEDULES
        if each.function in handlers
    ]
    # On a function's thread, so that stopping waits for it.
    recurring.append(Recurring("upkeep", _UPKEEP_SECONDS, lambda: functions.submit("monitor", upkeep)))
    return Embedded(
        world,
        functions,
        parking,
        sockets,
        objects,
        database,
        WorkflowDriver(interpreter, functions.submit, clock=clock.now),
        Scheduler(database, clock, recurring),
        keeper,
    )


def _local_compute(home: Home, deployment: str, clock: SystemClock, archive: _AgentArchive) -> Compute:
    from stix.clouds.local import LocalCompute

    return LocalCompute(
        home.folder,
        deployment=deployment,
        archive=archive,
        api_url_file=home.api_url_file,
        clock=clock,
    )


class _AgentArchive:
    """The agent's zipapp of this release, built when the first machine needs it."""

    def __init__(self, path: Path):
        self._path = path
        self._lock = threading.Lock()
        self._built = False

    def __call__(self) -> Path:
        with self._lock:
            if not self._built:
                from stix.agent.archive import build_archive

                build_archive(self._path)
                self._built = True
        return self._path


def _make_token(home: Home, world: World) -> None:
    """The token's item is written again at every start: the state file may be a new one."""
    token = home.token()
    if not token:
        token = world.ids.secret()
        write_private(home.token_file, token)
    create_user_token(world, token=token, workspace=WORKSPACE, user=_user())


def _deployment(store: SqliteStateStore) -> str:
    """The id in every machine's tags, kept in the table: a new table judges no machine of an old one."""
    key = Key.top("-system-", "deployment", "id")
    item = store.get(key)
    if item is None:
        item = store.put(Item(key, {"deployment": f"local-{secrets.token_hex(6)}"}))
    return str(item.body["deployment"])


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "user"  # an id without a name, as in some containers


def _kept(path: Path, make: Callable[[], str]) -> str:
    """The content of a small file, made at the first start."""
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        text = make()
        write_private(path, text)
        return text


def _firing(functions: Functions, schedule: Schedule) -> Callable[[], None]:
    """Invokes the schedule's function on its pool, unless the last invocation is still running."""
    running = threading.Lock()

    def invoke() -> None:
        try:
            functions.invoke(schedule.function, dict(schedule.payload))
        except FunctionError:
            return  # logged where it happened; the next beat tries again
        finally:
            running.release()

    def fire() -> None:
        if running.acquire(blocking=False):
            functions.submit(schedule.function, invoke)
        else:
            logger.warning("%s is still running: its next beat is left out", schedule.name)

    return fire
