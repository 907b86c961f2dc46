"""`aworld show` as a search, beside the same question asked of the episodes themselves."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from unplayed_run import unplayed_run

from aworld.cli import main
from aworld.rundir import RunDir
from aworld.trajectories import arrays, file
from aworld.trajectories.episode import STATUSES, Episode, Turn
from aworld.trajectories.journal import Journal
from aworld.watch.commands import STATUSES as OFFERED

pytestmark = pytest.mark.unit


def episode(number: int, round_: int = 1) -> Episode:
    turns = [Turn("prompt", "How many?"), Turn("assistant", f"thought {number}")]
    turns.append(
        Turn("tool", "KeyError" if number % 4 == 3 else "7", "python", {"code": "1"}, is_error=number % 4 == 3)
    )
    status = STATUSES[number % len(STATUSES)]
    names = (round_, f"task-{number // 2}", number % 2, 1 + number % 3)
    tokens = [1] * (number + 2)
    seconds = {"total": float((7 * number) % 20), "generate": 1.0, "tools": 0.0}
    one = Episode(*names, "?", tokens, tokens, [-0.5] * len(tokens), turns, str(number), 0.0, status, seconds, 0, 0)
    return replace(one, reward=(0.0, 0.5, 1.0)[number % 3] if status != "infra_error" else 0.0)


EPISODES = [episode(number) for number in range(20)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    run = unplayed_run(tmp_path_factory.mktemp("searched"))
    for worker in range(2):
        with Journal(run.round(1) / "journals" / f"worker-{worker}.journal") as log:
            for each in EPISODES[worker::2]:
                log.append(each)
    return run


@pytest.fixture
def run(made: RunDir, tmp_path: Path) -> RunDir:
    return RunDir(shutil.copytree(made.root, tmp_path / "run"))


@pytest.fixture
def ask(run: RunDir, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """The lines of the answer, of which those of episodes begin with their names."""

    def ask(*words: str, code: int = 0) -> list[str]:
        assert main(["show", str(run.root), *words]) == code
        said = capsys.readouterr()
        return (said.out + said.err).splitlines()

    return ask


def listed(lines: list[str], prefix: str = "1/task-") -> list[str]:
    return [line.split()[0] for line in lines if line.startswith(prefix)]


def names(episodes: list[Episode]) -> list[str]:
    return [f"1/{each.task_id}/{each.attempt}" for each in sorted(episodes, key=lambda each: each.identity)]


@pytest.mark.parametrize(
    ("words", "fits"),
    [
        ([], lambda each: True),
        (["--wrong"], lambda each: each.reward < 1),
        (["--level", "2"], lambda each: each.level == 2),
        (["--tool-error"], lambda each: any(turn.is_error for turn in each.turns)),
        (["--status", "timeout"], lambda each: each.status == "timeout"),
        (["--text", "thought 1[0-3]"], lambda each: each.answer in ("10", "11", "12", "13")),
        (["--text", "^19$"], lambda each: each.answer == "19"),
        (["--text", "code", "--level", "1"], lambda each: each.level == 1),
        (["--wrong", "--tool-error", "--level", "1"], lambda each: each.answer in ("3", "15")),
    ],
)
def test_it_finds_the_episodes_that_fit(
    ask: Callable[..., list[str]], words: list[str], fits: Callable[[Episode], bool]
) -> None:
    expected = names([each for each in EPISODES if fits(each)])
    lines = ask("--limit", "0", *words)
    assert listed(lines) == expected and expected
    assert f"round 1: {len(expected)} episode" in "\n".join(lines)


def test_it_sorts_and_stops_at_the_limit(ask: Callable[..., list[str]]) -> None:
    slowest = sorted(EPISODES, key=lambda each: (-each.seconds["total"], each.identity))[:3]
    lines = ask("--sort", "seconds", "--limit", "3")
    assert listed(lines) == [f"1/{each.task_id}/{each.attempt}" for each in slowest]
    assert "round 1: 20 episodes fit, 3 of them are shown; --limit 0 shows all" in lines
    assert listed(ask("--sort", "tokens", "--limit", "1")) == ["1/task-9/1"]
    assert len(listed(ask("--sort", "reward", "--limit", "5", "--text", "."))) == 5
    assert "no episode fits" in ask("--level", "9")[0]


def test_the_newest_episodes_are_the_default_and_others_are_named(run: RunDir, ask: Callable[..., list[str]]) -> None:
    with Journal(run.evaluation("held-out", 3) / "journals" / "worker-0.journal") as log:
        log.append(replace(episode(4), round=3))
    run.round(2).mkdir()  # of a round that has just begun
    lines = ask()
    assert listed(lines, "held-out-3/") == ["held-out-3/task-2/0"]
    assert "there are: rounds 1 to 2, held-out-3" in lines
    assert listed(ask("--evaluation", "held-out", "3"), "held-out-3/") == ["held-out-3/task-2/0"]
    assert len(listed(ask("--round", "1"))) == 20
    (name,) = listed(lines, "held-out-3/")
    assert any("thought 4" in line for line in ask(name))


def test_no_text_is_read_unless_a_pattern_asks_for_it(run: RunDir, ask: Callable[..., list[str]]) -> None:
    path = run.round(1) / "journals" / "worker-0.journal"
    damaged = path.read_bytes().replace(b"thought 4", b"thought 5")
    path.write_bytes(damaged)
    assert not any("warning" in line for line in ask("--wrong"))
    assert any("warning" in line and "task-2" in line for line in ask("--text", "thought"))


def test_a_round_without_journals_is_listed_from_its_trajectories(run: RunDir, ask: Callable[..., list[str]]) -> None:
    assert any("turn by turn" in line for line in ask("--round", "1"))
    file.write(run.trajectories(1), arrays.from_episodes(1, sorted(EPISODES, key=lambda each: each.identity)))
    for path in (run.round(1) / "journals").iterdir():
        path.unlink()
    assert listed(ask("--round", "1", "--wrong", "--level", "2")) == names(
        [each for each in EPISODES if each.reward < 1 and each.level == 2]
    )
    assert not any("turn by turn" in line for line in ask("--round", "1"))
    assert "has no journals" in "".join(ask("--round", "1", "--text", "x", code=2))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--round", "7"], "round 7 is not in"),
        (["--evaluation", "gaia", "1"], "gaia-1 is not in"),
        (["--limit", "-1"], "--limit -1 is no number of lines"),
        (["1/task-1/0", "--wrong"], "leave it out to search"),
        (["1/task-1/9"], "no episode 1/task-1/9"),
    ],
)
def test_a_question_that_makes_no_sense_is_one_line(ask: Callable[..., list[str]], words: list[str], said: str) -> None:
    lines = ask(*words, code=2)
    assert said in " ".join(lines) and len(lines) == 1


def test_every_status_may_be_asked_for() -> None:
    assert OFFERED == STATUSES
