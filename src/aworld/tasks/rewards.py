"""What an episode is worth: a reward by its name, the user's own, or the scorer of the tasks' source."""

import math
import re
from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Protocol

from aworld import config as schema
from aworld import plugins
from aworld.errors import InputError
from aworld.tasks.judge import Judge
from aworld.tasks.scoring import gaia_correct
from aworld.tasks.task import EpisodeSource, Given, Played, Program, Task, TaskSource

MATH = Path(__file__).with_name("math_score.py")
OWN = Path(__file__).with_name("own_reward.py")
GROUP = "aworld.rewards"
TOLERANCE = 1e-6  # between numbers, relative
TASK = ("task_id", "question", "answer", "level", "source", "metadata")  # that a reward of the user's own sees
NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(?:(?<=\d)\.\d*|\.\d+|(?<=\d))(?:[eE][-+]?\d+)?")


class Reward(Protocol):
    """A reward; as in a `TaskSet`."""

    reads_files: bool

    def __call__(self, episode: Played, task: Task, folder: Path | None) -> Given: ...


class AnswerReward:
    """The worth of the final answer alone; without one it is 0."""

    reads_files = False

    def __init__(self, score: Callable[[str, Task], Given]):
        self._score = score

    def __call__(self, episode: Played, task: Task, folder: Path | None) -> Given:
        return 0.0 if episode.answer is None else self._score(episode.answer, task)


class OwnReward:
    """`score(episode, task)` of the user's own file, in a sandbox: `own_reward.py`."""

    reads_files = True

    def __init__(self, file: Path, name: str, seconds: float):
        self._file, self._name, self._seconds = file, name, seconds

    def __call__(self, episode: Played, task: Task, folder: Path | None) -> Program:
        seen = ("round", "attempt", "answer", "status", "error", "seconds")
        asked = {
            "episode": {name: getattr(episode, name) for name in seen}
            | {"turns": [asdict(turn) for turn in episode.turns], "tokens": sum(episode.mask)},
            "task": {name: getattr(task, name) for name in TASK} | {"files": [file.name for file in task.files]},
        }
        return Program(
            OWN,
            asked,
            arguments=(str(self._file), self._name),
            reads=(self._file,),
            seconds=self._seconds,
            folder=folder,
            has_to_score=True,
        )


class JudgeReward:
    """Whether a model says that the answer is right; it is not asked about the gold answer itself."""

    def __init__(self, config: schema.Endpoint):
        self._config = config

    @cached_property
    def _judge(self) -> Judge | None:
        """Made when there is something to judge: a reader of what was played needs no key."""
        return Judge(self._config) if self._config.model else None

    def __call__(self, answer: str, task: Task) -> float:
        if task.answer is None or exact(answer, task):
            return float(task.answer is not None)
        return float(self._judge is not None and self._judge.agrees(task.question, answer, task.answer))


def exact(answer: str, task: Task) -> float:
    """1 where both are the same text, but for white space around them."""
    return float(task.answer is not None and answer.strip() == task.answer.strip())


def contains(answer: str, task: Task) -> float:
    """1 where the gold answer is in the answer, whatever the case and the white space."""
    gold, given = (" ".join(text.casefold().split()) for text in (task.answer or "", answer))
    return float(bool(gold) and gold in given)


def numeric(answer: str, task: Task) -> float:
    """1 where each holds one number, and the two are the same up to TOLERANCE. Units and other words do not matter."""
    gold, given = number(task.answer or ""), number(answer)
    return float(gold is not None and given is not None and math.isclose(gold, given, rel_tol=TOLERANCE, abs_tol=1e-12))


def number(text: str) -> float | None:
    """The one number in a text, with or without commas between thousands; None: there is none, or another one."""
    found = [match[0] for match in NUMBER.finditer(text) if match[0]]
    return float(found[0].replace(",", "")) if len(found) == 1 else None


def gaia(answer: str, task: Task) -> float:
    """1 where GAIA's scorer takes the answer for right."""
    return float(task.answer is not None and gaia_correct(answer, task.answer))


def mathematical(answer: str, task: Task) -> Given:
    """1 where the two are mathematically equal, by math-verify, in a sandbox: it parses the answer with sympy."""
    return 0.0 if task.answer is None else Program(MATH, {"answer": answer, "truth": task.answer})


BY_NAME: dict[str, Callable[[str, Task], Given]] = {
    "contains": contains,
    "exact": exact,
    "gaia": gaia,
    "math": mathematical,
    "numeric": numeric,
}
NAMES = sorted([*BY_NAME, "judge"])


class EpisodeReward:
    """The worth of an episode by the source's own `reward`."""

    reads_files = True

    def __init__(self, source: EpisodeSource):
        self._source = source

    def __call__(self, episode: Played, task: Task, folder: Path | None) -> Given:
        return self._source.reward(episode, task, folder)


def make(config: schema.Source, source: TaskSource | EpisodeSource, copies: Path | None) -> Reward:
    """The reward that `config.reward` names; without one the source's own."""
    if not config.reward:
        return EpisodeReward(source) if isinstance(source, EpisodeSource) else AnswerReward(source.score)
    if plugins.is_file(config.reward):
        path, _, name = plugins.absolute(config.reward).rpartition(":")
        return OwnReward(plugins.copy_of(Path(path), copies) or Path(path), name, config.score_seconds)
    return AnswerReward(JudgeReward(config.judge) if config.reward == "judge" else BY_NAME[config.reward])


def check(config: schema.Source, where: str, copies: Path | None) -> None:
    """Check that the reward is there.

    Args:
        where: the full name of the settings, such as tasks.

    Raises:
        InputError: there is none of that name, its file cannot be used, or there is no judge.
    """
    setting = f"{where}.reward"
    if plugins.is_file(config.reward):
        found = plugins.load(config.reward, setting=setting, group=GROUP, copies=copies)
        if not callable(found):
            raise InputError(f"{setting}={config.reward} is no function; name one that takes an episode and a task")
    elif config.reward == "judge" and not config.judge.model:
        raise InputError(f"{setting}=judge: no model is named; set {where}.judge.model and {where}.judge.base_url")
    elif config.reward and config.reward not in NAMES:
        raise InputError(f"{setting}={config.reward} is not there; valid: {', '.join(NAMES)}, /path/file.py:NAME")
