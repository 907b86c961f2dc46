"""A vLLM of the workers' own plays the cold start: a teacher in a folder, or the policy itself."""

import json
from collections.abc import Callable
from pathlib import Path

import learned_run
import pytest
from warm import aworld

from aworld.agents.chat import ChatFormat
from aworld.publish import is_complete
from aworld.rundir import RunDir, open_run
from aworld.tasks import make_source
from aworld.trajectories import journal
from aworld.trajectories.episode import Episode

pytestmark = [pytest.mark.engine, pytest.mark.deep, pytest.mark.timeout(900)]

WORDS = "pipeline.rounds=0 training.cold_start.attempts=2 training.cold_start.epochs=1 site.rollout.elements=1".split()


def cold_start(folder: Path, *words: str) -> tuple[RunDir, list[Episode]]:
    """A run of a cold start alone; its episodes."""
    prepared = aworld("prepare", *learned_run.WORDS, *WORDS, *words, f"runs={folder}", "name=run")
    assert prepared.returncode == 0, prepared.stderr
    run = RunDir(learned_run.played(prepared.stdout.strip()))
    assert is_complete(run.policy(0))
    episodes = journal.collect(run.round(0) / "journals")
    assert len(episodes) == 32 and {episode.status for episode in episodes} != {"infra_error"}
    right = [episode for episode in episodes if episode.reward == 1]
    steps = [json.loads(line) for line in (run.round(0) / "steps.jsonl").read_text().splitlines()]
    assert sum(step["tokens"] for step in steps) == sum(sum(episode.mask) for episode in right) > 0
    return run, right


def plans(run: RunDir) -> dict[str, list[str]]:
    config, _ = open_run(run.root)
    return {task.task_id: task.metadata["plan"] for task in make_source(config.tasks, run.tasks).tasks("train")}


def test_a_teacher_in_a_folder_plays_in_the_tokens_of_the_policy(once: Callable[..., Path], tmp_path: Path) -> None:
    learned = RunDir(once("learned", learned_run.make) / "run")
    run, right = cold_start(tmp_path, f"training.cold_start.teacher.path={learned.policy(0)}")
    expected, chat = plans(run), ChatFormat(run.base)
    for episode in right:
        text = chat.decode(episode.token_ids)
        assert all(turn in text for turn in expected[episode.task_id])
        assert set(episode.logprobs) == {0.0}  # the policy did not sample them


def test_a_policy_learns_from_its_own_right_episodes(once: Callable[..., Path], tmp_path: Path) -> None:
    learned = RunDir(once("learned", learned_run.make) / "run")
    words = [f"model.path={learned.policy(0)}", "training.made_for=''", "training.cold_start.player=policy"]
    run, right = cold_start(tmp_path, *words)
    expected = plans(run)
    for episode in right:
        said = [turn.text for turn in episode.turns if turn.role == "assistant"]
        assert expected[episode.task_id][-1] in said[-1]
        assert all(
            (logprob < 0) <= bool(sampled) for logprob, sampled in zip(episode.logprobs, episode.mask, strict=True)
        )
        assert min(episode.logprobs) < 0  # as vLLM sampled them
