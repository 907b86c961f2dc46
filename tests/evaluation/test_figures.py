"""Figures of made-up episodes, computed once more here by hand."""

import itertools
import json
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from evaluation_cases import ATTEMPTS, NAME, RIGHT, SAID, episode
from scipy import stats

from aworld.cli import main
from aworld.evaluation import benchmark, figures
from aworld.rundir import RunDir
from aworld.trajectories.journal import Journal

pytestmark = pytest.mark.unit


def test_every_attempt_that_was_asked_for_counts(run: RunDir) -> None:
    found = figures.figures(benchmark.played(run, NAME, 3))
    means = {task: np.mean(right) for task, right in RIGHT.items()}
    assert found["pass_at_1"] == pytest.approx(np.mean(list(means.values())))
    assert found["by_level"]["3"]["pass_at_1"] == pytest.approx((means["d"] + means["e"]) / 2)
    assert found["failures"] == {"max_turns": 3, "missing": 5, "wrong_answer": 5}
    for k in range(1, ATTEMPTS + 1):  # by all subsets
        chance = [np.mean([max(s) for s in itertools.combinations(right, k)]) for right in RIGHT.values()]
        assert found["pass_at_k"][k - 1] == pytest.approx(np.mean(chance))
    # 12, and Rome before paris though as many said either, red, nothing, y
    assert found["majority"] == pytest.approx(2 / 5)
    assert found["tools"] == {"python": {"calls": 15, "errors": 4}}
    assert found["seconds"]["max"] == 3.0


def test_answers_of_the_last_turn_are_counted(run: RunDir) -> None:
    played = benchmark.played(run, NAME, 3)
    assert figures.figures(played)["last_turn"] == 0
    answered = [e for e in played.episodes if e.answer is not None]
    late = [replace(e, status="max_turns") for e in answered[:2]] + [replace(answered[2], status="max_tokens")]
    assert figures.figures(replace(played, episodes=[*late, *answered[3:]]))["last_turn"] == 3


def test_the_vote_is_pythons_mode(run: RunDir) -> None:
    played = benchmark.played(run, NAME, 3)
    for task, episodes in figures.by_task(played).items():
        said = [a.strip(" .").lower().replace("12.0", "12") for a in SAID[task][2] if a]
        mode = Counter(said).most_common(1)[0][0] if said else None
        vote = figures.voted(reversed(episodes))
        assert (vote and vote.answer and vote.answer.strip(" .").lower()) == mode


@pytest.mark.parametrize(
    ("said", "wins"),
    [(["5", "-5", "-5"], 1), (["5", ".5", ".5"], 1), (["7", "12", "12.0"], 1), (["7", "1,000", "1000"], 1)],
)
def test_a_vote_is_for_what_the_scorer_reads(said: list[str], wins: int) -> None:
    attempts = [replace(episode("a", 0), attempt=n, answer=answer) for n, answer in enumerate(said)]
    assert figures.voted(attempts) is attempts[wins]


def test_every_episode_is_looked_at_once(run: RunDir) -> None:
    """301 tasks with 32 attempts each: no figure looks for a task's episodes among all."""
    one = benchmark.played(run, NAME, 3)
    tasks = [replace(one.tasks[0], task_id=f"t{n}") for n in range(301)]
    blank = next(attempt for attempt in one.episodes if attempt.reward == 1)
    episodes = [replace(blank, task_id=task.task_id, attempt=n) for task in tasks for n in range(32)]
    began = time.process_time()
    found = figures.figures(replace(one, tasks=tasks, attempts=32, episodes=episodes))
    assert found["pass_at_k"] == [1.0] * 32 and found["majority"] == 1.0
    assert time.process_time() - began < 0.5  # it took 2 when they were looked for


def test_two_policies_are_compared_task_by_task(run: RunDir) -> None:
    found = figures.compare(benchmark.played(run, NAME, 3), benchmark.played(run, NAME, 4))
    assert found["mean"] == pytest.approx(0.25 / 5)
    assert (found["better"], found["worse"], found["n_tasks"], found["measure"]) == (1, 0, 5, "pass@1")
    gains = [0.25, 0, 0, 0, 0, 1, -1]  # five tasks, of which one gained, and the two imaginary ones
    assert found["ci95"] == pytest.approx(stats.norm.interval(0.95, np.mean(gains), stats.sem(gains)))
    drawn = np.random.default_rng(1).choice(gains, (200_000, 7)).mean(axis=1)  # a bootstrap says nearly the same
    assert found["ci95"] == pytest.approx(np.quantile(drawn, [0.025, 0.975]).tolist(), abs=0.05)


def test_few_tasks_that_came_out_alike_do_not_show_that_nothing_differs(run: RunDir) -> None:
    one = benchmark.played(run, NAME, 3)
    low, high = figures.compare(one, one)["ci95"]
    assert low == pytest.approx(-high, abs=0.05) and high > 0.2


def test_parts_of_1_are_no_pass_at_1(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    with Journal(run.evaluation(NAME, 3) / "journals" / "worker-1.journal") as log:
        log.append(replace(episode("a", 0), task_id="d", level=3, reward=0.5))
    assert main(["eval", "report", str(run.root), NAME, "3"]) == 0
    told = capsys.readouterr().out
    assert "mean reward" in told and "37.5%" in told and "pass@1 35.0%: attempts with reward 1" in told
    found = json.loads((run.evaluation(NAME, 3) / "report.json").read_text())
    assert (found["measure"], found["mean_reward"], found["pass_at_1"]) == ("mean reward", 0.375, 0.35)
    assert found["pass_at_k"][0] == pytest.approx(found["pass_at_1"])
    assert "mean reward, %" in (run.evaluation(NAME, 3) / "report.html").read_text()
