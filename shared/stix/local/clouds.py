"""Which clouds the embedded control plane drives: those with credentials, whose machines can call it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from stix.clouds.registry import PROVIDERS, connect, facts
from stix.model.errors import InvalidInputError, StixError
from stix.ports.cloud_facts import CloudFacts, CloudProblem
from stix.ports.compute import Compute
from stix.ports.surroundings import Clock

__all__ = ["ConnectedClouds", "connect_clouds", "read_clouds"]

_SDKS = {
    "aws": "botocore",
    "azure": "azure.mgmt.resource.deployments",
    "gcp": "google.cloud.compute_v1",
    "kubernetes": "kubernetes",
}


@dataclass(frozen=True, slots=True)
class ConnectedClouds:
    """``facts`` and ``computes`` of those that can be used; ``problems`` of the others."""

    facts: Mapping[str, CloudFacts]
    computes: Mapping[str, Compute]
    problems: Mapping[str, CloudProblem]


def read_clouds(file: Path) -> dict[str, dict[str, Any]]:
    """The section ``clouds`` of the configuration, by cloud; nothing where there is no file.

    Raises ``InvalidInputError`` that names the file and the field.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
        raise _wrong(file, "", f"cannot be read: {exc}", "Write YAML, or delete the file.") from exc
    if content is None:
        return {}
    if not isinstance(content, dict) or set(content) - {"clouds"}:
        raise _wrong(
            file, "", "has more than the section `clouds`.", "Keep `clouds:` alone at the top level."
        )
    clouds = content.get("clouds") or {}
    if not isinstance(clouds, dict):
        raise _wrong(file, "clouds", f"is {type(clouds).__name__}.", "Write one cloud a line, as `aws: {}`.")
    for name, config in clouds.items():
        if name not in PROVIDERS:
            raise _wrong(file, f"clouds.{name}", "is no known cloud.", f"Known are: {', '.join(PROVIDERS)}.")
        if not isinstance(config or {}, dict):
            raise _wrong(file, f"clouds.{name}", f"is {config!r}.", "Write its settings, or {}.")
    return {name: config or {} for name, config in clouds.items()}


def _wrong(file: Path, field: str, what: str, hint: str) -> InvalidInputError:
    name = f"{field} " if field else ""
    return InvalidInputError(f"{file}: {name}{what}", hint=hint, details={"field": field, "file": str(file)})


def connect_clouds(
    config_file: Path,
    *,
    deployment: str,
    clock: Clock,
    public: bool,
    environ: Mapping[str, str] = os.environ,
) -> ConnectedClouds:
    """Every provider that is configured or whose credentials are found. No request is sent.

    ``public``: machines elsewhere can call this control plane. Raises ``InvalidInputError`` for a wrong
    configuration; a provider that cannot be used becomes a problem instead.
    """
    configured = read_clouds(config_file)
    found: dict[str, CloudFacts] = {}
    computes: dict[str, Compute] = {}
    problems: dict[str, CloudProblem] = {}
    for name in PROVIDERS:
        about = facts(name)
        problem = _problem(about, name in configured, public, environ)
        if problem is None:
            try:
                computes[name] = connect(name, configured.get(name, {}), deployment=deployment, clock=clock)
            except InvalidInputError:
                raise
            except StixError as error:
                problem = CloudProblem(error.message, error.hint)
            else:
                found[name] = about
        if problem is not None:
            problems[name] = problem
    return ConnectedClouds(found, computes, problems)


def _problem(
    about: CloudFacts, configured: bool, public: bool, environ: Mapping[str, str]
) -> CloudProblem | None:
    home = environ.get("HOME") or str(Path.home())
    source = about.find_credentials(environ, home)
    if not source and not configured:
        return CloudProblem("no credentials were found", about.credentials_hint)
    if not public and not about.reaches_laptop:
        return CloudProblem(
            "its machines cannot call this computer",
            "Start the control plane at an address that they reach with `stix api start --public-url URL`, or"
            " put it into your AWS account with `stix deploy`.",
        )
    if not _installed(_SDKS[about.name]):
        return CloudProblem(
            "its SDK is not installed", f"Install it with: pip install 'stix-cloud[{about.extra}]'"
        )
    return None


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False  # not even the package that it would be in
