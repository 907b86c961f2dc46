"""The whole loop, small, with every kind of process killed once on the way. Policies 0, 2 and 3 are evaluated."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from aworld import config as configuration
from aworld.launch import evaluations
from aworld.phase import Phase
from aworld.publish import is_complete
from aworld.rollout.units import standing
from aworld.rollout.workload import schedule
from aworld.rundir import RunDir
from aworld.tasks import make_source
from aworld.trajectories import journal

pytestmark = [pytest.mark.engine, pytest.mark.deep, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
WORDS = """
    recipe=demo site=local tasks.train=16 tasks.held_out=8 pipeline.rounds=3
    model.architecture.hidden_size=64 model.architecture.intermediate_size=128 model.architecture.num_hidden_layers=2
    training.cold_start.tasks=16 training.cold_start.epochs=100 training.cold_start.batch_size=8
    training.cold_start.stop_at=0.4 training.cold_start.lr=5e-3
    rollout.tasks_per_round=6 rollout.oversample=2 rollout.group_size=2 rollout.lease_seconds=10
    training.batch_size=6 environment.slots=3 site.evaluate.elements=1 pipeline.evaluate_every=2
""".split()
WORDS.append(
    "pipeline.evaluations=[held-out, synthetic tasks.seed=7 tasks.train=0 tasks.held_out=4 evaluation.attempts=1]"
)


def start(runs: Path) -> subprocess.Popen[bytes]:
    """Its output goes to a file: jobs that outlive a killed launcher would hold a pipe open."""
    command = [sys.executable, "jobs/pipeline.py", *WORDS, f"runs={runs}"]
    with open(runs / "output", "wb") as output:
        return subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)


def finish(process: subprocess.Popen[bytes], runs: Path, seconds: float) -> None:
    code = process.wait(seconds)
    output = (runs / "output").read_text()
    assert code == 0, output
    assert "held-out pass@1" in output


def wait_for(path: Path, process: subprocess.Popen[bytes], seconds: float = 600) -> None:
    give_up = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, f"the pipeline ended before {path} came"
        assert time.monotonic() < give_up, f"{path} did not come"
        time.sleep(0.05)


def kill_holder(run: RunDir, name: str) -> None:
    _, pid = (run.root / "locks" / f"{name}.lock").read_text().split()
    os.kill(int(pid), signal.SIGKILL)


def aworld(*words: str) -> str:
    command = [sys.executable, "-m", "aworld", *words]
    env = os.environ | {"COLUMNS": "200"}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunDir:
    """A run whose trainer, worker and launcher were killed, each once, and that was then run to its end."""
    runs = tmp_path_factory.mktemp("runs")
    run = RunDir(runs / "demo")
    pipeline = start(runs)
    wait_for(run.round(0) / "steps.jsonl", pipeline)
    kill_holder(run, "train")
    wait_for(run.round(1) / "claims", pipeline)
    kill_holder(run, "rollout-0")
    wait_for(run.policy(1) / "COMPLETE", pipeline)
    pipeline.kill()
    pipeline.wait()
    kill_holder(run, "train")  # of the jobs that are left one dies as well; the next launcher ends the others
    finish(start(runs), runs, 1200)
    return run


def test_every_episode_that_was_asked_for_is_there_exactly_once(run):
    config = configuration.read(run.config)
    workloads = [*schedule(config, run, make_source(config.tasks, run.tasks)), *evaluations.workloads(config, run)]
    played = [workload.name for workload in workloads if not workload.phase.is_trained_on]
    assert played == [f"{name}-{version}" for name in ("held-out", "synthetic") for version in (0, 2, 3)]
    for workload in workloads:
        wanted = {(unit.task_id, attempt) for unit in standing(workload).units for attempt in unit.attempts}
        if workload.phase.is_trained_on:
            with h5py.File(run.trajectories(workload.round)) as f:
                found = [(row["task_id"].decode(), int(row["attempt"])) for row in f["episodes"][()]]
        else:
            episodes = journal.collect(workload.folder / "journals")
            found = [(e.task_id, e.attempt) for e in episodes]
            assert {e.policy_version for e in episodes} == {workload.round}
        assert len(found) == len(set(found)), workload.name
        assert set(found) == wanted, workload.name


def rewards(run: RunDir, number: int) -> dict[str, list[float]]:
    """The rewards of a round's episodes by their task, read by hand."""
    found: dict[str, list[float]] = {}
    with h5py.File(run.trajectories(number)) as f:
        for row in f["episodes"][()]:
            assert row["status"] != b"infra_error"
            found.setdefault(row["task_id"].decode(), []).append(float(row["reward"]))
    return found


def test_each_round_played_its_tasks_in_order_until_six_had_more_than_one_reward(run):
    config = configuration.read(run.config)
    workloads = schedule(config, run, make_source(config.tasks, run.tasks))
    rounds = [workload for workload in workloads if workload.phase is Phase.ROUND]
    assert len(rounds) == 3
    for number, workload in enumerate(rounds, 1):
        found, count, spread = rewards(run, number), 0, 0
        for task in workload.tasks:
            if spread < 6:
                count += 1
                spread += len(set(found[task.task_id])) > 1
        assert len(workload.tasks) == 12 and set(found) == {task.task_id for task in workload.tasks[:count]}
        trained = json.loads((run.round(number) / "metrics.json").read_text())
        assert (trained["groups"], trained["groups"] - trained["groups_of_one_reward"]) == (len(found), spread)
        assert trained["steps"] == -(-2 * spread // 6)


def test_each_round_was_played_by_the_policy_before_it(run):
    for number in (1, 2, 3):
        with h5py.File(run.trajectories(number)) as f:
            assert set(f["episodes"]["policy_version"][()]) == {number - 1}


def test_every_policy_is_whole_and_differs_from_the_last(run):
    folders = [run.base, *(run.policy(version) for version in range(4))]
    assert all(is_complete(folder) for folder in folders)
    models = [load_file(folder / "model.safetensors") for folder in folders]
    assert not all(torch.equal(models[0][key], models[1][key]) for key in models[0])
    AutoModelForCausalLM.from_pretrained(run.policy(3))


def test_megatron_computes_the_log_probabilities_that_vllm_sampled_with(run, torchrun, tmp_path, record_property):
    out = tmp_path / "logprobs.npy"
    torchrun(Path(__file__).with_name("logprobs.py"), 2, str(run.policy(0)), str(run.trajectories(1)), str(out))
    with h5py.File(run.trajectories(1)) as f:
        sampled, vllm = f["mask"][()] == 1, f["logprobs"][()]
    difference = np.abs(np.load(out) - vllm)[sampled]
    record_property("largest difference", float(difference.max()))
    assert len(difference) > 500
    assert vllm[sampled].max() < 0
    assert difference.mean() < 1e-3, f"largest: {difference.max()}"


def test_the_report_holds_the_figures(run):
    figures = json.loads((run.root / "report.json").read_text())
    for key in ("before", "after"):
        part = figures["evaluation"][key]
        assert part["n_tasks"] == 8 and part["attempts"] == 2
        assert part["ci95"][0] <= part["pass_at_1"] <= part["ci95"][1]
        played = journal.collect(run.evaluation("held-out", 0 if key == "before" else 3) / "journals")
        assert part["pass_at_1"] == pytest.approx(sum(e.reward for e in played) / 16)
    assert set(figures["evaluation"]["difference"]) == {"mean", "ci95"}
    evaluated = {name: [one["policy"] for one in each] for name, each in figures["evaluations"].items()}
    assert evaluated == {"held-out": [0, 2, 3], "synthetic": [0, 2, 3]}
    assert [row["round"] for row in figures["rounds"]] == [0, 1, 2, 3]
    for row in figures["rounds"]:
        assert row["seconds"]["rollout"] > 0 and row["seconds"]["train"] > 0
        assert row["length_mean"] > 0 and "kl" in row
    page = (run.root / "report.html").read_text()
    assert page.count("<svg") >= 4
    assert "<script src" not in page and "<link" not in page and "<img" not in page
    assert figures["sandbox"]["name"] in page


def test_status_shows_every_stage_finished_and_show_prints_an_episode(run):
    table = aworld("status", str(run.root))
    assert table.splitlines()[-1] == "finished"
    assert table.count(" done") == 4 * 3 + 6 * 1  # tasks, gather, steps of rounds; tasks of evaluations
    assert all(f" {sum(map(len, rewards(run, number).values()))} " in table for number in (0, 1, 2, 3))  # episodes
    listing = aworld("show", str(run.root), "--round", "1")
    name = next(line.split()[0] for line in listing.splitlines() if line.startswith("1/"))
    episode = aworld("show", str(run.root), name)
    assert "<|im_start|>" in episode and "reward" in episode


def test_running_it_again_does_nothing_and_says_the_same(run):
    before = {path: path.stat().st_mtime_ns for path in (run.root / "policies").rglob("*")}
    jobs = run.jobs.read_text()
    finish(start(run.root.parent), run.root.parent, 120)
    assert run.jobs.read_text() == jobs  # nothing was started
    assert before == {path: path.stat().st_mtime_ns for path in (run.root / "policies").rglob("*")}


def job(stage: str, run: RunDir, *words: str) -> None:
    command = [sys.executable, f"jobs/{stage}.py", str(run.root), *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_round_trained_again_by_itself_gives_the_same_policy_bit_for_bit(run):
    before = load_file(run.policy(0) / "model.safetensors")
    shutil.rmtree(run.policy(0))
    job("train", run, "--round", "0")
    after = load_file(run.policy(0) / "model.safetensors")
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_round_and_an_evaluation_can_be_played_and_gathered_by_themselves(run):
    folders = [run.round(3), run.evaluation("held-out", 3)]
    for folder in folders:
        shutil.rmtree(folder)
    job("rollout", run, "--round", "3", "site.rollout.elements=1")
    job("gather", run, "--round", "3")  # has nothing left to do: the last worker gathered
    job("evaluate", run, "--policy", "3")
    with h5py.File(run.trajectories(3)) as f:
        assert len(f["episodes"]) in range(12, 25)
    assert len(journal.collect(folders[1] / "journals")) == 16


def test_who_comes_when_all_is_played_starts_no_vllm(run):
    run.trajectories(3).unlink()  # so it is not gathered yet
    before = {path: path.stat().st_size for path in run.logs.glob("vllm-*.log")}
    job("rollout", run, "--round", "3")
    assert {path: path.stat().st_size for path in run.logs.glob("vllm-*.log")} == before != {}
    job("gather", run, "--round", "3")
    assert run.trajectories(3).exists()


def test_another_configuration_is_refused_and_nothing_is_lost(run):
    command = [sys.executable, "jobs/pipeline.py", *WORDS, f"runs={run.root.parent}", "seed=7"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "was started with seed=0, now it is 7" in done.stderr
    assert (run.root / "report.json").exists()
