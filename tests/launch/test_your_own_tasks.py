"""docs/your-own-tasks.md: every command of the page is run, from ten rows to a curve."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from aworld import config as configuration
from aworld.rundir import RunDir
from aworld.trajectories import journal

pytestmark = [pytest.mark.engine, pytest.mark.deep, pytest.mark.timeout(900)]
ROOT = configuration.CONFIGS.parent
PAGE = (ROOT / "docs" / "your-own-tasks.md").read_text()


def test_every_command_of_the_page_works_and_the_policy_learns(tmp_path: Path) -> None:
    (tmp_path / "jobs").symlink_to(ROOT / "jobs")
    commands = "".join(re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=tmp_path,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "10 tasks, no faults" in done.stdout

    run = RunDir(tmp_path / "runs" / "mine")
    rounds = [json.loads((run.round(number) / "metrics.json").read_text())["reward"] for number in (1, 2, 3)]
    assert rounds[2] > rounds[0], rounds
    parts = [json.loads((run.round(number) / "rewards.json").read_text()) for number in (1, 2, 3)]
    assert all(part["not_scored"] == {} and 0 < part["parts"]["used"] <= 1 for part in parts)
    report = json.loads((run.root / "report.json").read_text())
    assert [one["reward_parts"] for one in report["rounds"][1:]] == [part["parts"] for part in parts]
    assert report["evaluation"]["before"]["n_tasks"] == 2
    for episode in journal.collect(run.round(3) / "journals"):
        used = any(turn.tool == "python" and not turn.is_error for turn in episode.tool_turns)
        assert episode.reward_parts == {"used": float(used)}
    assert (run.root / "own" / "my_reward.py").read_text() == (tmp_path / "mine" / "my_reward.py").read_text()
