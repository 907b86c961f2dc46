"""Files for TRL: exact tokens for its SFTTrainer, pairs for its DPOTrainer, prompts for its GRPOTrainer.

The formats are those of TRL's "Dataset formats and types", and the columns of a pre-tokenised data set of SFTTrainer.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from aworld.bars import Advance
from aworld.export.conversation import Message, Reader
from aworld.export.prompts import Prompt
from aworld.export.rows import Row, Sampled, contexts, write_parquet
from aworld.rundir import RunDir
from aworld.trajectories import file

IDENTITY = {"round": pa.int32(), "task_id": pa.string(), "attempt": pa.int32()}
FUNCTION = pa.struct({"name": pa.string(), "arguments": pa.string()})
CALL = pa.struct({"id": pa.string(), "type": pa.string(), "function": FUNCTION})
MESSAGE = pa.struct(
    {
        "role": pa.string(),
        "content": pa.string(),
        "reasoning_content": pa.string(),
        "tool_calls": pa.list_(CALL),
        "tool_call_id": pa.string(),
    }
)
TOKENS = pa.schema(
    {"input_ids": pa.list_(pa.int32()), "assistant_masks": pa.list_(pa.int8()), **IDENTITY}
    | {"context": pa.int32(), "agent": pa.string(), "reward": pa.float32()}
)
PAIRS = pa.schema(
    {"prompt": pa.list_(MESSAGE), "chosen": pa.list_(MESSAGE), "rejected": pa.list_(MESSAGE), "tools": pa.string()}
    | {"round": pa.int32(), "task_id": pa.string(), "chosen_reward": pa.float32(), "rejected_reward": pa.float32()}
)
PROMPTS = pa.schema(
    {"prompt": pa.list_(pa.struct({"role": pa.string(), "content": pa.string()})), "answer": pa.string()}
    | {"task_id": pa.string(), "level": pa.int32(), "attempts": pa.int32(), "mean_reward": pa.float32()}
)


def tokens(folder: Path, found: Iterable[Sampled]) -> list[str]:
    """Write `sft.parquet`: the ids that vLLM sampled and were trained on, and their mask."""
    rows = ({"input_ids": one.ids, "assistant_masks": one.mask, **one.identity} for one in found)
    count = write_parquet(folder / "sft.parquet", rows, TOKENS)
    return [f"sft.parquet: {count} contexts, token by token"] if count else []


def pairs(folder: Path, run: RunDir, rounds: Iterable[int], reader: Reader, advance: Advance) -> list[str]:
    """Write `preference.parquet`: attempts at one task, the better one chosen, each in at most one pair."""
    count = write_parquet(folder / "preference.parquet", _pairs(run, rounds, reader, advance), PAIRS)
    return [f"preference.parquet: {count} pairs"] if count else []


def prompts(folder: Path, found: Iterable[Prompt]) -> list[str]:
    """Write `prompts.parquet`: a row for each task."""
    rows = (
        {
            "prompt": one.messages,
            "answer": one.task.answer,
            "task_id": one.task.task_id,
            "level": one.task.level,
            "attempts": one.attempts,
            "mean_reward": one.reward,
        }
        for one in found
    )
    count = write_parquet(folder / "prompts.parquet", rows, PROMPTS)
    return [f"prompts.parquet: {count} tasks"] if count else []


def _pairs(run: RunDir, rounds: Iterable[int], reader: Reader, advance: Advance) -> Iterator[Row]:
    """Episodes of one context alone: a pair has one prompt."""
    for number in rounds:
        source = file.open_(run.trajectories(number))
        table = source.episodes
        alone = (np.diff(source.context_offsets) == 1) & (table["status"] != b"infra_error")
        for task in np.unique(table["task_id"]):
            rows = np.flatnonzero((table["task_id"] == task) & alone)
            best_first = rows[np.argsort(-table["reward"][rows], kind="stable")]
            for better, worse in zip(best_first[: len(rows) // 2], best_first[::-1], strict=False):
                if table["reward"][better] <= table["reward"][worse]:
                    break
                chosen, rejected = contexts(source, int(better)), contexts(source, int(worse))
                if chosen and rejected:  # both have sampled tokens
                    yield _pair(chosen[0], rejected[0], reader)
        advance()


def _pair(better: Sampled, worse: Sampled, reader: Reader) -> Row:
    chosen, rejected = (reader.read(side.ids, side.mask) for side in (better, worse))
    prompt = chosen.prompt
    return {
        "prompt": prompt,
        "chosen": _turns(chosen.messages[len(prompt) :]),
        "rejected": _turns(rejected.messages[len(rejected.prompt) :]),
        "tools": json.dumps(chosen.tools) if chosen.tools else None,
        "round": better.round,
        "task_id": better.task_id,
        "chosen_reward": better.reward,
        "rejected_reward": worse.reward,
    }


def _turns(messages: list[Message]) -> list[Message]:
    """Up to the last turn of the assistant."""
    last = max(at for at, message in enumerate(messages) if message["role"] == "assistant")
    return messages[: last + 1]
