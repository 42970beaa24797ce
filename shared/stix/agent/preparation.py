"""What the scripts of a job need on this node before they begin: the other ranks, files, secrets, an earlier
run's checkpoint, a container."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Callable, Dict, List, Optional, Tuple

from . import statuses
from .checkpoints import Checkpoints
from .files import Json
from .http_channel import HttpChannel, RefusedError, UnreachableError
from .mounts import MountError, MountRetryError, Mounts
from .surroundings import Surroundings

if TYPE_CHECKING:
    from .inside import Inside

log = logging.getLogger("stix.agent.preparation")


class JobEndedError(Exception):
    """The job has ended on this node, with a step undone or after its last one."""

    def __init__(self, outcome: str, reason: str = "", code: Optional[int] = None) -> None:
        super().__init__(outcome)
        self.outcome, self.reason, self.code = outcome, reason, code


class Preparation:
    """Of one rank of one job. ``note`` writes a line into the job's log, ``advance`` tells a state; every
    wait ends with ``cancelled``.

    Attributes:
        inside: the container that the scripts run in, once it is there; None if they run on the node itself.
    """

    def __init__(
        self,
        assignment: Json,
        around: Surroundings,
        checkpoints: Optional[Checkpoints],
        cancelled: threading.Event,
        note: Callable[[str], None],
        advance: Callable[[str], None],
    ) -> None:
        self.inside: Optional[Inside] = None
        self._job_id = int(assignment["job"]["id"])
        self._assignment = assignment
        self._around = around
        self._checkpoints = checkpoints
        self._cancelled = cancelled
        self._note = note
        self._advance = advance
        self._secrets: Optional[Dict[str, str]] = None

    def bring(self) -> None:
        """All that the scripts need. What is there already is not brought again."""
        self._reach_other_ranks()
        files = self._bring_files()
        self._restore_checkpoint()
        if self._assignment["job"].get("container"):
            self._enter_container(files)

    def secrets(self) -> Dict[str, str]:
        """Fetched once, and only kept in memory."""
        if self._secrets is None:
            channel = HttpChannel()
            try:
                answer = self._around.membership.call(channel, "secrets", {"job": self._job_id})
            finally:
                channel.close()
            self._secrets = {name: str(value) for name, value in (answer.get("secrets") or {}).items()}
        return self._secrets

    def recall(self) -> None:
        """An earlier agent has brought all; its container, if any, is found again."""
        wanted = self._assignment["job"].get("container")
        self.inside = self._around.containers.recall(wanted) if wanted else None

    def _reach_other_ranks(self) -> None:
        """Proves that this rank can talk to all others, with the cluster's key."""
        own = int(self._assignment["rank"])
        others: List[Json] = [peer for peer in self._assignment["peers"] if peer["rank"] != own]
        tunables = self._around.config.tunables
        deadline = time.monotonic() + tunables.probe_seconds
        for peer in others:
            while True:
                # The address is looked up anew: a node that came late or moved is in the newer list.
                known = self._around.peer_address(peer["node"]) or peer
                problem = "it has not joined"
                if known.get("port"):
                    problem = self._around.probe(known["address"], int(known["port"]))
                if not problem:
                    break
                if time.monotonic() > deadline:
                    here = f"rank {own} ({self._around.config.address})"
                    there = f"rank {peer['rank']} ({known.get('address') or 'address unknown'})"
                    raise JobEndedError("FAILED_DRIVER", f"{here} cannot reach {there}: {problem}")
                self._pause(tunables.probe_retry)
        self._advance(statuses.ARRIVED)

    def _bring_files(self) -> List[Tuple[str, str]]:
        """What ``Mounts.bring`` answers."""
        job = self._assignment["job"]
        around = self._around
        tunables = around.config.tunables
        mounts = around.mounts
        if job.get("container"):
            mounts = Mounts(around.config, around.membership, around.containers.staging)
        while True:
            try:
                files = mounts.bring(job, self._cancelled.is_set)
                if job.get("has_secrets"):
                    self.secrets()
                return files
            except MountError as exc:
                raise JobEndedError("FAILED_SETUP", str(exc)) from exc
            except (MountRetryError, UnreachableError, RefusedError) as exc:
                log.info(
                    "a job's inputs cannot be fetched yet", extra={"job": self._job_id, "detail": str(exc)}
                )
                self._pause(tunables.backoff_last)

    def _restore_checkpoint(self) -> None:
        """What an earlier run of a managed job's task has stored is there before this one begins."""
        while self._checkpoints is not None:
            try:
                restored = self._checkpoints.restore()
            except MountError as exc:
                raise JobEndedError("FAILED_DRIVER", str(exc)) from exc
            except MountRetryError as exc:
                log.info("no checkpoint yet", extra={"job": self._job_id, "detail": str(exc)})
                self._pause(self._around.config.tunables.backoff_last)
                continue
            if restored:
                self._note(restored)
            return

    def _enter_container(self, files: List[Tuple[str, str]]) -> None:
        from .container_options import login_from
        from .engine import CancelledError, ContainerError

        job, containers = self._assignment["job"], self._around.containers
        self._advance(statuses.SETTING_UP)
        login = login_from({**(job.get("envs") or {}), **(self._secrets or {})})
        try:
            self.inside = containers.prepare(job["container"], login, self._note, self._cancelled.is_set)
            self.inside.own_files(self._around.mounts.workdir)
            containers.copy(self.inside, files)
        except ContainerError as exc:
            raise JobEndedError("FAILED_SETUP", str(exc)) from exc
        except CancelledError:
            raise JobEndedError("CANCELLED") from None

    def _pause(self, seconds: float) -> None:
        if self._cancelled.wait(seconds):
            raise JobEndedError("CANCELLED")
