"""Token authorizer of the HTTP API and of the wake channel: deny by default."""

from __future__ import annotations

from typing import Any

from stix.application.tokens import NodePrincipal, UserPrincipal, authenticate
from stix.application.tunnel_relay import admits
from stix.runtime.bootstrap import bootstrap


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Who sent the request, for the functions behind: a simple response to the HTTP API (payload 2.0), an IAM
    policy to the WebSocket API (which knows nothing else), where only nodes may connect, and to a tunnel its
    two ends."""
    headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
    scheme, _, token = str(headers.get("authorization") or "").partition(" ")
    who = authenticate(bootstrap(), token.strip()) if scheme.lower() == "bearer" else None
    found: dict[str, Any] = {}
    match who:
        case UserPrincipal():
            found = {"kind": "user", "workspace": who.workspace, "user": who.user}
        case NodePrincipal():
            found = {
                "kind": "node",
                "workspace": who.workspace,
                "cluster_id": who.cluster_id,
                "rank": who.rank,
            }
        case None:
            pass
    if "methodArn" in event:
        tunnel = str((event.get("queryStringParameters") or {}).get("tunnel") or "")
        allowed = found.get("kind") == "node"
        if tunnel:
            allowed = who is not None and admits(bootstrap(), who, tunnel)
            found["tunnel"] = tunnel
        return _policy(event["methodArn"], found, allowed)
    return {"isAuthorized": True, "context": found} if found else {"isAuthorized": False}


def _policy(arn: str, found: dict[str, Any], allowed: bool) -> dict[str, Any]:
    effect = "Allow" if allowed else "Deny"
    statement = {"Action": "execute-api:Invoke", "Effect": effect, "Resource": arn}
    return {
        "principalId": f"{found.get('cluster_id') or found.get('user', 'nobody')}/{found.get('rank', '')}",
        "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
        "context": found,
    }
