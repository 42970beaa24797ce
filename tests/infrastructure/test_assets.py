from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from infra.assets import Assets

PROCESSES = 6


def staged(build: Path) -> list[str]:
    """The files below what is staged of one function."""
    folder = Path(Assets(build=build).function("api"))
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_processes_that_stage_a_function_at_once_each_find_it_whole(tmp_path: Path) -> None:
    expected = staged(tmp_path / "alone")
    assert "functions/api/handler.py" in expected
    with ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("spawn")) as processes:
        for number in range(3):
            build = tmp_path / f"build{number}"
            assert list(processes.map(staged, [build] * PROCESSES)) == [expected] * PROCESSES
