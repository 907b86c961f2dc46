"""The benchmark of `evaluation_cases`, on disk and played."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from evaluation_cases import NAME, SAID, episode, wanted

from aworld.evaluation import benchmark
from aworld.rundir import RunDir
from aworld.trajectories.journal import Journal


@pytest.fixture
def gaia(tmp_path: Path) -> Path:
    folder = tmp_path / "GAIA" / "2023" / "validation"
    folder.mkdir(parents=True)
    rows = [
        {"task_id": name, "Question": "?", "Level": level, "Final answer": answer, "file_name": ""}
        for name, (level, answer, _) in SAID.items()
    ]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "GAIA"


@pytest.fixture
def run(tmp_path: Path, gaia: Path) -> RunDir:
    """A run whose policy 3 has played the benchmark, and whose policy 4 has done better at task d."""
    run = RunDir(tmp_path / "run")
    benchmark.begin(wanted(gaia), run, NAME, 0)
    for version in (3, 4):
        with Journal(run.evaluation(NAME, version) / "journals" / "worker-0.journal") as log:
            for task, (_, _, said) in SAID.items():
                for attempt in range(len(said)):
                    log.append(replace(episode(task, attempt), round=version))
            if version == 4:
                answered = {"answer": "7", "reward": 1.0, "status": "answered"}
                log.append(replace(episode("a", 0), round=4, task_id="d", level=3, **answered))  # type: ignore[arg-type]
    return run
