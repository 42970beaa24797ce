"""What each cloud's function carries, and what its cold start costs in imports."""

from __future__ import annotations

import subprocess
import sys

from layers.build import LAYERS, assemble, download
from stix.clouds.registry import PROVIDERS

from .figures import Record
from .processes import MIB

_IMPORTS = {
    "aws": "import stix.clouds.aws.compute, botocore.session\n"
    "botocore.session.get_session().create_client('ec2', region_name='us-east-1')",
    "azure": "import stix.clouds.azure.compute, azure.identity\n"
    "import azure.mgmt.compute, azure.mgmt.network\n"
    "import azure.mgmt.resource.deployments, azure.mgmt.resource.resources",
    "gcp": "import stix.clouds.gcp.compute, google.auth, google.cloud.compute_v1",
    "kubernetes": "import stix.clouds.kubernetes.compute, kubernetes.client, kubernetes.config",
}
_PROGRAM = "import time; from stix.runtime import cloud_driver\n{}\nprint(time.process_time())"


def measure(record: Record) -> None:
    for layer in LAYERS:
        download(layer, "arm64")
        files = [path for path in assemble(layer, "arm64").rglob("*") if path.is_file()]
        record.add(f"{layer}_size", sum(path.stat().st_size for path in files) / MIB)
    for cloud in PROVIDERS:
        times = [_import_seconds(cloud) for _ in range(5)]
        record.add(f"{cloud}_import", sorted(times)[2])


def _import_seconds(cloud: str) -> float:
    program = _PROGRAM.format(_IMPORTS[cloud])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return float(done.stdout)
