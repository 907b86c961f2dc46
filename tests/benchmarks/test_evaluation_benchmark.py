"""The made-up items and their endpoint, and a small evaluation of them that is killed and goes on."""

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import evaluation
import gaia_items
import gaia_systems
from evaluation import Played
from gaia_systems import System

from aworld.errors import InfrastructureError
from aworld.rundir import RunDir
from aworld.tasks.scoring import gaia_correct
from aworld.trajectories import journal


@pytest.mark.unit
def test_the_items_are_as_many_as_gaias_and_their_code_prints_the_truth() -> None:
    items = gaia_items.items()
    assert len(items) == 165 and len({item.question for item in items}) == 165
    assert [sum(item.level == level for item in items) for level in (1, 2, 3)] == [53, 86, 26]
    for item in items:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            for code in item.code:
                exec(code)
        assert printed.getvalue().splitlines()[-1] == f"step {len(item.code)}: {item.truth}"
        assert gaia_correct(item.answer(item.truth), item.truth) == item.is_right
    assert 0.7 < sum(item.is_right for item in items) / 165 < 0.8


def asked(texts: list[Any], *tools: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": text} for text in texts]
    return {"messages": messages, "tools": [{"function": {"name": name}} for name in tools]}


@pytest.mark.unit
def test_the_endpoint_replies_by_the_question_and_the_results_so_far() -> None:
    item = next(item for item in gaia_items.items() if len(item.code) == 2 and item.is_right)
    found = gaia_items.reply(asked([item.question], "python"))
    assert found and found[:2] == (item, 0)
    first = found[2]["tool_calls"][0]["function"]
    assert json.loads(first["arguments"]) == {"code": item.code[0]}
    # another client repeats the code in a text, and sends texts in parts
    texts = [item.question, f"called: {item.code[0]}", [{"type": "text", "text": "Observation:\nstep 1: 7"}]]
    found = gaia_items.reply(asked(texts, "python"))
    assert found and found[1] == 1
    texts.append(f"step 2: {item.truth}\n")
    for name, key in (("final_answer", "arguments"), ("submit", "arguments")):
        found = gaia_items.reply(asked(texts, "python", name))
        assert found and json.loads(found[2]["tool_calls"][0]["function"][key]) == {"answer": item.truth}
    found = gaia_items.reply(asked(texts, "python"))
    assert found and found[2]["content"] == f"FINAL ANSWER: {item.truth}"
    assert gaia_items.reply(asked(["Say ok."])) is None


@pytest.mark.unit
def test_the_figures_count_what_is_missing_and_what_is_wrong() -> None:
    items = gaia_items.items(8)
    answers: dict[str, str | None] = {item.task_id: item.answer(item.truth) for item in items}
    right = sum(item.is_right for item in items)
    whole = Played(10.0, 4.0, 1.0, 8.0, 30, 0, answers)
    assert evaluation.differences(whole, items) == 0
    assert evaluation.score(whole, items) == pytest.approx(100 * right / 8)
    lacking = answers | {items[0].task_id: None, items[1].task_id: "other"}
    assert evaluation.differences(Played(10.0, 4.0, 1.0, 8.0, 30, 0, lacking), items) == 2


@pytest.mark.tools
def test_an_evaluation_that_was_killed_goes_on_and_records_nothing_twice(tmp_path: Path) -> None:
    items, run = gaia_items.items(6), tmp_path / "evaluation"
    system = gaia_systems.ours(tmp_path, items)
    played = evaluation.evaluate(system, run, items, scale=0.05, kill_after=2)
    assert evaluation.differences(played, items) == 0
    assert sum(len(item.seconds) for item in items) <= played.turns
    assert 0 < played.playing < played.seconds and played.cpu > 0
    journals = (RunDir(run).evaluation(gaia_systems.NAME, 0) / "journals").glob("*.journal")
    assert sorted(episode.task_id for path in journals for episode in journal.read(path)) == sorted(played.answers)


def failing(name: str, program: str) -> System:
    return System(name, Path.mkdir, lambda place, address: ["sh", "-c", program], lambda place: {})


@pytest.mark.tools
def test_a_rival_that_fails_is_left_out_and_ours_is_not(tmp_path: Path) -> None:
    items, faults = gaia_items.items(2), dict[str, str]()
    rivals = [failing("first", "echo no such model; exit 3"), failing("second", "exit 0")]
    assert evaluation.measure(rivals, items, 0.05, 2, tmp_path, faults) == {}
    assert faults["first"].endswith("no such model") and faults["second"].startswith("second asked for 0 turns instead")
    with pytest.raises(InfrastructureError, match="ours failed: no such model"):
        evaluation.measure([failing("ours", "echo no such model; exit 3")], items, 0.05, 1, tmp_path, faults)


@pytest.mark.unit
def test_rivals_come_in_their_order_and_what_ours_loses_is_said() -> None:
    items = gaia_items.items(8)
    ours, other = Played(10.0, 4.0, 1.0, 8.0, 30, 0, {}), Played(9.0, 5.0, 1.0, 8.0, 30, 0, {})
    found = {
        name: {"undisturbed": [run], "killed": [run]} for name, run in (("ours", ours), ("b", other), ("a", other))
    }
    says, figures = evaluation.report(found, items, 1.0)
    assert [f.name for f in figures if f.name.endswith("CPU seconds")] == [
        "b / ours: CPU seconds",
        "a / ours: CPU seconds",
    ]
    assert "b / ours: seconds; b / ours: seconds with a kill; a / ours: seconds" in says[-1]
    assert "CPU" not in says[-1]
