"""Rewards by name, each against examples worked out by hand, and what is refused before a run."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from aworld import tasks
from aworld.config import Endpoint, Tasks
from aworld.errors import InputError
from aworld.tasks import math_score, rewards
from aworld.tasks.jsonl import RowTasks
from aworld.tasks.task import Program, Task
from aworld.trajectories.episode import Turn

pytestmark = pytest.mark.unit


def worth(name: str, answer: str | None, gold: str | None) -> float:
    reward = rewards.make(Tasks(source="jsonl", reward=name), RowTasks(Path()), None)
    given = reward(SimpleNamespace(answer=answer), Task("a", "?", gold, 1), None)
    if isinstance(given, Program):
        assert given.file == Path(math_score.__file__)
        return math_score.score(json.loads(json.dumps(given.request)))
    assert isinstance(given, float)
    return given


@pytest.mark.parametrize(
    ("name", "gold", "right", "wrong"),
    [
        ("exact", "Paris", ["Paris", " Paris\n"], ["paris", "Paris.", ""]),
        ("contains", "New York", ["It is in new  york!", "NEW\nYORK"], ["York", "NewYork", ""]),
        (
            "numeric",
            "1,234.5",
            ["1234.5", "$1,234.50", "about 1.2345e3 km"],
            ["1234.6", "1 or 1234.5", "x"],
        ),
        ("numeric", "-3", ["-3", "-3.0 °C", "it is -3.000001"], ["3", ""]),
        ("numeric", "0", ["0", "0.0"], ["1e-6"]),
        ("gaia", "12,7", ["12, 7", "12;7"], ["7,12", "12"]),
        ("", "4", ["4.0", "$4"], ["5"]),
        ("math", r"\frac{1}{2}", ["0.5", "1/2", r"$\frac{2}{4}$", r"so it is $\boxed{\frac12}$"], ["2", "", "half"]),
        ("math", "x^2-1", ["$(x-1)(x+1)$"], ["$x^2+1$"]),
        ("math", r"\{1, 2\}", [r"$\{2, 1\}$"], [r"$\{1\}$"]),
    ],
)
def test_a_reward_by_name(name: str, gold: str, right: list[str], wrong: list[str]) -> None:
    assert {answer: worth(name, answer, gold) for answer in (gold, *right)} == dict.fromkeys((gold, *right), 1.0)
    assert {answer: worth(name, answer, gold) for answer in wrong} == dict.fromkeys(wrong, 0.0)


@pytest.mark.parametrize("name", ["", *rewards.NAMES])
def test_no_answer_and_no_gold_answer_are_worth_nothing(name: str) -> None:
    assert worth(name, None, "4") == worth(name, "4", None) == worth(name, "", None) == 0.0


def test_a_judge_is_not_asked_about_the_gold_answer_itself() -> None:
    assert (worth("judge", "4", "4"), worth("judge", "four", "4")) == (1.0, 0.0)  # there is none to ask


def test_an_own_reward_gets_the_whole_episode_as_json(tmp_path: Path) -> None:
    reward = rewards.make(
        Tasks(source="jsonl", reward=f"{tmp_path}/r.py:score", score_seconds=7.0), RowTasks(Path()), None
    )
    turns = [Turn("assistant", "thinks"), Turn("tool", "5", "python", {"code": "2+3"}, True, 0.5)]
    episode = SimpleNamespace(
        round=2,
        attempt=1,
        answer=None,
        status="max_turns",
        error="",
        seconds={"total": 3.0},
        turns=turns,
        mask=[0, 1, 1],
    )
    task = Task("a", "2+3?", "5", 2, (tmp_path / "x.csv",), "jsonl", {"unit": "m"})
    program = reward(episode, task, tmp_path)
    assert isinstance(program, Program) and reward.reads_files
    assert (program.arguments, program.reads) == ((f"{tmp_path}/r.py", "score"), (tmp_path / "r.py",))
    assert (program.seconds, program.folder, program.has_to_score) == (7.0, tmp_path, True)
    asked = json.loads(json.dumps(program.request))
    assert asked["episode"]["tokens"] == 2 and asked["episode"]["status"] == "max_turns"
    assert asked["episode"]["turns"][1]["arguments"] == {"code": "2+3"}
    own = {name: value for name, value in vars(task).items() if name not in ("container", "seconds", "needs_gold")}
    assert asked["task"] == own | {"files": ["x.csv"]}


@pytest.mark.parametrize(
    ("reward", "said"),
    [
        ("best", r"tasks\.reward=best is not there; valid: contains, exact, gaia, judge, math, numeric, /path/file"),
        ("judge", r"tasks\.reward=judge: no model is named; set tasks\.judge\.model"),
        ("{folder}/none.py:score", "none.py cannot be read"),
        ("{folder}/r.py:scores", "r.py has no scores; it has table, score"),
        ("{folder}/r.py:table", "r.py:table is no function; name one that takes an episode and a task"),
    ],
)
def test_a_reward_that_cannot_be_used_is_refused(reward: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "r.py").write_text("table = {}\ndef score(episode, task):\n    return 1.0\n")
    with pytest.raises(InputError, match=said):
        tasks.check(Tasks(source="jsonl", path="q.jsonl", reward=reward.format(folder=tmp_path)))
    tasks.check(Tasks(source="jsonl", path="q.jsonl", reward=f"{tmp_path}/r.py:score"))
    tasks.check(Tasks(source="jsonl", path="q.jsonl", reward="judge", judge=Endpoint(model="m")))


def test_a_benchmark_has_the_reward_that_makes_it_one() -> None:
    with pytest.raises(InputError, match=r"tasks\.reward=exact: tasks\.source=gaia does not use it"):
        tasks.check(Tasks(source="gaia", path="GAIA", reward="exact"))
