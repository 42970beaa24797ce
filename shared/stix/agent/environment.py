"""The environment that a job's scripts see: SkyPilot's names, and the same with a STIX_ prefix."""

from __future__ import annotations

import json
import math
import os
from typing import Any, Dict, List

from .files import Json

# What a job inherits from the agent's own environment; the rest would leak the machine that made the node.
_INHERITED = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TERM", "TMPDIR", "LD_LIBRARY_PATH", "SHELL")
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MARKER = "STIX_JOB_KEY"


def job_marker(cluster: str, job: int) -> str:
    """The exact environment entry by which a job's processes are found again."""
    return f"{MARKER}={cluster}/{job}"


def task_environment(
    assignment: Json,
    identity: Json,
    home: str,
    phase: str,
    secrets: Dict[str, str],
    contained: bool = False,
) -> Dict[str, str]:
    """For ``phase`` "setup" or "run". User's values win over ours, except the marker.

    ``contained``: it comes over that of a container's image, which knows its own paths and user.

    ``assignment`` holds ``job`` (JobSpec), ``rank``, ``ips`` in rank order and ``gpus`` (granted indices).
    """
    job = assignment["job"]
    user = str(identity.get("user") or job.get("user") or "stix")
    environment = {"HOME": home}
    if not contained:
        environment.update({name: os.environ[name] for name in _INHERITED if name in os.environ})
        environment.setdefault("PATH", _DEFAULT_PATH)
        environment.update({"USER": user, "LOGNAME": user})
    for name, value in _task_values(assignment, identity, phase).items():
        environment[f"SKYPILOT_{name}"] = value
        environment[f"STIX_{name}"] = value
    gpus: List[int] = assignment.get("gpus") or []
    if gpus:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(str(index) for index in gpus)
    environment.update(
        {name: str(value) for name, value in (job.get("envs") or {}).items() if value is not None}
    )
    environment.update(secrets)
    name, _, value = job_marker(str(identity["cluster_id"]), job["id"]).partition("=")
    environment[name] = value
    return environment


def _task_values(assignment: Json, identity: Json, phase: str) -> Dict[str, str]:
    job = assignment["job"]
    ips: List[str] = assignment["ips"]
    gpus = str(math.ceil(float((job.get("demand") or {}).get("gpus") or 0)))
    cluster: Dict[str, Any] = {
        name: identity.get(name) or "" for name in ("cluster_name", "cloud", "region", "zone")
    }
    values = {
        "NODE_RANK": str(assignment["rank"]),
        "NODE_IPS": "\n".join(ips),
        "NUM_NODES": str(len(ips)),
        "NUM_GPUS_PER_NODE": gpus,
        "TASK_ID": str(job.get("task_id") or ""),
        "TASK_IDS": str(job.get("task_id") or ""),
        "CLUSTER_INFO": json.dumps(cluster),
        "USER": str(job.get("user") or ""),
        "INTERNAL_JOB_ID": str(job["id"]),
    }
    managed = job.get("managed")
    if managed:
        values.update(
            {
                "TASK_IDS": "\n".join(managed["task_ids"]),
                "MANAGED_JOB_ID": str(managed["job"]),
                "MANAGED_JOB_RECOVERIES": str(managed["recoveries"]),
            }
        )
        if managed.get("num_jobs"):
            values.update({"JOB_RANK": str(managed["rank"]), "NUM_JOBS": str(managed["num_jobs"])})
        if managed.get("group"):
            values["JOBGROUP_NAME"] = str(managed["group"])
    if phase == "setup":
        values.update(
            {
                "SETUP_NODE_RANK": str(assignment["rank"]),
                "SETUP_NODE_IPS": "\n".join(ips),
                "SETUP_NUM_GPUS_PER_NODE": gpus,
            }
        )
    return values
