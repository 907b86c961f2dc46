"""The last lines of a run on this machine."""

from pathlib import Path

import pytest
from rich.console import Console

from aworld.evaluation import statistics
from aworld.publish import publish_json
from aworld.rundir import RunDir
from aworld.trajectories.episode import Episode
from aworld.watch.summary import summary

pytestmark = pytest.mark.unit


def evaluated(reward: float) -> dict[str, object]:
    played = [Episode(0, t, 0, 1, "?", [], [], [], [], "x", reward, "answered", {}, 0, 0) for t in "ab"]
    return statistics.evaluation(played, {"a": 1, "b": 1}, 1)


def told(run: RunDir, evaluation: dict[str, object], capsys: pytest.CaptureFixture[str]) -> str:
    publish_json(run.root / "report.json", {"evaluation": evaluation})
    summary(run, Console(width=120))
    return capsys.readouterr().out


def test_a_run_that_is_a_cold_start_alone_has_one_evaluation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = told(RunDir(tmp_path), {"before": evaluated(1.0)}, capsys)
    assert "held-out pass@1 100.0 % [" in said and f"report: {tmp_path}/report.html" in said
    assert told(RunDir(tmp_path), {}, capsys).startswith("report: ")


def test_a_mean_reward_is_not_called_pass_at_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = {"before": evaluated(0.0), "after": evaluated(0.5), "difference": {"mean": 0.5, "ci95": [0.1, 0.9]}}
    said = told(RunDir(tmp_path), both, capsys)
    assert "held-out mean reward" in said and "50.0 %" in said and "+50.0 [10.0, 90.0]" in said
