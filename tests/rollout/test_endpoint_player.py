"""`aworld evaluate` of a model behind a real endpoint, killed and resumed."""

import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from endpoint_model import NAME, Model, begin, call, made_up_copy, prepare, python, records, worker

from aworld.agents.endpoint import RETRIES
from aworld.agents.work import turn_seed
from aworld.evaluation import benchmark
from aworld.rollout.units import units_left
from aworld.rundir import RunDir
from aworld.trajectories.episode import Episode
from aworld.watch.status import on_benchmark

pytestmark = [pytest.mark.tools, pytest.mark.timeout(600)]
ITEMS, ATTEMPTS = 8, 2


def says(body: dict[str, Any]) -> dict[str, Any]:
    """A call, then an answer: right for even items, wrong for odd ones."""
    results = [message["content"] for message in body["messages"] if message["role"] == "tool"]
    item = int(body["messages"][1]["content"].split()[-1])
    return {"content": f"FINAL ANSWER: {results[0]}"} if results else call(f"print({item} // 2 * 2)")


def outcome(episode: Episode) -> tuple[Any, ...]:
    said = [(turn.role, turn.text, turn.tool, turn.arguments, turn.is_error) for turn in episode.turns]
    return (*episode.identity, episode.seed, episode.status, episode.answer, episode.reward, said)


ROWS = [{"task_id": f"item-{n}", "Question": f"Say the number {n}", "Final answer": str(n)} for n in range(ITEMS)]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return prepare(tmp_path_factory.mktemp("runs"))


def copy_of(run: RunDir, root: Path) -> RunDir:
    return RunDir(Path(shutil.copytree(run.root, root, symlinks=True)))


def begun(run: RunDir, copy: Path, model: Model, *words: str) -> None:
    begin(run, copy, f"evaluation.attempts={ATTEMPTS}", *model.words, *words)


def play(run: RunDir) -> None:
    done = subprocess.run(worker(run), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_failed_is_asked_again_by_a_resume_and_by_nothing_else(prepared: RunDir, tmp_path: Path) -> None:
    away = True
    copy, run = made_up_copy(tmp_path / "GAIA", ROWS[:2]), copy_of(prepared, tmp_path / "run")

    def often(body: dict[str, Any]) -> dict[str, Any] | int:
        return 500 if away and body["messages"][1]["content"].endswith("1") else says(body)

    with Model(often) as model:
        begun(run, copy, model, "rollout.infra_retries=1")
        play(run)
        failed = [e for e in records(run) if e.status == "infra_error"]
        assert [e.task_id for e in failed] == ["item-1"] * 2 and all("status 500" in e.error for e in failed)
        asked = 2 * 2 + 2 * 2 * RETRIES.tries  # two turns of two attempts, and two that were played twice
        assert len(model.asked) == asked
        away = False
        play(run)  # as Slurm puts a job back
        assert len(model.asked) == asked
        begun(run, copy, model)
        assert [unit.task_id for unit in units_left(on_benchmark(run, NAME, 0))] == ["item-1"]
        play(run)
        model.shutdown()
    assert len(model.asked) == asked + 2 * 2 and len(records(run)) == 6
    best = benchmark.played(run, NAME, 0).episodes
    assert [(e.task_id, e.status, e.reward) for e in best] == [("item-0", "answered", 1.0)] * 2 + [
        ("item-1", "answered", 0.0)
    ] * 2
    assert units_left(on_benchmark(run, NAME, 0)) == []


def test_a_benchmark_whose_tasks_are_generated_is_played(prepared: RunDir, tmp_path: Path) -> None:
    """Its tasks lie beside its policies, and every worker of the run looks for progress there."""
    run = copy_of(prepared, tmp_path / "run")
    with Model(lambda _: {"content": "FINAL ANSWER: 1"}) as model:
        words = ["--policy", "0", "--name", NAME, "--begin-only", "agent=gaia", "environment.slots=2", *model.words]
        done = python("jobs/evaluate.py", str(run.root), *words)
        assert done.returncode == 0, done.stderr
        play(run)
        model.shutdown()
    assert (run.evaluation(NAME, 0).parent / "tasks" / "COMPLETE").is_file()
    assert units_left(on_benchmark(run, NAME, 0)) == [] and {e.status for e in records(run)} == {"answered"}


@pytest.mark.deep
def test_a_killed_evaluation_goes_on_and_asks_nothing_twice(prepared: RunDir, tmp_path: Path) -> None:
    copy = made_up_copy(tmp_path / "GAIA", ROWS)
    run, other = copy_of(prepared, tmp_path / "killed"), copy_of(prepared, tmp_path / "undisturbed")
    with Model(says) as model:
        begun(other, copy, model)
        play(other)
        expected = records(other)
        assert len(model.asked) == 2 * ITEMS * ATTEMPTS
        model.shutdown()
    assert [e.identity for e in expected] == [(0, row["task_id"], a) for row in ROWS for a in range(ATTEMPTS)]
    assert [e.reward for e in expected] == [float(n % 2 == 0) for n in range(ITEMS) for _ in range(ATTEMPTS)]
    assert {(e.status, e.policy_version) for e in expected} == {("answered", 0)}

    with Model(says, seconds=0.3) as model:  # elsewhere: its address is another
        begun(run, copy, model)
        for wanted in (3, 9):
            with subprocess.Popen(worker(run), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                while len(records(run)) < wanted:
                    assert process.poll() is None
                    time.sleep(0.02)
                process.send_signal(signal.SIGKILL)
        recorded = records(run)
        assert 9 <= len(recorded) < ITEMS * ATTEMPTS
        before = len(model.asked)
        begun(run, copy, model)  # as its user resumes it
        play(run)
        asked = {body["seed"] for body in model.asked[before:]}
        model.shutdown()
    found = records(run)
    assert list(map(outcome, found)) == list(map(outcome, expected))  # one record each
    assert len(asked) == 2 * (len(found) - len(recorded))
    assert not asked & {turn_seed(episode.seed, (0,), turn) for episode in recorded for turn in range(2)}
