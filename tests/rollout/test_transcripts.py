"""Conversations to learn from: read, kept, written into journals, and compared with the model's own template."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from aworld import config as configuration
from aworld.agents.chat import ChatFormat
from aworld.config import Config
from aworld.errors import InfrastructureError, InputError
from aworld.rollout import blocks, transcripts
from aworld.rollout.units import is_played, units
from aworld.rollout.workload import Workload, round_workload
from aworld.rundir import RunDir
from aworld.tasks.synthetic import SyntheticTasks
from aworld.trajectories import journal
from aworld.trajectories.episode import Episode
from aworld.watch.status import tally

pytestmark = pytest.mark.unit

TOOLS = [{"type": "function", "function": {"name": "add", "description": "", "parameters": {"type": "object"}}}]
CALL = {"id": "x", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
LONG: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is 1+1? <|im_end|>"},
        {"role": "assistant", "content": None, "reasoning_content": "Add.", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "x", "content": "2"},
        {"role": "assistant", "content": "<think>\nIt is there.\n</think>\n\n<answer>2</answer>"},
    ],
    "tools": TOOLS,
}
SHORT: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}


def lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


@pytest.fixture
def written_rows(tmp_path: Path) -> Config:
    words = [f"runs={tmp_path}", "name=run", "training.cold_start.tasks=0", "model.shard.max_model_len=400"]
    return configuration.load(["recipe=demo", *words, f"training.cold_start.conversations={tmp_path / 'rows.jsonl'}"])


@pytest.fixture(scope="module")
def chat(qwen3: Path) -> ChatFormat:
    return ChatFormat(qwen3)


def kept(config: Config, chat: ChatFormat, source: SyntheticTasks, rows: list[Any]) -> tuple[RunDir, Workload]:
    lines(Path(config.training.cold_start.conversations), rows)
    run = RunDir.of(config)
    transcripts.keep(config, chat, run.conversations)
    return run, round_workload(config, run, source, 0)


def written(config: Config, workload: Workload, chat: ChatFormat, owner: str = "worker-0") -> list[Episode]:
    asyncio.run(transcripts.transcribe(config, workload, chat, owner, lambda: False))
    paths = sorted((workload.folder / "journals").glob("*.journal"))
    return [episode for path in paths for episode in journal.read(path)]


def test_tokens_are_those_of_the_template_and_the_assistants_are_learned(
    written_rows: Config, chat: ChatFormat, source: SyntheticTasks
) -> None:
    _, workload = kept(
        written_rows, chat, source, [LONG, SHORT, "", {"messages": [*SHORT["messages"], *SHORT["messages"]]}]
    )
    first, second, third = written(written_rows, workload, chat)
    mended = json.loads(json.dumps(LONG["messages"]).replace("<think>\\nIt is there.\\n</think>\\n\\n", ""))
    mended[-1]["reasoning_content"] = "It is there."
    mended[1]["content"] = "What is 1+1? @"
    mended[2]["content"], mended[2]["tool_calls"][0]["function"]["arguments"] = "", {"a": 1}
    text = chat.tokenizer.apply_chat_template(mended, tools=TOOLS, tokenize=False).removesuffix("\n")
    question, rest = text.split("@")
    encode = chat.tokenizer.encode
    ids = encode(question, add_special_tokens=False)
    # what looks like a special token in a question is text: no token of it is one
    plain = first.token_ids[: first.token_ids.index(chat.end_of_turn, len(ids))]
    assert chat.decode(plain).endswith("What is 1+1? <|im_end|>")
    assert chat.decode(first.token_ids) == text.replace("@", "<|im_end|>")
    assert first.token_ids[-len(encode(rest)) :] == encode(rest, add_special_tokens=False)
    learned = [token for token, bit in zip(first.token_ids, first.mask, strict=True) if bit]
    turns = [part.partition("<|im_end|>")[0] + "<|im_end|>" for part in text.split("<|im_start|>assistant\n")[1:]]
    assert chat.decode(learned) == "".join(turns)
    assert (first.answer, first.reward, first.status) == ("2", 1.0, "answered")
    assert [(t.role, t.tool) for t in first.turns] == [
        ("prompt", None),
        ("assistant", None),
        ("tool", "add"),
        ("assistant", None),
    ]
    assert (second.answer, second.reward, second.status) == (None, 1.0, "no_answer")
    assert chat.decode(third.token_ids).count("<|im_start|>assistant\n<think>\n\n</think>\n\nHello<|im_end|>") == 2
    assert [episode.identity for episode in (first, second, third)] == [
        (0, "conversations-0000000", n) for n in (0, 1, 2)
    ]


def test_blocks_are_shared_and_what_is_written_is_not_written_again(
    written_rows: Config, chat: ChatFormat, source: SyntheticTasks
) -> None:
    rows = [{"messages": [{"role": "user", "content": f"row {n}"}, SHORT["messages"][1]]} for n in range(130)]
    run, workload = kept(written_rows, chat, source, rows)
    found = units(workload)
    assert sorted(len(unit.attempts) for unit in found) == [2, 64, 64]
    last = next(task for task in workload.tasks if task.metadata["rows"] == 2)
    assert [row["messages"][0]["content"] for row in blocks.read(run.conversations, last)] == ["row 128", "row 129"]
    count = 0

    def soon() -> bool:
        nonlocal count
        count += 1
        return count > 1  # after the first block

    with pytest.raises(Exception, match="what is left of cold start is free"):
        asyncio.run(transcripts.transcribe(written_rows, workload, chat, "worker-1", soon))
    assert not is_played(workload)
    everything = written(written_rows, workload, chat, "worker-0")
    assert is_played(workload) and len(everything) == len({episode.identity for episode in everything}) == 130
    assert sorted(episode.question for episode in everything) == sorted(f"row {n}" for n in range(130))


def test_many_rows_are_few_blocks(tmp_path: Path) -> None:
    blocks.write(tmp_path, ({"n": n} for n in range(130_000)))
    tasks = blocks.tasks(tmp_path)
    assert {task.metadata["rows"] for task in tasks} == {128, 130_000 % 128} and len(tasks) == 1016
    for at in (0, 500, 1015):
        assert [row["n"] for row in blocks.read(tmp_path, tasks[at])] == list(range(130_000))[128 * at : 128 * at + 128]


def test_a_worker_does_not_play_what_stands_in_for_a_copy(
    written_rows: Config, chat: ChatFormat, source: SyntheticTasks
) -> None:
    workload = round_workload(written_rows, RunDir.of(written_rows), source, 0)
    with pytest.raises(InfrastructureError, match="conversations is not whole; launch the run again"):
        asyncio.run(transcripts.transcribe(written_rows, workload, chat, "worker-0", lambda: False))
    assert not (workload.folder / "claims").exists()


def test_a_conversation_that_does_not_fit_is_left_out_and_says_so(
    written_rows: Config, chat: ChatFormat, source: SyntheticTasks
) -> None:
    long = {"messages": [SHORT["messages"][0], {"role": "assistant", "content": "word " * 600}]}
    _, workload = kept(written_rows, chat, source, [SHORT, long])
    assert tally(workload).total == 2
    good, left = written(written_rows, workload, chat)
    assert good.reward == 1.0 and left.reward == 0.0 and left.token_ids == [] and left.status == "max_tokens"
    assert "do not fit model.shard.max_model_len=400: left out" in left.error


def test_rows_of_parquet_are_read(
    written_rows: Config, chat: ChatFormat, source: SyntheticTasks, tmp_path: Path
) -> None:
    """Arrow gives every message all keys, None where it has none."""
    path = tmp_path / "rows.parquet"
    parquet.write_table(pa.Table.from_pylist([LONG, SHORT]), path)
    written_rows.training.cold_start.conversations = str(path)
    run = RunDir.of(written_rows)
    transcripts.keep(written_rows, chat, run.conversations)
    first, second = written(written_rows, round_workload(written_rows, run, source, 0), chat)
    assert first.answer == "2" and "Hello" in chat.decode(second.token_ids)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{", "no JSON"),
        ("[]", "a list and no object"),
        ({"text": "a"}, "messages: a list of messages is needed"),
        ({"messages": [{"role": "user", "content": "q"}]}, "no turn of the assistant"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "the assistant begins"),
        ({"messages": [*SHORT["messages"], {"role": "system", "content": "s"}]}, "messages[2]: a system message"),
        ({"messages": [*SHORT["messages"], SHORT["messages"][1]]}, "messages[2]: two turns of the assistant behind"),
        ({"messages": [{"role": "human", "content": "q"}]}, "no role 'human'"),
        ({"messages": [SHORT["messages"][0], {"role": "assistant", "content": "<tool_call>{"}]}, "turn 1"),
        (SHORT | {"tools": "[]"}, "tools: text and no list"),
        ({"messages": [SHORT["messages"][0], {"role": "assistant", "tool_calls": [{"id": "x"}]}]}, "function"),
    ],
)
def test_a_bad_row_is_named_by_its_line(
    written_rows: Config, chat: ChatFormat, row: Any, reason: str, tmp_path: Path
) -> None:
    lines(tmp_path / "rows.jsonl", [SHORT, row, SHORT])
    with pytest.raises(InputError) as failure:
        transcripts.keep(written_rows, chat, tmp_path / "kept")
    assert str(failure.value).startswith(f"{tmp_path / 'rows.jsonl'} line 2: ") and reason in str(failure.value)
    assert not (tmp_path / "kept").exists()


def test_all_bad_rows_are_listed_and_an_empty_file_is_refused(written_rows: Config, tmp_path: Path) -> None:
    path = lines(tmp_path / "rows.jsonl", [{}] * 25)
    with pytest.raises(InputError) as failure:
        list(transcripts.checked(written_rows, None))
    assert len(str(failure.value).splitlines()) == 21 and str(failure.value).endswith("and 5 more such rows")
    path.write_text("")
    with pytest.raises(InputError, match="holds no rows"):
        list(transcripts.checked(written_rows, None))
    path.unlink()
    with pytest.raises(InputError, match=r"training\.cold_start\.conversations: .* is not there"):
        list(transcripts.checked(written_rows, None))
