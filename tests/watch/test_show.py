"""An episode in a terminal: what a policy writes is shown, whatever it writes."""

import re
from pathlib import Path

import pytest
from rich.console import Console

from aworld.errors import InputError, guarded
from aworld.rundir import RunDir
from aworld.trajectories.episode import Episode, Turn
from aworld.trajectories.journal import Journal
from aworld.watch.listing import show_list
from aworld.watch.search import Search
from aworld.watch.show import show

pytestmark = pytest.mark.unit
PLAIN = "[/b] [red]x[/red] [a, b] [link=http://x]y[/link] "
HOSTILE = PLAIN + "\x1b[2J\x1b]0;title\x07 \x9b31m \u202egnp \r\x08\x7f end"
SHOWN = PLAIN + "\\x1b[2J\\x1b]0;title\\x07 \\x9b31m \\u202egnp \\x0d\\x08\\x7f end"


def test_what_a_policy_writes_is_neither_markup_nor_a_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, task_id = RunDir(tmp_path), "t[/b]\x1b[1m"
    turns = [Turn("prompt", HOSTILE), Turn("tool", HOSTILE, HOSTILE, {"code": HOSTILE}, is_error=True)]
    episode = Episode(
        round=1,
        task_id=task_id,
        attempt=0,
        level=1,
        question="?",
        token_ids=[1],
        mask=[1],
        logprobs=[0.0],
        turns=turns,
        answer=HOSTILE,
        reward=0.0,
        status="infra_error",
        seconds={},
        policy_version=0,
        seed=0,
        error=HOSTILE,
    )
    (run.round(1) / "journals").mkdir(parents=True)
    with Journal(run.round(1) / "journals" / "a.journal") as log:
        log.append(episode)
    console = Console(width=400, color_system=None)
    show_list(run, None, Search(text=re.compile("title")), 0, console)
    show(run, f"1/{task_id}/0", console)
    said = capsys.readouterr().out
    assert not set("\x1b\x9b\u202e\r\x07\x08\x7f") & set(said)
    assert said.count(SHOWN) >= 3 and "1/t[/b]\\x1b[1m/0" in said


def test_an_error_that_repeats_it_is_as_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> int:
        raise InputError(f"no tool {HOSTILE}")

    assert guarded(fails) == 2
    assert capsys.readouterr().err.replace("\n", " ").strip() == f"error: no tool {SHOWN}"
