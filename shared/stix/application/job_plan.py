"""The plan of a managed job that is decided on by history: made once, kept as a document, read for each
decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from stix.application.job_draft import Draft
from stix.application.spot_history import histories
from stix.ports.object_store import ObjectNotFoundError
from stix.recovery.deadline import price_ratio
from stix.recovery.hazards import fit_hazards, prior_for, sampled
from stix.recovery.plan import Plan, make_plan, plan_tick
from stix.recovery.situation import Candidate, Observations, Policy, Terms
from stix.recovery.spot_history import SpotHistory, merged, state_since

__all__ = ["with_history"]


def with_history(
    draft: Draft, index: int, terms: Terms, offers: Sequence[Candidate], seen: Observations
) -> Observations:
    """What was seen, with the plan and since when spot has been as it is, for the policy that uses them.

    The plan is made at the first decision, from what was seen before it, and never again: no chance is
    counted on a time that the job itself has lived through.
    """
    if terms.policy is not Policy.HISTORY:
        return seen
    world, now, held = draft.world, draft.now, seen.held
    kept = histories(world, [one.offer for one in offers if one.offer.spot])
    if held is not None and held.spot:
        kept.append(SpotHistory(((held.since, 1),), now))
    changes = merged(kept, now)
    up = (held is not None and held.spot) or any(
        one.offer.spot and one.blocked_until <= now for one in offers
    )
    since = state_since(changes, up)
    plan = _kept_plan(draft, index)
    if plan is None:
        tick = plan_tick(terms, now)
        hazards = fit_hazards(sampled(changes, tick, now), prior_for(tick))
        plan = make_plan(
            terms,
            hazards,
            price_ratio=price_ratio(offers),
            now=now,
            tick=tick,
            done=seen.done,
            up=int(up),
            age=0.0 if since is None else now - since,
        )
        key = f"plans/{draft.job.workspace}/{draft.job.uid}/{index}.plan"
        world.objects.put(key, plan.to_bytes())
        draft.change_task(index, plan_key=key)
    return replace(seen, plan=plan, spot_changed_at=since)


def _kept_plan(draft: Draft, index: int) -> Plan | None:
    """None before the first decision, and where the document is not there any more."""
    key = draft.task(index).plan_key
    if not key:
        return None
    try:
        return Plan.from_bytes(draft.world.objects.get(key))
    except ObjectNotFoundError:
        return None
