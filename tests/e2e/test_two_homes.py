"""Two homes on one computer know nothing of each other."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.embedded import EmbeddedHome

pytestmark = pytest.mark.xdist_group("e2e-homes")


def names(home: EmbeddedHome) -> list[str]:
    return [cluster["name"] for cluster in json.loads(home.stix("status", "-o", "json").stdout)["clusters"]]


def test_homes_do_not_disturb_each_other_when_used_at_the_same_time(
    new_home: Callable[..., EmbeddedHome],
) -> None:
    homes = [new_home(), new_home()]

    def work(number: int) -> str:
        # The same name in both, each with a port of its own at the same number.
        home = homes[number]
        home.stix("launch", "-y", "-c", "same", "--num-nodes", "2")
        return home.stix("exec", "same", "docs/examples/ring.yaml").stdout

    with ThreadPoolExecutor(2) as threads:
        said = list(threads.map(work, (0, 1)))
    assert all("sums to 3" in text for text in said)
    addresses = []
    for home in homes:
        assert names(home) == ["same"]
        with home.client() as client:
            addresses += client.cluster("same")["addresses"]
    assert len(set(addresses)) == 4

    homes[0].stix("down", "-y", "same")
    homes[0].stix("api", "stop")
    homes[0].await_no_process()
    assert names(homes[1]) == ["same"]
    assert homes[1].stix("exec", "same", "echo unharmed").stdout == "unharmed\n"
