"""Kills of tool servers that recover, and the table that is made of kills."""

import asyncio
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import recovery
from strikes import LOST, Kill

from aworld.environments.sandbox import choose


@pytest.mark.unit
def test_slurms_wait_is_not_in_the_ratio_to_a_bare_start() -> None:
    kills = [
        Kill("worker", "episode", 30.0, 20.0, 0, LOST, waited=6.0),
        Kill("worker", "episode", 36.0, 20.0, 0, LOST, waited=6.0),
        Kill("controller", "episode", 2.0, 0.0, 0, LOST),
    ]
    figures = {figure.name: figure for figure in recovery.figures_of(kills)}
    assert figures["worker: to the next episode"].values == [30.0, 36.0]
    assert figures["worker: until Slurm starts the job again"].value == 6.0
    ratio = figures["worker: recovery / bare start (20 s)"]
    assert ratio.values == [1.2, 1.5] and not ratio.is_met
    assert [name for name in figures if name.startswith("controller")] == [
        "controller: to the next episode",
        f"controller: {LOST}",
    ]


@pytest.mark.tools
def test_a_tool_server_and_a_sandbox_are_killed_and_come_back(tmp_path: Path) -> None:
    found = asyncio.run(recovery.on_tools(1, tmp_path, choose("auto", "")))
    assert [kill.kind for kill in found] == ["tool server", "sandbox"]
    assert all(0 < kill.seconds < 30 and kill.bare > 0 and kill.lost <= 1 for kill in found)
