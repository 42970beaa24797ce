"""What a task needs: machines, where, and how they are opened and ended."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ModelWrapValidatorHandler, model_validator

from stix.model.accelerators import Accelerator, parse_accelerators
from stix.model.autostop import Autostop, parse_autostop
from stix.model.fields import RESOURCES
from stix.model.infra import Infra, fold_place, parse_infra
from stix.model.ports import parse_ports
from stix.model.problems import Problem, collect, refuse, refuse_all, shown
from stix.model.quantities import Amount, Memory, parse_cpus, parse_memory

__all__ = ["Resources"]

_INSTANCE_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,99}", re.ASCII)
_LABEL_LIMITS = (128, 256)
_RESERVED_LABELS = ("stix-", "aws:")


def _instance_type(value: Any) -> str | None:
    if value is None or (isinstance(value, str) and _INSTANCE_TYPE.fullmatch(value.strip())):
        return value and value.strip()
    raise refuse(
        f"{shown(value)} is not an instance type.",
        "Write the provider's name for it, such as m7i.large.",
        value=value,
    )


def _use_spot(value: Any) -> bool:
    if value is None or isinstance(value, bool):
        return bool(value)
    raise refuse(
        f"{shown(value)} is neither true nor false.", "Write true or false without quotes.", value=value
    )


def _labels(value: Any) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise refuse(f"{shown(value)} is not a mapping.", "Write labels as name: text.", value=value)
    most_key, most_value = _LABEL_LIMITS
    labels, problems = {}, []
    for key, text in value.items():
        if not isinstance(key, str) or not 1 <= len(key) <= most_key:
            problem = Problem(
                (shown(key),), "a label's name must be text.", f"At most {most_key} characters."
            )
        elif key.lower().startswith(_RESERVED_LABELS):
            given = f"the label {shown(key)} begins with a reserved prefix."
            problem = Problem((key,), given, f"Reserved are {' and '.join(_RESERVED_LABELS)}")
        elif isinstance(text, bool) or not isinstance(text, (str, int, float)):
            problem = Problem((key,), f"{shown(text)} is not text.", "Quote it.", shown(text))
        elif len(text if isinstance(text, str) else shown(text)) > most_value:
            given = f"{shown(text)} is longer than {most_value} characters."
            problem = Problem((key,), given, "Shorten it.", shown(text))
        else:
            labels[key] = text if isinstance(text, str) else str(text)
            continue
        problems.append(problem)
    if problems:
        raise refuse_all(problems)
    return labels


class Resources(BaseModel):
    """What each node of a task needs; a field that is not given leaves the choice to the optimizer.

    Fields take every form of the task YAML (``cpus="4+"``, ``gpus="A100:8"``) and hold the parsed one.
    Wrong input raises ``pydantic.ValidationError`` here and ``TaskError`` from the methods of ``Task``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    infra: Annotated[Infra | None, BeforeValidator(parse_infra)] = None
    instance_type: Annotated[str | None, BeforeValidator(_instance_type)] = None
    cpus: Annotated[Amount | None, BeforeValidator(parse_cpus)] = None
    memory: Annotated[Memory | None, BeforeValidator(parse_memory)] = None
    accelerators: Annotated[Accelerator | None, BeforeValidator(parse_accelerators)] = None
    use_spot: Annotated[bool, BeforeValidator(_use_spot)] = False
    ports: Annotated[tuple[str, ...], BeforeValidator(parse_ports)] = ()
    labels: Annotated[dict[str, str], BeforeValidator(_labels)] = {}
    autostop: Annotated[Autostop | None, BeforeValidator(parse_autostop)] = None

    @model_validator(mode="wrap")
    @classmethod
    def _read(cls, data: Any, handler: ModelWrapValidatorHandler[Resources]) -> Resources:
        if isinstance(data, Resources):
            return data
        return RESOURCES.read(
            {} if data is None else data, lambda fields: collect(handler, *fold_place(fields))
        )

    @property
    def cloud(self) -> str | None:
        return self.infra.cloud if self.infra else None

    @property
    def region(self) -> str | None:
        return self.infra.region if self.infra else None

    @property
    def zone(self) -> str | None:
        return self.infra.zone if self.infra else None

    def to_config(self) -> dict[str, Any]:
        """The fields that were given, in canonical forms; reading them again gives an equal ``Resources``."""
        config: dict[str, Any] = {}
        if self.infra:
            config["infra"] = str(self.infra)
        if self.instance_type:
            config["instance_type"] = self.instance_type
        if self.cpus:
            config["cpus"] = str(self.cpus) if self.cpus.at_least else _plain(self.cpus.value)
        if self.memory:
            plain = not (self.memory.at_least or self.memory.per_vcpu)
            config["memory"] = _plain(self.memory.gib) if plain else str(self.memory)
        if self.accelerators:
            config["accelerators"] = {self.accelerators.name: _plain(self.accelerators.count)}
        if self.use_spot:
            config["use_spot"] = True
        if self.ports:
            config["ports"] = list(self.ports)
        if self.labels:
            config["labels"] = dict(self.labels)
        if self.autostop:
            config["autostop"] = self.autostop.to_config()
        return config


def _plain(value: float) -> int | float:
    return int(value) if value.is_integer() else value
