"""What a task needs: machines, where, and how they are opened and ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from stix.model.accelerators import Accelerator, AcceleratorChoice, parse_accelerators
from stix.model.autostop import Autostop, parse_autostop
from stix.model.fields import RESOURCES
from stix.model.infra import Infra, complete_place, fold_place, parse_infra
from stix.model.plain import plain
from stix.model.ports import parse_ports
from stix.model.problems import Problem, collect, problems_in, refuse, refuse_all, shown, task_error
from stix.model.quantities import Amount, Memory, parse_cpus, parse_gigabytes, parse_memory
from stix.model.resource_fields import (
    AttachedDisk,
    JobRecovery,
    LocalDisk,
    parse_accelerator_args,
    parse_attached_disks,
    parse_disk_tier,
    parse_hourly_cost,
    parse_image_id,
    parse_instance_type,
    parse_job_recovery,
    parse_labels,
    parse_local_disk,
    parse_network_tier,
    parse_priority,
    parse_priority_class,
    parse_use_spot,
)
from stix.model.shapes import ReadBy, free_mapping

__all__ = ["Resources"]

_MOST_OPTIONS = 100
# What an option writes to take back what the resources around it say.
_NOTHING: dict[str, Any] = {"use_spot": False, "autostop": False, "ports": [], "labels": {}}

_LOGIN = Problem(
    ("_docker_login_config",),
    "a password in the resources would be shown wherever they are.",
    "Write SKYPILOT_DOCKER_USERNAME, SKYPILOT_DOCKER_PASSWORD and SKYPILOT_DOCKER_SERVER under secrets.",
)

_cluster_config = free_mapping("_cluster_config_overrides")


def _options(value: Any) -> tuple[Any, ...]:
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        raise refuse(f"{shown(value)} is not a list.", "Write one option a line, after a dash.", value=value)
    if len(value) > _MOST_OPTIONS:
        raise refuse(f"{len(value)} options are given.", f"At most {_MOST_OPTIONS} fit.")
    problems = []
    for index, option in enumerate(value):
        for name in ("any_of", "ordered"):
            nested = isinstance(option, Mapping) and option.get(name) is not None
            if nested or (isinstance(option, Resources) and getattr(option, name)):
                text = "an option cannot hold options of its own."
                problems.append(Problem((index, name), text, "Write all options in one list."))
    if problems:
        raise refuse_all(problems)
    return tuple(value)


class Resources(BaseModel):
    """What each node of a task needs; a field that is not given leaves the choice to the optimizer.

    Fields take every form of the task YAML (``cpus="4+"``, ``gpus="A100:8"``) and hold the parsed one.
    Wrong input raises ``TaskError`` from the constructor and ``pydantic.ValidationError`` inside a model.
    Whoever looks for a machine asks ``alternatives()``: there, ``accelerators`` is never a choice.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    infra: Annotated[Infra | None, ReadBy(parse_infra)] = None
    instance_type: Annotated[str | None, ReadBy(parse_instance_type)] = None
    cpus: Annotated[Amount | None, ReadBy(parse_cpus)] = None
    memory: Annotated[Memory | None, ReadBy(parse_memory)] = None
    accelerators: Annotated[Accelerator | AcceleratorChoice | None, ReadBy(parse_accelerators)] = None
    accelerator_args: Annotated[dict[str, Any], ReadBy(parse_accelerator_args)] = {}
    use_spot: Annotated[bool, ReadBy(parse_use_spot)] = False
    job_recovery: Annotated[JobRecovery | None, ReadBy(parse_job_recovery)] = None
    max_hourly_cost: Annotated[float | None, ReadBy(parse_hourly_cost)] = None
    disk_size: Annotated[int | None, ReadBy(parse_gigabytes)] = None
    disk_tier: Annotated[str | None, ReadBy(parse_disk_tier)] = None
    local_disk: Annotated[LocalDisk | None, ReadBy(parse_local_disk)] = None
    network_tier: Annotated[str | None, ReadBy(parse_network_tier)] = None
    volumes: Annotated[tuple[AttachedDisk, ...], ReadBy(parse_attached_disks)] = ()
    image_id: Annotated[str | dict[str, str] | None, ReadBy(parse_image_id)] = None
    ports: Annotated[tuple[str, ...], ReadBy(parse_ports)] = ()
    labels: Annotated[dict[str, str], ReadBy(parse_labels)] = {}
    autostop: Annotated[Autostop | None, BeforeValidator(parse_autostop)] = None
    priority: Annotated[int | None, ReadBy(parse_priority)] = None
    priority_class: Annotated[str | None, ReadBy(parse_priority_class)] = None
    any_of: Annotated[tuple[Resources, ...], BeforeValidator(_options)] = ()
    ordered: Annotated[tuple[Resources, ...], BeforeValidator(_options)] = ()
    cluster_config_overrides: Annotated[
        dict[str, Any], ReadBy(lambda value: {} if value is None else _cluster_config(value))
    ] = Field(default={}, alias="_cluster_config_overrides")

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            problems = problems_in(error)
        else:
            return
        raise task_error(problems)

    # Without this mark pydantic would call the constructor for nested values too, and lose their paths.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash(json.dumps(self.to_config(), sort_keys=True))

    @model_validator(mode="wrap")
    @classmethod
    def _read(cls, data: Any, handler: ModelWrapValidatorHandler[Resources]) -> Resources:
        if isinstance(data, Resources):
            return data
        if isinstance(data, Mapping):
            if data.get("_docker_login_config") is not None:
                raise refuse_all([_LOGIN])
            data = {
                name: complete_place(data, value) if name in ("any_of", "ordered") else value
                for name, value in data.items()
            }
        return RESOURCES.read(
            {} if data is None else data, lambda fields: collect(handler, *fold_place(fields))
        )

    @model_validator(mode="after")
    def _is_one_kind_of_choice(self) -> Resources:
        if self.any_of and self.ordered:
            text = '"any_of" and "ordered" cannot both be given.'
            raise refuse_all([Problem(("ordered",), text, "Keep the one whose order you mean.")])
        options = [self, *self.any_of, *self.ordered]
        chosen = [one.accelerators for one in options if isinstance(one.accelerators, AcceleratorChoice)]
        kinds = {choice.ordered for choice in chosen}
        kinds |= {True} if self.ordered else {False} if self.any_of else set()
        if len(kinds) > 1:
            text = "a choice in which the order counts and one in which it does not are mixed."
            raise refuse_all([Problem(("accelerators",), text, "Write every option in one list, ordered.")])
        return self

    @property
    def cloud(self) -> str | None:
        return self.infra.cloud if self.infra else None

    @property
    def region(self) -> str | None:
        return self.infra.region if self.infra else None

    @property
    def zone(self) -> str | None:
        return self.infra.zone if self.infra else None

    @property
    def accelerator(self) -> Accelerator | None:
        """The accelerator, None where none is asked or a choice of several is given."""
        return self.accelerators if isinstance(self.accelerators, Accelerator) else None

    @property
    def is_choice(self) -> bool:
        """Whether there is more than one alternative to look for."""
        return bool(self.any_of or self.ordered) or isinstance(self.accelerators, AcceleratorChoice)

    @property
    def is_ordered(self) -> bool:
        """Whether an earlier alternative is preferred over a later one, whatever they cost."""
        options = (self, *self.any_of, *self.ordered)
        choices = [one.accelerators for one in options if isinstance(one.accelerators, AcceleratorChoice)]
        return bool(self.ordered) or any(choice.ordered for choice in choices)

    def alternatives(self) -> tuple[Resources, ...]:
        """What will do, each without a choice in it, in the order in which it was written, at least one.

        An option's fields replace those around the options, but labels are merged; nothing passes from one
        option to another.
        """
        if not self.is_choice:
            return (self,)
        found: dict[Resources, None] = {}
        for option in self.any_of or self.ordered or (None,):
            one = self._with(option)
            accelerators = one.accelerators
            if isinstance(accelerators, AcceleratorChoice):
                for accelerator in accelerators.options:
                    found[one.model_copy(update={"accelerators": accelerator})] = None
            else:
                found[one] = None
        return tuple(found)

    def _with(self, option: Resources | None) -> Resources:
        changes: dict[str, Any] = {"any_of": (), "ordered": ()}
        if option is not None:
            changes |= {name: getattr(option, name) for name in option.model_fields_set}
            if "labels" in changes:
                changes["labels"] = {**self.labels, **changes["labels"]}
        return self.model_copy(update=changes)

    def without(self, names: set[str]) -> Resources:
        """A copy, its options too, in which the fields ``names`` are not given."""
        kept = {name: getattr(self, name) for name in self.model_fields_set - names - {"any_of", "ordered"}}
        for name in ("any_of", "ordered"):
            if options := getattr(self, name):
                kept[name] = tuple(option.without(names) for option in options)
        return Resources.model_construct(**kept)

    @model_serializer
    def _serialize(self) -> dict[str, Any]:
        return self.to_config()

    def to_config(self, *, whole: bool = True) -> dict[str, Any]:
        """The fields that were given, in canonical forms; reading them again gives an equal ``Resources``.
        Not ``whole``: as an option, in which a field that takes something back is written too."""
        config: dict[str, Any] = {}
        for name, about in type(self).model_fields.items():
            value = getattr(self, name)
            if name in ("any_of", "ordered"):
                if value:
                    config[name] = [option.to_config(whole=False) for option in value]
            elif not (value is None or value is False or value in ((), {})):
                config[about.alias or name] = plain(value)
            elif not whole and name in self.model_fields_set:
                config[about.alias or name] = _NOTHING.get(name)
        return config

    def to_text(self) -> str:
        """For people, in one line of at most 200 characters: ``infra aws/us-east-1, accelerators A100:8``."""
        return ", ".join(f"{name} {_in_words(value)}" for name, value in self.to_config().items())[:200]


def _in_words(value: Any) -> str:
    match value:
        case Mapping():
            said = {name: _in_words(one) for name, one in value.items()}
            return " ".join(f"{name}:{words}" for name, words in said.items() if words)
        case [{}, *_]:
            return " or ".join(map(_in_words, value))
        case list():
            return " ".join(map(_in_words, value))
        case bool():
            return "yes" if value else "no"
    return str(value)
