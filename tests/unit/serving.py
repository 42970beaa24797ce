"""Services, places and a small world that carries decisions out, for tests of the autoscaler."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from stix.autoscaling.decide import decide
from stix.autoscaling.situation import Decision, Drain, Launch, Metrics, Replica, Terms
from stix.model.offer import Offer
from stix.model.service import ReplicaPolicy
from stix.model.status import ReplicaStatus
from stix.recovery.situation import Candidate

NOW = 1_900_000_000.0
ZONES = ("aws/us-east-1/a", "aws/us-east-1/b", "aws/us-west-2/c")
HEDGE = {"spot_placer": "dynamic_fallback", "dynamic_ondemand_fallback": True}


def offer(
    place: str, price: float = 1.0, *, spot: bool = True, accelerator: str = "", count: float = 0
) -> Offer:
    cloud, region, zone = place.split("/")
    return Offer(
        cloud=cloud,
        region=region,
        zone=zone,
        instance_type=accelerator or "m",
        spot=spot,
        vcpus=1,
        memory_gib=1,
        accelerator=accelerator,
        accelerator_count=count,
        price=price,
    )


def places(*names: str, price: float = 1.0) -> list[Candidate]:
    """Spot in each, the first a little cheaper than the next, and on-demand at three times the price."""
    spot = [Candidate(offer(name, price + at / 100)) for at, name in enumerate(names or ZONES)]
    return [*spot, Candidate(offer((names or ZONES)[0], 3 * price, spot=False))]


def service(least: int, most: int | None = None, *, spot: bool = True, version: int = 1, **policy) -> Terms:
    return Terms(ReplicaPolicy(least, most, **policy), spot=spot, version=version)


def replica(number: int, where: Offer | None = None, status: str = "READY", **fields) -> Replica:
    return Replica(
        number,
        where or offer(ZONES[0]),
        ReplicaStatus(status),
        since=fields.pop("since", NOW - 600),
        launched_at=fields.pop("launched_at", NOW - 900),
        **fields,
    )


@dataclass
class Fleet:
    """Carries decisions out; replicas become ready when told, and failed ones are remembered."""

    terms: Terms
    offers: list[Candidate] = field(default_factory=places)
    replicas: dict[int, Replica] = field(default_factory=dict)
    made: int = 0
    now: float = NOW

    def decide(self, metrics: Metrics | None = None) -> Decision:
        return decide(self.terms, metrics, tuple(self.replicas.values()), self.offers, self.now)

    def act(self, metrics: Metrics | None = None) -> Decision:
        """Decide and carry out."""
        decision = self.decide(metrics)
        self.terms = replace(self.terms, memory=decision.memory)
        for action in decision.actions:
            if isinstance(action, Launch):
                self.made += 1
                self.replicas[self.made] = Replica(
                    self.made,
                    action.offer,
                    ReplicaStatus.PENDING,
                    since=self.now,
                    launched_at=self.now,
                    version=self.terms.version,
                )
            elif isinstance(action, Drain):
                self.change(
                    action.replica, status=ReplicaStatus.SHUTTING_DOWN, draining_since=self.now, in_flight=3
                )
            elif self.replicas[action.replica].status.failed:
                self.replicas[action.replica] = replace(self.replicas[action.replica], gone=True)
            else:
                del self.replicas[action.replica]
        return decision

    def change(self, number: int, **fields) -> None:
        self.replicas[number] = replace(self.replicas[number], **{"since": self.now, **fields})

    def all_ready(self, *, spot: bool = True, on_demand: bool = True) -> None:
        for one in list(self.replicas.values()):
            if one.alive and (spot if one.offer.spot else on_demand):
                self.change(one.id, status=ReplicaStatus.READY)

    def count(self, *, spot: bool) -> int:
        return sum(one.alive and one.offer.spot is spot for one in self.replicas.values())

    def later(self, seconds: float) -> None:
        self.now += seconds
