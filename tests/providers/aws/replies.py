"""What the EC2 server writes itself, and how a reply is held against EC2's own model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from xml.sax.saxutils import escape

_XMLNS = "http://ec2.amazonaws.com/doc/2016-11-15/"


def fleet_xml(
    *,
    instances: Iterable[tuple[str, str, list[str]]] = (),
    errors: Iterable[tuple[str, str, str]] = (),
) -> str:
    made = "".join(
        f"<item><lifecycle>{market}</lifecycle><instanceIds>"
        + "".join(f"<item>{one}</item>" for one in ids)
        + f"</instanceIds><instanceType>{kind}</instanceType></item>"
        for kind, market, ids in instances
    )
    refused = "".join(
        f"<item><launchTemplateAndOverrides><overrides><instanceType>{kind}</instanceType>"
        f"<subnetId>{subnet}</subnetId></overrides></launchTemplateAndOverrides>"
        f"<lifecycle>on-demand</lifecycle><errorCode>{code}</errorCode>"
        f"<errorMessage>{escape(f'The provider says {code}')}</errorMessage></item>"
        for kind, subnet, code in errors
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><CreateFleetResponse xmlns="{_XMLNS}">'
        "<requestId>r</requestId>"
        f"<fleetId>fleet-1</fleetId><errorSet>{refused}</errorSet><fleetInstanceSet>{made}</fleetInstanceSet>"
        "</CreateFleetResponse>"
    )


def error(start: Callable[..., Any], code: str, words: str, status: int) -> list[bytes]:
    start(f"{status} Error", [("Content-Type", "text/xml")])
    return [
        f"<Response><Errors><Error><Code>{code}</Code><Message>{escape(words)}</Message></Error></Errors>"
        "<RequestID>r</RequestID></Response>".encode()
    ]


def compare(element: Any, shape: Any, where: str, violations: list[str]) -> None:
    members = getattr(shape, "members", {})
    names = {one.serialization.get("name", name): one for name, one in members.items()}
    for child in element:
        name = child.tag.rpartition("}")[2]
        if name == "requestId":
            continue
        if shape.type_name == "list":
            compare(child, shape.member, f"{where}.{name}", violations)
        elif name not in names:
            violations.append(f"{where}.{name} is not in the model")
        else:
            compare(child, names[name], f"{where}.{name}", violations)
