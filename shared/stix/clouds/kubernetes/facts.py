"""What is known of Kubernetes without asking a cluster."""

from __future__ import annotations

import os
from collections.abc import Mapping

from stix.ports.cloud_facts import CloudFacts

__all__ = ["FACTS"]


def _find(environ: Mapping[str, str], home: str) -> str:
    if environ.get("KUBECONFIG"):
        return "the variable KUBECONFIG"
    path = os.path.join(home, ".kube", "config")
    if os.path.isfile(path):
        return path
    if environ.get("KUBERNETES_SERVICE_HOST"):
        return "the service account of this pod"
    return ""


FACTS = CloudFacts(
    name="kubernetes",
    extra="kubernetes",
    opens_ports=True,
    connects_clusters=True,
    # Of a service, which may have its address minutes after the pods run.
    find_ports=lambda token: f"kubectl get services -A -l stix-intent={token}",
    discovers=True,
    # A pod is accepted first and scheduled later, or never.
    refuses_late=True,
    runs_images=True,
    find_credentials=_find,
    credentials_hint="Put a kubeconfig into ~/.kube/config or set KUBECONFIG; see docs/clouds/kubernetes.md.",
)
