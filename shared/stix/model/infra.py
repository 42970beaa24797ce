"""Where a task may run: cloud, region and zone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import PydanticCustomError

from stix.model.names import did_you_mean
from stix.model.problems import Problem, refuse, shown

__all__ = ["CLOUDS", "Infra", "complete_place", "fold_place", "parse_infra"]

# fmt: off
CLOUDS = (
    "local", "aws", "azure", "cudo", "do", "fluidstack", "gcp", "hyperbolic", "ibm", "kubernetes",
    "lambda", "mithril", "nebius", "oci", "paperspace", "primeintellect", "runpod", "scp", "seeweb",
    "shadeform", "slurm", "ssh", "vast", "verda", "vsphere", "yotta",
)
# fmt: on
_ALIASES = {"k8s": "kubernetes"}
# The rest of these is one name that may hold slashes: a context, a pool of hosts, a Slurm cluster.
_ONE_REST = {"kubernetes", "ssh", "slurm"}
_PLACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,99}", re.ASCII)
_REST = re.compile(r"[^\s/*][^\s*]{0,299}")
_HINT = "Write cloud[/region[/zone]], such as local, aws, aws/us-east-1, aws/*/us-east-1a or k8s/my-context."


@dataclass(frozen=True, slots=True)
class Infra:
    """A cloud, region and zone in their canonical names; None is any. A zone may come without its region."""

    cloud: str | None = None
    region: str | None = None
    zone: str | None = None

    def __str__(self) -> str:
        return re.sub(r"(/\*)+$", "", "/".join((self.cloud or "*", self.region or "*", self.zone or "*")))

    def to_config(self) -> str:
        return str(self)


def parse_infra(value: Any) -> Infra | None:
    """``aws``, ``aws/us-east-1/us-east-1a``, ``*/us-east-1``, ``k8s/context``; None and ``*``: any."""
    if value is None or isinstance(value, Infra):
        return value
    if not isinstance(value, str) or not value.strip():
        raise refuse(f"{shown(value)} is not a place.", _HINT, value=value)
    head, _, rest = value.strip().partition("/")
    cloud = _cloud(head)
    if not rest and "/" in value:
        raise refuse(f"{shown(value)} ends in a slash.", _HINT, value=value)
    if cloud in _ONE_REST:
        if rest and rest != "*" and not _REST.fullmatch(rest):
            raise refuse(f"{shown(value)} names no {cloud} context or pool.", _HINT, value=value)
        return Infra(cloud, rest if rest not in ("", "*") else None)
    parts = rest.split("/") if rest else []
    if len(parts) > 2:
        raise refuse(f"{shown(value)} has more than three parts.", _HINT, value=value)
    for part in parts:
        if part != "*" and not _PLACE.fullmatch(part):
            raise refuse(f"{shown(part)} in {shown(value)} is not a region or zone.", _HINT, value=value)
    region, zone = ((None if part == "*" else part) for part in (*parts, "*", "*")[:2])
    if cloud == "local" and (region or zone):
        raise refuse(f"{shown(value)} names a region of this machine.", "Write local alone.", value=value)
    return Infra(cloud, region, zone) if cloud or region or zone else None


def _cloud(text: str) -> str | None:
    name = text.strip().lower()
    if name == "*":
        return None
    name = _ALIASES.get(name, name)
    if name not in CLOUDS:
        raise refuse(f"{shown(text)} is not a cloud.", did_you_mean(name, (*CLOUDS, *_ALIASES)), value=text)
    return name


def fold_place(fields: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """``fields`` of resources with the older ``cloud``, ``region`` and ``zone`` folded into ``infra``, and
    what is wrong with those three."""
    trio = {name: fields[name] for name in ("cloud", "region", "zone") if fields.get(name) is not None}
    rest = {name: value for name, value in fields.items() if name not in ("cloud", "region", "zone")}
    if not trio:
        return rest, []
    problems = []
    for name, value in trio.items():
        if rest.get("infra") is not None:
            text = f'"{name}" and "infra" cannot both be given.'
            problems.append(Problem((name,), text, 'Keep "infra": cloud/region/zone.'))
        elif not isinstance(value, str) or not value.strip() or ("/" in value and name != "region"):
            text = f"{shown(value)} is not the name of a {name}."
            problems.append(Problem((name,), text, "Write it as text.", shown(value)))
    if problems:
        return rest, problems
    parts = [str(trio.get(name, "*")).strip() for name in ("cloud", "region", "zone")]
    if _ALIASES.get(parts[0].lower(), parts[0].lower()) in _ONE_REST:
        parts = parts[:2]
    try:
        return {**rest, "infra": parse_infra("/".join(parts))}, []
    except PydanticCustomError as error:
        first, context = next(iter(trio)), error.context or {}
        problem = Problem((first,), str(context.get("text")), str(context.get("hint")), shown(trio[first]))
        return rest, [problem]


def complete_place(around: Mapping[str, Any], options: Any) -> Any:
    """``options`` of resources in which those that give only a ``region`` or ``zone`` take the cloud (and the
    region) of the resources ``around`` them. What is not a list of mappings comes back as it is."""
    if not isinstance(options, (list, tuple)):
        return options
    place, problems = fold_place(around)
    try:
        infra = None if problems else parse_infra(place.get("infra"))
    except PydanticCustomError:
        infra = None
    return options if infra is None else [_completed(infra, option) for option in options]


def _completed(infra: Infra, option: Any) -> Any:
    if not isinstance(option, Mapping) or any(option.get(name) is not None for name in ("cloud", "infra")):
        return option
    if option.get("region") is not None:
        return {"cloud": infra.cloud, **option} if infra.cloud else option
    if option.get("zone") is not None:
        above = {"cloud": infra.cloud, "region": infra.region}
        return {**{name: value for name, value in above.items() if value}, **option}
    return option
