"""Answers in the shapes that the clouds publish, and a client over handlers that give them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx

from stix.catalog.fetchers.web import PriceApi

NOW = 1_790_000_000.0  # September 2026

Handler = Callable[[httpx.Request], httpx.Response]


def price_api(handler: Handler, *, slept: list[float] | None = None, tries: int = 5) -> PriceApi:
    """A fetcher's client whose requests ``handler`` answers; waits are noted in ``slept``, not waited."""
    client = httpx.Client(transport=httpx.MockTransport(handler))
    waits = slept if slept is not None else []
    return PriceApi(client, sleep=waits.append, random=lambda: 1.0, now=lambda: NOW, tries=tries)


def answering(answers: dict[str, Any]) -> Handler:
    """By host and path, whatever the query. A callable is given the request; others are JSON."""

    def handler(request: httpx.Request) -> httpx.Response:
        answer = answers[f"{request.url.host}{request.url.path}"]
        if callable(answer):
            answer = answer(request)
        return answer if isinstance(answer, httpx.Response) else httpx.Response(200, json=answer)

    return handler


def body_of(request: httpx.Request) -> Any:
    return json.loads(request.content)


def lambda_type(
    name: str = "gpu_8x_h100_sxm5",
    gpu: str = "H100 (80 GB SXM5)",
    *,
    cents: int = 2392,
    gpus: int = 8,
    regions: tuple[str, ...] = ("us-west-1", "us-east-1"),
) -> dict[str, Any]:
    return {
        "instance_type": {
            "name": name,
            "description": f"{gpus}x {gpu}",
            "gpu_description": gpu,
            "price_cents_per_hour": cents,
            "specs": {"vcpus": 208, "memory_gib": 1800, "storage_gib": 22528, "gpus": gpus},
        },
        "regions_with_capacity_available": [
            {"name": region, "description": f"{region}, USA"} for region in regions
        ],
    }


def lambda_answer(*types: dict[str, Any]) -> dict[str, Any]:
    return {"data": {entry["instance_type"]["name"]: entry for entry in types}}


def runpod_gpu(**changes: Any) -> dict[str, Any]:
    return {
        "id": "NVIDIA H100 80GB HBM3",
        "name": "H100 SXM",
        "pool": None,
        "manufacturer": "NVIDIA",
        "memory": 80,
        "secure": True,
        "community": True,
        "price": {"secure": 2.99, "community": 2.69},
        "maxCount": {"secure": 8, "community": 1},
        "availability": "HIGH",
        "dataCenters": [
            {"id": "US-KS-2", "name": "US Kansas 2", "availability": "HIGH"},
            {"id": "EUR-IS-1", "name": "EUR Iceland 1", "availability": "LOW"},
            {"id": "CA-MTL-1", "name": "CA Montreal 1", "availability": "NONE"},
        ],
        **changes,
    }


def runpod_cpu(**changes: Any) -> dict[str, Any]:
    return {
        "id": "cpu3c",
        "name": "Compute-Optimized",
        "group": "Gen 3",
        "vcpu": {"min": 2, "max": 8},
        "ramGbPerVcpu": 2.0,
        "price": {"securePerVcpu": 0.03, "serverlessPerVcpu": 0.03},
        "availability": "MEDIUM",
        "dataCenters": [{"id": "EU-RO-1", "name": "EU Romania 1", "availability": "MEDIUM"}],
        **changes,
    }


def runpod_sizes(gpu: str = "NVIDIA H100 80GB HBM3", **changes: Any) -> dict[str, Any]:
    sizes = {
        f"{tier}{count}": {"minVcpu": 16 * count, "minMemory": 125 * count}
        for tier in ("secure", "community")
        for count in (1, 2, 4, 8)
    }
    known = {"id": gpu, "secureSpotPrice": 1.75, "communitySpotPrice": None, **sizes, **changes}
    return {"data": {"gpuTypes": [known]}}


def runpod_answers(gpu: dict[str, Any], sizes: Any) -> dict[str, Any]:
    return {
        "api.runpod.io/v2/catalog/gpus": {"gpus": [gpu]},
        "api.runpod.io/v2/catalog/cpus": {"cpus": [runpod_cpu()]},
        "api.runpod.io/graphql": sizes,
    }


def vast_offer(offer_id: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": offer_id,
        "ask_contract_id": offer_id,
        "gpu_name": "RTX 4090",
        "num_gpus": 2,
        "gpu_ram": 24564,
        "cpu_cores_effective": 32.0,
        "cpu_ram": 65900,
        "cpu_arch": "amd64",
        "dph_base": 0.72,
        "dph_total": 0.75,
        "min_bid": 0.4,
        "storage_cost": 0.15,
        "geolocation": "Czechia, CZ",
        "rentable": True,
        "verification": "verified",
        **changes,
    }


def cudo_type(**changes: Any) -> dict[str, Any]:
    return {
        "dataCenterId": "ca-montreal-3",
        "machineType": "ice-lake-a40-compute",
        "cpuModel": "Intel Ice Lake",
        "gpuModel": "A40 (compute mode)",
        "gpuModelId": "nvidia-a40-compute",
        "minVcpuPerMemoryGib": 0.25,
        "maxVcpuPerMemoryGib": 1,
        "minVcpuPerGpu": 1,
        "maxVcpuPerGpu": 13,
        "vcpuPriceHr": {"value": "0.002500"},
        "memoryGibPriceHr": {"value": "0.003600"},
        "gpuPriceHr": {"value": "0.350400"},
        "minStorageGibPriceHr": {"value": "0.00014"},
        "ipv4PriceHr": {"value": "0.003500"},
        "maxVcpuFree": 24,
        "totalVcpuFree": 400,
        "maxMemoryGibFree": 64,
        "totalMemoryGibFree": 900,
        "maxGpuFree": 2,
        "totalGpuFree": 9,
        "maxStorageGibFree": 1000,
        **changes,
    }
