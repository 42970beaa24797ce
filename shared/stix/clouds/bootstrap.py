"""The script that makes a fresh machine run its agent: one for all clouds, below every limit of theirs."""

from __future__ import annotations

import shlex
from functools import cache
from importlib import resources

from stix.model.errors import InvalidRequestError
from stix.ports.compute import GangRequest

__all__ = ["MOST_BYTES", "boot_script"]

MOST_BYTES = 4000
"""Vast.ai takes 4,048 characters, the least of all clouds; Amazon EC2 16,384 bytes."""

_WHO = {
    "aws": """\
    t = ask("/latest/api/token", "PUT", X_aws_ec2_metadata_token_ttl_seconds="99")
    at = "/latest/meta-data/"
    return [ask(at + n, X_aws_ec2_metadata_token=t) for n in ("instance-id", "local-ipv4")]""",
    "gcp": """\
    at = "/computeMetadata/v1/instance/"
    return [ask(at + n, Metadata_Flavor="Google") for n in ("name", "network-interfaces/0/ip")]""",
    "azure": """\
    me = json.loads(ask("/metadata/instance?api-version=2021-02-01", Metadata="true"))
    ip = me["network"]["interface"][0]["ipv4"]["ipAddress"][0]["privateIpAddress"]
    return (me["compute"]["resourceGroupName"] + "/" + me["compute"]["name"]).lower(), ip""",
}
"""How a machine learns its id and its private address from its cloud's metadata service."""
_TOLD = '    raise KeyError("STIX_MACHINE_ID")'


@cache
def _template(cloud: str) -> str:
    """The script without comments, with as little indentation as the shell and Python need."""
    text = resources.files("stix.clouds").joinpath("boot.sh").read_text(encoding="utf-8")
    lines: list[str] = []
    in_python = False
    for line in text.replace("@WHO@", _WHO.get(cloud, _TOLD)).split("\n"):
        bare = line.lstrip(" ")
        if bare.startswith("# "):
            continue
        lines.append(" " * ((len(line) - len(bare)) // 4) + bare if in_python else bare)
        in_python = "<<'END'" in line or (in_python and line != "END")
    return "\n".join(lines)


def boot_script(request: GangRequest, cloud: str) -> str:
    """A POSIX shell script, to be run by cloud-init or as a container's command, at first boot or at each.

    The machine's id is ``STIX_MACHINE_ID`` where that is set, else what the cloud's metadata service says.
    All is kept below ``STIX_ROOT`` (``/var/lib/stix``). A machine that cannot fetch its agent, or whose agent
    cannot join within ``boot_seconds``, powers itself off. Raises ``InvalidRequestError`` for a request
    without an agent, or one that does not fit ``MOST_BYTES``.
    """
    if request.agent is None:
        raise InvalidRequestError("A machine of a cloud cannot be made without an agent to run.")
    values = {
        "@CLOUD@": cloud,
        "@API@": request.agent.api_url.rstrip("/"),
        "@SHA@": request.agent.sha256,
        "@JOIN@": request.join_token,
        "@SECONDS@": str(request.boot_seconds),
    }
    script = _template(cloud)
    for mark, value in values.items():
        script = script.replace(mark, shlex.quote(value), 1)
    size = len(script.encode())
    if size > MOST_BYTES:
        raise InvalidRequestError(
            f"The boot script has {size} bytes; at most {MOST_BYTES} fit every cloud.",
            hint="Use a shorter address for the control plane (--public-url).",
        )
    return script
