"""Starting a replica: where it may run, and the launch of its cluster together with the service's step."""

from __future__ import annotations

from collections.abc import Sequence

from stix.application.budgets import check_budget
from stix.application.kept_requests import read_kept
from stix.application.offering_health import judge_offers
from stix.application.owned_clusters import OwnedRun, launch_owned
from stix.application.planning import plan
from stix.application.service_draft import ServiceDraft
from stix.application.service_situation import replica_terms
from stix.application.submit import read_task
from stix.application.world import World
from stix.autoscaling.placement import Placement
from stix.autoscaling.situation import Launch, Terms
from stix.lifecycle.offering_health import Verdict
from stix.model.cluster import Cluster
from stix.model.errors import ForbiddenError, NoOfferError
from stix.model.job import Job
from stix.model.offer import Offer
from stix.model.service_state import Replica, ServiceVersion
from stix.optimizer.rank import RankedOffer
from stix.ports.state_store import Write
from stix.recovery.situation import Candidate

__all__ = ["Places", "budget_spent", "launch_replica"]

_MOST_IN_ORDER = 24
_STARTING_SECONDS = 600.0
_ENVS = ("SKYPILOT_SERVE_REPLICA_ID", "STIX_SERVE_REPLICA_ID")


class Places:
    """The offers of a version's task, read once for all steps of a run; what is known of each place is asked
    anew each time."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._offers: dict[tuple[str, bool], list[Offer]] = {}

    def candidates(self, version: ServiceVersion, lost_at: dict[str, float]) -> list[Candidate]:
        """All places that fit, in both markets where on-demand stands in for spot; none where none does."""
        policy = version.parsed().replica_policy
        stands_in = policy.dynamic_ondemand_fallback or policy.base_ondemand_fallback_replicas
        offers = self._of(version, version.spot)
        if version.spot and stands_in:
            offers = list(dict.fromkeys([*offers, *self._of(version, False)]))
        judged = judge_offers(self._world, offers, [""] * len(offers))
        return [
            Candidate(
                offer,
                blocked_until=judgement.until if judgement.verdict is Verdict.BLOCKED else 0.0,
                lost_at=lost_at.get(offer.place) if offer.spot else None,
            )
            for offer, judgement in zip(offers, judged, strict=True)
        ]

    def _of(self, version: ServiceVersion, spot: bool) -> list[Offer]:
        key = (version.request_key, spot)
        if key not in self._offers:
            kept = read_kept(self._world, version.request_key, version.secrets_key, secrets=False)
            task = read_task(kept, managed=True, uploaded=False)
            if version.spot and not spot:
                task = task.with_overrides(resources={"use_spot": False})
            try:
                found = [entry.offer for entry in plan(self._world, task)]
            except NoOfferError:
                found = []
            self._offers[key] = [offer for offer in found if offer.spot is spot]
        return self._offers[key]


def budget_spent(draft: ServiceDraft) -> str:
    """Why nothing new may be started this month; empty where it may. What runs goes on."""
    try:
        check_budget(draft.world, draft.service.workspace)
    except ForbiddenError as error:
        return error.message
    return ""


def launch_replica(draft: ServiceDraft, terms: Terms, launch: Launch, offers: Sequence[Candidate]) -> None:
    """Launch a cluster over the decided offer, then those that the policy would take where the ones before
    refuse, and write the step with it. Raises ``VersionConflictError``: then nothing was begun."""
    service = draft.service
    version = service.version_of(service.active)
    number = service.replicas + 1
    ranked = _order(draft, terms, launch, offers)
    request = read_kept(draft.world, version.request_key, version.secrets_key, secrets=True)
    task = {**request.task, "envs": {**(request.task.get("envs") or {}), **dict.fromkeys(_ENVS, str(number))}}

    def writes(cluster: Cluster, run: Job) -> list[Write]:
        draft.change(replicas=number)
        draft.add_replica(
            Replica(
                workspace=service.workspace,
                service=service.name,
                service_uid=service.uid,
                id=number,
                service_version=version.number,
                reason=launch.reason,
                since=draft.now,
                offer=launch.offer,
                launched_at=draft.now,
                cluster_id=cluster.id,
                cluster_name=cluster.name,
                cluster_job=run.id,
            )
        )
        draft.say("ReplicaLaunching", launch.reason, replica=number, place=launch.offer.place)
        draft.look_at(draft.now + _STARTING_SECONDS)
        draft.settle()
        return draft.writes()

    stamp = draft.world.ids.new("t").partition("-")[2]
    run = OwnedRun(
        owner=service.owner,
        user=service.user,
        name=f"{service.name[:40]}-{number}",
        task_id=f"stix-service-{stamp}_{service.name}_{number}",
        managed={},
        reason=launch.reason,
        writes=writes,
        ranked=ranked,
    )
    launch_owned(draft.world, service.workspace, request.model_copy(update={"task": task}), run)
    draft.announce()


def _order(
    draft: ServiceDraft, terms: Terms, launch: Launch, offers: Sequence[Candidate]
) -> list[RankedOffer]:
    ranked = [RankedOffer(launch.offer, launch.reason)]
    replicas = [replica_terms(one) for one in draft.kept]
    left = [one for one in offers if one.offer != launch.offer]
    while left and len(ranked) < _MOST_IN_ORDER:
        offer, _ = Placement.of(terms, left, replicas, draft.now).next(spot=launch.offer.spot)
        if offer is None:
            break
        ranked.append(RankedOffer(offer, "where the one before refuses"))
        left = [one for one in left if one.offer != offer]
    return ranked
