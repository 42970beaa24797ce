"""Everything a use case may touch, in one value that the composition root fills."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from stix.optimizer.catalog import Catalog
from stix.ports.cloud_facts import CloudFacts, CloudProblem
from stix.ports.compute import Compute
from stix.ports.object_store import ObjectStore
from stix.ports.state_store import StateStore
from stix.ports.surroundings import Clock, EventBus, Ids, Secrets, Sockets, Wake
from stix.ports.workflows import Workflows

__all__ = ["Gateways", "Limits", "World"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds. The defaults are the deployed ones; the embedded runtime has shorter ones.

    Attributes:
        report_seconds: heartbeat interval that the agents are told.
        poll_seconds: how often an agent asks for commands when no wake channel works.
        woken_poll_seconds: the same while it listens on the wake channel.
        boot_seconds: from the provider's acceptance to the last join; then the attempt is undone.
        lost_seconds: a node not heard of for so long is UNREACHABLE.
        launch_lease_seconds: no second run of a launch or teardown within it; above any task's time-out.
        barrier_seconds: how long ranks of a job wait for each other.
        max_attempts: offers that one launch run tries.
        retention_seconds: how long ended clusters, jobs and operations stay readable.
    """

    report_seconds: int = 180
    poll_seconds: int = 30
    woken_poll_seconds: int = 600
    boot_seconds: int = 900
    lost_seconds: int = 600
    launch_lease_seconds: int = 2100
    barrier_seconds: int = 600
    max_attempts: int = 10
    retention_seconds: int = 30 * 86400


@dataclass(frozen=True, slots=True)
class Gateways:
    """How the services of a workspace are reached.

    Attributes:
        nodes: machines launched for it while there is a service; 0: a process beside the control plane.
        infra: where these machines are, as a task's ``infra``; empty for the cheapest place.
        address: of the process.
        missing: what this machine lacks for the process, and how to install it; empty when all is there.
        usable_port: whether a service can have a port, which something else on this machine may use.
    """

    nodes: int = 2
    infra: str = ""
    address: str = "127.0.0.1"
    missing: Callable[[], str] = lambda: ""
    usable_port: Callable[[int], bool] = lambda port: True


@dataclass(frozen=True, slots=True)
class World:
    """The ports as this process has them.

    ``clouds`` are those that are configured, in every process; ``compute`` maps a cloud's name to its
    provider where this process may call it. ``unusable`` are the known clouds that are not configured, or
    not whole. ``api_url`` is where agents reach the control plane; ``wake_url``
    is empty where requests are held instead. ``sockets`` posts to WebSockets that are open, in the process
    that takes their messages. ``catalog`` has the prices of the clouds that do not say
    themselves what they offer. ``agent_hash`` is the SHA-256 of the archive that new machines fetch.
    """

    deployment: str
    runtime: str
    store: StateStore
    objects: ObjectStore
    workflows: Workflows
    compute: Mapping[str, Compute]
    secrets: Secrets
    events: EventBus
    wake: Wake
    clock: Clock
    ids: Ids
    limits: Limits
    api_url: Callable[[], str]
    wake_url: str = ""
    catalog: Catalog | None = None
    clouds: Mapping[str, CloudFacts] = field(default_factory=dict)
    unusable: Mapping[str, CloudProblem] = field(default_factory=dict)
    agent_hash: Callable[[], str] = lambda: ""
    sockets: Sockets | None = None
    gateways: Gateways = Gateways()
