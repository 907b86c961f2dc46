"""Files for other trainers, read back by pyarrow, against the file of trajectories."""

import json
from pathlib import Path

import h5py
import pyarrow.parquet as pq
import pytest
from exported_run import SYSTEM, TOOLS, play, run_with

from aworld.cli import main
from aworld.export.conversation import Reader
from aworld.export.prompts import prompts
from aworld.publish import publish_text
from aworld.rundir import RunDir, open_run
from aworld.tasks import make_source

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def run(qwen3: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    run, config, chat = run_with(tmp_path_factory.mktemp("runs"), qwen3)
    play(run, config, chat)
    return run


def answers(run: RunDir) -> dict[str, str | None]:
    from aworld import config as configuration

    tasks = make_source(configuration.read(run.config).tasks, run.tasks).tasks("train")
    return {task.task_id: task.answer for task in tasks}


def test_sft_has_each_context_of_right_episodes(run: RunDir, capsys: pytest.CaptureFixture[str]):
    assert main(["export", str(run.root), "--to", "sft"]) == 0
    rows = [json.loads(line) for line in (run.root / "export/sft/conversations.jsonl").read_text().splitlines()]
    # round 1: one right attempt at a, one of two contexts at b; round 2: two right ones
    assert [(row["round"], row["attempt"], row["agent"]) for row in rows] == [
        (1, 1, "agent"),
        (1, 1, "agent"),
        (1, 1, "helper"),
        (2, 0, "agent"),
        (2, 1, "agent"),
    ]
    assert "5 conversations, of which 5 render" in capsys.readouterr().out
    first = rows[0]
    assert first["tools"] == TOOLS and first["messages"][0] == {"role": "system", "content": SYSTEM}
    assert first["messages"][-1]["content"] == f"<answer>{answers(run)[first['task_id']]}</answer>"


def test_wrong_episodes_and_single_rounds_are_there_for_the_asking(run: RunDir, tmp_path: Path):
    assert main(["export", str(run.root), "--to", "sft", "--all", "--rounds", "1", "--output", str(tmp_path)]) == 0
    rows = [json.loads(line) for line in (tmp_path / "conversations.jsonl").read_text().splitlines()]
    assert [row["reward"] for row in rows] == [0.0, 1.0, 1.0, 1.0]  # what the machine lost has no tokens


def test_trl_gets_the_very_tokens_and_the_better_of_each_pair(run: RunDir):
    assert main(["export", str(run.root), "--to", "trl"]) == 0
    folder = run.root / "export/trl"
    (one, *_, other) = [row for row in pq.read_table(folder / "sft.parquet").to_pylist() if row["agent"] == "agent"]
    for row in (one, other):
        with h5py.File(run.trajectories(row["round"])) as f:
            table = f["episodes"][:]
            ids = [(name.decode(), number) for name, number in zip(table["task_id"], table["attempt"], strict=True)]
            at = ids.index((row["task_id"], row["attempt"]))
            starts = f["contexts"]["start"][f["context_offsets"][at] : f["context_offsets"][at + 1]]
            begin, end = f["offsets"][at : at + 2]
            own = slice(begin, begin + starts[1] if len(starts) > 1 else end)
            assert row["input_ids"] == f["tokens"][own].tolist()
            assert row["assistant_masks"] == f["mask"][own].tolist()
    (pair,) = pq.read_table(folder / "preference.parquet").to_pylist()  # b has two contexts, round 2 is all right
    right = answers(run)[pair["task_id"]]
    assert pair["chosen"][-1]["content"] == f"<answer>{right}</answer>"
    assert pair["rejected"][-1]["content"] == "<answer>wrong</answer>"
    assert [message["role"] for message in pair["prompt"]] == ["system", "user"]
    assert json.loads(pair["tools"]) == TOOLS
    assert (pair["chosen_reward"], pair["rejected_reward"]) == (1.0, 0.0)
    prompts = pq.read_table(folder / "prompts.parquet").to_pylist()
    assert {row["task_id"]: row["answer"] for row in prompts}.items() <= answers(run).items()


def test_verl_gets_each_task_once_with_its_answer_and_difficulty(run: RunDir):
    assert main(["export", str(run.root), "--to", "verl"]) == 0
    table = pq.read_table(run.root / "export/verl/rl.parquet")
    assert table.column_names == ["data_source", "prompt", "ability", "reward_model", "extra_info"]
    rows = {row["extra_info"]["task_id"]: row for row in table.to_pylist()}
    assert len(rows) == table.num_rows == 2
    for name, row in rows.items():
        assert row["reward_model"] == {"style": "rule", "ground_truth": answers(run)[name]}
        assert row["prompt"] == [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": row["extra_info"]["question"]},
        ]
    measured = sorted((row["extra_info"]["attempts"], row["extra_info"]["mean_reward"]) for row in rows.values())
    assert measured == [(1, 1.0), (4, 0.75)]  # a lost attempt measures nothing
    conversations = pq.read_table(run.root / "export/verl/sft.parquet").to_pylist()
    assert len(conversations) == 5
    assert "<tools>" in conversations[0]["messages"][0]["content"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "trl", "--evaluations", "held-out"], "would train on what measures"),
        (["--to", "sft", "--rounds", "7..9"], "there are the rounds 1 to 2"),
        (["--to", "sft", "--rounds", "x"], "write one round"),
        (["--to", "inspect", "--evaluations", "gaia"], "no such evaluation; there are: held-out-0"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_a_line(
    run: RunDir, tmp_path: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
):
    assert main(["export", str(run.root), *words, "--output", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_blocks_of_conversations_are_no_tasks(run: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    config, _ = open_run(run.root)
    reader = Reader(run.base, enable_thinking=True)
    expected = list(prompts(run, config, [1], reader, lambda: None))
    config.training.cold_start.conversations = "/talks.jsonl"
    assert list(prompts(run, config, [0, 1], reader, lambda: None)) == expected != []
    talks = ["training.cold_start.tasks=0", "training.cold_start.conversations=/talks.jsonl"]
    other, _, _ = run_with(tmp_path, run.base.resolve(), *talks)
    publish_text(other.trajectories(0), "")
    assert main(["export", str(other.root), "--to", "inspect", "--rounds", "0"]) == 2
    assert "is of conversations, which no task has" in capsys.readouterr().err


def test_a_benchmark_is_not_passed_on_by_default(qwen3: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run, config, chat = run_with(tmp_path, qwen3)
    play(run, config, chat)
    text = run.config.read_text().replace("source: synthetic", "source: gaia\n  purpose: train", 1)
    run.config.write_text(text.replace("  purpose: evaluate\n", "", 1))
    assert main(["export", str(run.root), "--to", "sft"]) == 2
    assert "benchmark gaia" in capsys.readouterr().err
    assert main(["export", str(run.root), "--to", "sft", "--allow-benchmark"]) == 0
    empty, *_ = run_with(tmp_path / "empty", qwen3)
    assert main(["export", str(empty.root), "--to", "sft"]) == 2
    assert "no gathered round yet" in capsys.readouterr().err
