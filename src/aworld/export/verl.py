"""Files for verl: tasks for its RL trainers, and conversations for its multi-turn SFT.

The columns are those of verl's "Prepare data for post-training", and of its MultiTurnSFTDataset.
"""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from aworld.export.conversation import Reader
from aworld.export.prompts import Prompt
from aworld.export.rows import Row, Sampled, write_parquet

MESSAGES = pa.list_(pa.struct({"role": pa.string(), "content": pa.string()}))
EXTRA = pa.struct(
    {"split": pa.string(), "index": pa.int64(), "task_id": pa.string(), "level": pa.int32(), "question": pa.string()}
    | {"files": pa.list_(pa.string()), "attempts": pa.int32(), "mean_reward": pa.float32()}
)
TASKS = pa.schema(
    {
        "data_source": pa.string(),
        "prompt": MESSAGES,
        "ability": pa.string(),
        "reward_model": pa.struct({"style": pa.string(), "ground_truth": pa.string()}),
        "extra_info": EXTRA,
    }
)
CONVERSATIONS = pa.schema(
    {"messages": MESSAGES, "round": pa.int32(), "task_id": pa.string(), "attempt": pa.int32()}
    | {"context": pa.int32(), "agent": pa.string(), "reward": pa.float32()}
)


def tasks(folder: Path, found: Iterable[Prompt]) -> list[str]:
    """Write `rl.parquet`: a row for each task."""
    rows = (_task(index, one) for index, one in enumerate(found))
    count = write_parquet(folder / "rl.parquet", rows, TASKS)
    return [f"rl.parquet: {count} tasks"] if count else []


def conversations(folder: Path, found: Iterable[Sampled], reader: Reader) -> list[str]:
    """Write `sft.parquet`: a row for each context. Text alone, as verl tokenises it.

    A message's content is the text of the tokens, calls included, and the tools are in the system's message. Parquet
    would give all tools the union of their parameters, and verl renders each message by itself.
    """
    rows = ({"messages": reader.read(one.ids, one.mask).plain, **one.identity} for one in found)
    count = write_parquet(folder / "sft.parquet", rows, CONVERSATIONS)
    return [f"sft.parquet: {count} conversations"] if count else []


def _task(index: int, one: Prompt) -> Row:
    task = one.task
    return {
        "data_source": task.source,
        "prompt": one.messages,
        "ability": "agent",
        "reward_model": {"style": "rule", "ground_truth": task.answer or ""},
        "extra_info": {
            "split": "train",
            "index": index,
            "task_id": task.task_id,
            "level": task.level,
            "question": task.question,
            "files": [str(path) for path in task.files],
            "attempts": one.attempts,
            "mean_reward": one.reward,
        },
    }
