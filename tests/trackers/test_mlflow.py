"""The real MLflow, in a Python environment of its own: it asks for an older cachetools than vLLM is tested with."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tracked_run
from program_venv import program_venv

from aworld.errors import InputError
from aworld.rundir import RunDir
from aworld.trackers import state

pytestmark = pytest.mark.tools

READ = """
import json, sys
from mlflow.tracking import MlflowClient
client = MlflowClient(tracking_uri=sys.argv[1])
runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
print(json.dumps([
    {"name": run.info.run_name, "params": run.data.params, "metrics": {
        name: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)] for name in run.data.metrics
    }} for run in runs
]))
"""


def python(*words: str) -> str:
    """The output of this Python, with MLflow's packages in front of its own."""
    try:
        venv = program_venv("mlflow", "mlflow-skinny>=3.17,<4")
    except InputError as reason:
        pytest.skip(str(reason))
    (packages,) = venv.glob("lib/*/site-packages")
    env = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    env |= {"PYTHONPATH": f"{packages}:{env.get('PYTHONPATH', '')}", "MLFLOW_ALLOW_FILE_STORE": "true"}
    done = subprocess.run([sys.executable, *words], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def bring_up_to_date(run: RunDir) -> str:
    return python("-m", "aworld.trackers.write", str(run.root), "mlflow")


def test_no_step_is_there_twice_after_a_kill_between_the_write_and_the_mark(tmp_path: Path) -> None:
    run = tracked_run.make(tmp_path)
    assert bring_up_to_date(run) == "mlflow: 3 written\n"
    marks = state.path_of(run, "mlflow")
    values = json.loads(marks.read_text())
    marks.write_text(json.dumps(values | {"written": 0}))  # as a kill between write and mark leaves it
    tracked_run.finish_round(run, 2)
    assert bring_up_to_date(run) == "mlflow: 4 written\n"
    (found,) = json.loads(python("-c", READ, (run.root / "trackers" / "mlflow").as_uri()))
    assert found["name"] == "tracked" and found["params"]["training.algorithm"] == "grpo"
    metrics = found["metrics"]
    assert metrics["train/loss"] == [[0, 2.5], [1, 0.25], [2, -0.125]]
    assert metrics["evaluation/held-out/reward"] == [[0, 0.0]]
    assert all(len({step for step, _ in values}) == len(values) for values in metrics.values())
