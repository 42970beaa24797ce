"""Status names, exactly SkyPilot's where SkyPilot has the thing."""

from __future__ import annotations

from enum import StrEnum

__all__ = [
    "ClusterStatus",
    "IntentStatus",
    "JobStatus",
    "ManagedJobStatus",
    "NodeStatus",
    "OperationStatus",
    "PoolStatus",
    "ReplicaStatus",
    "ServiceStatus",
    "Wanted",
]


class ClusterStatus(StrEnum):
    """``TERMINATED`` is ours: the record of a cluster that is gone; lists never show it."""

    INIT = "INIT"
    UP = "UP"
    STOPPED = "STOPPED"
    AUTOSTOPPING = "AUTOSTOPPING"
    TERMINATED = "TERMINATED"


class Wanted(StrEnum):
    """What people asked of a cluster; the difference to its status is work to do."""

    UP = "UP"
    STOPPED = "STOPPED"
    ABSENT = "ABSENT"


class NodeStatus(StrEnum):
    PENDING = "PENDING"
    UP = "UP"
    UNREACHABLE = "UNREACHABLE"
    STOPPED = "STOPPED"
    TERMINATED = "TERMINATED"


class JobStatus(StrEnum):
    """In SkyPilot's order: of two reports about one job the later name wins."""

    INIT = "INIT"
    PENDING = "PENDING"
    SETTING_UP = "SETTING_UP"
    RUNNING = "RUNNING"
    FAILED_DRIVER = "FAILED_DRIVER"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    FAILED_SETUP = "FAILED_SETUP"
    CANCELLED = "CANCELLED"

    @property
    def order(self) -> int:
        return _JOB_ORDER[self]

    @property
    def terminal(self) -> bool:
        return self.order >= _JOB_ORDER[JobStatus.FAILED_DRIVER]


_JOB_ORDER = {status: order for order, status in enumerate(JobStatus)}


class ManagedJobStatus(StrEnum):
    """Of a managed job and of each of its tasks. SkyPilot's ``SUBMITTED`` (deprecated there) and
    ``WINDING_DOWN`` (of its batch jobs) never occur here."""

    PENDING = "PENDING"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    RECOVERING = "RECOVERING"
    CANCELLING = "CANCELLING"
    SUCCEEDED = "SUCCEEDED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"
    FAILED_SETUP = "FAILED_SETUP"
    FAILED_PRECHECKS = "FAILED_PRECHECKS"
    FAILED_NO_RESOURCE = "FAILED_NO_RESOURCE"
    FAILED_CONTROLLER = "FAILED_CONTROLLER"

    @property
    def terminal(self) -> bool:
        return self.failed or self in (ManagedJobStatus.SUCCEEDED, ManagedJobStatus.CANCELLED)

    @property
    def failed(self) -> bool:
        return self.value.startswith("FAILED")


class OperationStatus(StrEnum):
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def terminal(self) -> bool:
        return self in (OperationStatus.SUCCEEDED, OperationStatus.FAILED, OperationStatus.CANCELLED)


class PoolStatus(StrEnum):
    """Of a pool of workers, with SkyPilot's names of a service. ``TERMINATED`` is ours: it is gone."""

    REPLICA_INIT = "REPLICA_INIT"
    READY = "READY"
    NO_REPLICA = "NO_REPLICA"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    FAILED = "FAILED"
    TERMINATED = "TERMINATED"


class ReplicaStatus(StrEnum):
    """Of one replica of a service, and of one worker of a pool."""

    PENDING = "PENDING"
    PROVISIONING = "PROVISIONING"
    STARTING = "STARTING"
    READY = "READY"
    NOT_READY = "NOT_READY"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    FAILED = "FAILED"
    FAILED_INITIAL_DELAY = "FAILED_INITIAL_DELAY"
    FAILED_PROBING = "FAILED_PROBING"
    FAILED_PROVISION = "FAILED_PROVISION"
    FAILED_CLEANUP = "FAILED_CLEANUP"
    PREEMPTED = "PREEMPTED"
    UNKNOWN = "UNKNOWN"

    @property
    def failed(self) -> bool:
        return self.value.startswith("FAILED")


class ServiceStatus(StrEnum):
    """Of a service, from its replicas. SkyPilot's ``CONTROLLER_INIT`` and ``CONTROLLER_FAILED`` never occur
    here: there is no controller."""

    REPLICA_INIT = "REPLICA_INIT"
    READY = "READY"
    NO_REPLICA = "NO_REPLICA"
    FAILED = "FAILED"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    FAILED_CLEANUP = "FAILED_CLEANUP"


class IntentStatus(StrEnum):
    """PENDING: a create call may have happened. CREATED: the provider accepted. RACING: it accepted, and
    others were asked too. REFUSED: it did not. ENDED: the provider said that every machine is gone."""

    PENDING = "PENDING"
    CREATED = "CREATED"
    RACING = "RACING"
    REFUSED = "REFUSED"
    ENDED = "ENDED"
