"""`aworld evaluate` of a model behind a real endpoint, killed and resumed."""

import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from guest import Model, begin, call, made_up_copy, prepare, records, worker

from aworld.agents.loop import turn_seed
from aworld.rundir import RunDir
from aworld.trajectories.episode import Episode

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]
ITEMS, ATTEMPTS = 8, 2


def says(body: dict[str, Any]) -> dict[str, Any]:
    """A call, then an answer: right for even items, wrong for odd ones."""
    results = [message["content"] for message in body["messages"] if message["role"] == "tool"]
    item = int(body["messages"][1]["content"].split()[-1])
    return {"content": f"FINAL ANSWER: {results[0]}"} if results else call(f"print({item} // 2 * 2)")


def outcome(episode: Episode) -> tuple[Any, ...]:
    said = [(turn.role, turn.text, turn.tool, turn.arguments, turn.is_error) for turn in episode.turns]
    return (*episode.identity, episode.seed, episode.status, episode.answer, episode.reward, said)


def begun(run: RunDir, copy: Path, model: Model) -> RunDir:
    begin(run, copy, f"evaluation.attempts={ATTEMPTS}", *model.words)
    return run


def test_a_killed_evaluation_goes_on_and_asks_nothing_twice(tmp_path: Path) -> None:
    rows = [{"task_id": f"item-{n}", "Question": f"Say the number {n}", "Final answer": str(n)} for n in range(ITEMS)]
    copy = made_up_copy(tmp_path / "GAIA", rows)
    run = prepare(tmp_path / "killed")
    other = RunDir(tmp_path / "undisturbed")
    with Model(says) as model:
        subprocess.run(["cp", "-a", run.root, other.root], check=True)
        begun(other, copy, model)
        done = subprocess.run(worker(other), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        expected = records(other)
        assert len(model.asked) == 2 * ITEMS * ATTEMPTS
        model.shutdown()
    assert [e.identity for e in expected] == [(0, row["task_id"], a) for row in rows for a in range(ATTEMPTS)]
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
        done = subprocess.run(worker(run), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        asked = {body["seed"] for body in model.asked[before:]}
        model.shutdown()
    found = records(run)
    assert list(map(outcome, found)) == list(map(outcome, expected))  # one record each
    assert len(asked) == 2 * (len(found) - len(recorded))
    assert not asked & {turn_seed(episode.seed, turn) for episode in recorded for turn in range(2)}
