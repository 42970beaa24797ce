"""When the keeper of a gateway tells the control plane what the gateway says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stix.agent.gateway_process import BUSY_SECONDS, IDLE_SECONDS, GatewayProcess


@pytest.fixture
def process(tmp_path: Path) -> GatewayProcess:
    (tmp_path / "state").mkdir()
    return GatewayProcess(str(tmp_path), ["/bin/false"])


def tells(process: GatewayProcess, now: float, **status: Any) -> bool:
    """Whether what the gateway has written is told; it is taken then."""
    Path(process.state, "status.json").write_text(json.dumps({"changed_at": 1.0, "busy": False, **status}))
    news = process.news(now)
    if news is not None:
        process.told(news, now)
    return news is not None


def test_changes_are_told_at_once_and_figures_now_and_then(process: GatewayProcess) -> None:
    assert process.news(100.0) is None
    assert tells(process, 100.0)
    assert not tells(process, 100.0 + IDLE_SECONDS - 1)
    assert tells(process, 100.0 + IDLE_SECONDS)
    assert tells(process, 100.0 + IDLE_SECONDS, changed_at=2.0)


def test_the_last_request_is_told_as_soon_as_the_first(process: GatewayProcess) -> None:
    assert tells(process, 100.0, busy=True)
    assert not tells(process, 100.0 + BUSY_SECONDS - 1, busy=True)
    assert tells(process, 100.0 + BUSY_SECONDS)
    assert not tells(process, 100.0 + 2 * BUSY_SECONDS)
