"""The ``config`` of a task: what it sets otherwise than the configuration of the installation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from stix.model.problems import refuse, shown
from stix.model.shapes import (
    Parser,
    choice,
    each,
    flag,
    free_mapping,
    mapping,
    named,
    number,
    one_or_many,
    text,
    whole,
)

__all__ = ["parse_config"]

_MOST_HOOKS, _MOST_HOOK_BYTES = 32, 16 * 1024
_NETWORK = re.compile(r"(?:[-a-z0-9]+/)?[-a-z0-9]+", re.ASCII)
_RUN_TIME = re.compile(r"[0-9]{1,9}[mhdw]?", re.ASCII | re.IGNORECASE)

_words = text("text")


def _same(parser: Parser) -> Parser:
    """Checks by ``parser`` and keeps what was written."""

    def parse(value: Any) -> Any:
        parsed = parser(value)
        return list(parsed) if isinstance(parsed, tuple) else parsed

    return parse


def _words_or_list(value: Any) -> Any:
    return list(each(_words, "names", least=1)(value)) if isinstance(value, (list, tuple)) else _words(value)


def _network(value: Any) -> str:
    if not isinstance(value, str) or not _NETWORK.fullmatch(value):
        hint = "Write its name in small letters, digits and -, or project/name."
        raise refuse(f"{shown(value)} is not the name of a network.", hint, value=value)
    return value


def _run_time(value: Any) -> Any:
    plain = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if not plain and not (isinstance(value, str) and _RUN_TIME.fullmatch(value)):
        raise refuse(f"{shown(value)} is not a length of time.", 'Write "10m", "2h" or "1d".', value=value)
    return value


def _identity(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return list(each(named(_words, "pattern: identity", least=1, most=1), "mappings")(value))
    return _words(value)


def _identities(value: Any) -> Any:
    return named(_words, "context: identity")(value) if isinstance(value, Mapping) else _words(value)


def _limits(value: Any) -> Any:
    return value if isinstance(value, bool) else number(1)(value)


_docker_mode = choice("a mode", ("ALL", "BUILD"))
_docker_mapping = mapping("enable_docker", {"mode": _docker_mode, "cache_volume": _words}, required=("mode",))


def _enable_docker(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    return _docker_mapping(value) if isinstance(value, Mapping) else _docker_mode(value)


def _option(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if not isinstance(value, str) or "\n" in value:
        raise refuse(f"{shown(value)} is not one line of text.", "Write one value.", value=value)
    return value


_quota = mapping("quota", {"queue": _words, "account": _words}, others=True)
_hooks = each(
    mapping(
        "a hook",
        {
            "run": text("a script", "Write the commands as text after |.", longest=_MOST_HOOK_BYTES),
            "events": _same(
                one_or_many(choice("an event of a hook", ("stop", "preemption", "down")), "events")
            ),
            "timeout": whole(1),
        },
        required=("run",),
    ),
    "hooks",
    most=_MOST_HOOKS,
)
_POD = {
    "pod_config": free_mapping("pod_config"),
    "provision_timeout": whole(-1),
    "custom_metadata": free_mapping("custom_metadata"),
}

_CONFIG = mapping(
    "config",
    {
        "docker": mapping("docker", {"run_options": _words_or_list}),
        "nvidia_gpus": mapping("nvidia_gpus", {"disable_ecc": flag}),
        "active_workspace": _words,
        "gcp": mapping(
            "gcp",
            {
                "managed_instance_group": mapping(
                    "managed_instance_group",
                    {"run_duration": whole(0), "provision_timeout": whole(0)},
                    required=("run_duration",),
                ),
                "enable_gvnic": flag,
                "enable_gpu_direct": flag,
                "placement_policy": _words,
                "vpc_name": _network,
                "subnet_names": _words_or_list,
            },
        ),
        "azure": mapping("azure", {"vpc_name": _words, "remote_identity": _identity}),
        "kubernetes": mapping(
            "kubernetes",
            {
                **_POD,
                "kueue": mapping("kueue", {"local_queue_name": _words, "admission_timeout": whole(0)}),
                "quota": _quota,
                "dws": mapping("dws", {"enabled": flag, "max_run_duration": _run_time}),
                "remote_identity": _identities,
                "set_pod_resource_limits": _limits,
                "enable_docker": _enable_docker,
            },
            others=True,
        ),
        "ssh": mapping("ssh", _POD),
        "slurm": mapping(
            "slurm",
            {
                "sbatch_options": named(_option, "option: value"),
                "quota": _quota,
                "cpu_partition": _words,
            },
            others=True,
        ),
        "vast": mapping(
            "vast",
            {"datacenter_only": flag, "create_instance_kwargs": free_mapping("create_instance_kwargs")},
        ),
        "hooks": _same(_hooks),
    },
    others=True,
)


def parse_config(value: Any) -> dict[str, Any]:
    """The settings as they were written, each checked. Unknown ones are kept: installations may know more."""
    return {} if value is None else _CONFIG(value)
