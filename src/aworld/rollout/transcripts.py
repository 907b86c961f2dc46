"""Conversations to learn from, in the place of episodes: `training.cold_start.conversations`.

The launcher checks each row and keeps a copy in the run, in blocks of rows. A block is a unit of work: a worker writes
its conversations in the policy's tokens into its journal. So they are gathered and trained on as episodes are.
"""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from aworld.agents import conversation
from aworld.agents.chat import ChatFormat
from aworld.agents.scripted import ScriptedPolicy
from aworld.agents.tokens import PolicyModel
from aworld.bars import bar
from aworld.config import Config
from aworld.errors import InfrastructureError, InputError, Interrupted
from aworld.publish import is_complete, publish_folder
from aworld.rollout import blocks
from aworld.rollout.claims import Unit
from aworld.rollout.units import claims_of, units
from aworld.rollout.worker import RENEWALS, episode_seed, while_held
from aworld.rollout.workload import Workload
from aworld.tasks import rows
from aworld.tasks.task import Task
from aworld.trajectories import journal
from aworld.trajectories.episode import Context, Episode

SETTING = "training.cold_start.conversations"
SHOWN = 20  # bad rows, at most, that an error lists


def checked(config: Config, chat: ChatFormat | None) -> Iterator[dict[str, Any]]:
    """The rows, each checked: also whether `chat` can write it, where it is given. A terminal shows how many so far.

    Raises:
        InputError: the file is not there, holds no rows, or some of them are no conversations: a line for each.
    """
    path = Path(config.training.cold_start.conversations)
    bad: list[str] = []
    row = None
    try:
        with bar(None, "conversations") as advance:
            for row in rows.read(path):
                try:
                    conversation.read(row.values, config.agent.answer_form, chat)
                except (ValueError, TypeError, RecursionError) as reason:
                    bad.append(f"{row.where}: {reason}")
                else:
                    yield row.values
                advance()
    except InputError as reason:
        raise InputError(f"{SETTING}: {reason}") from None
    if row is None:
        raise InputError(f"{SETTING}: {path} holds no rows; write one conversation per row")
    if bad:
        more = [f"and {len(bad) - SHOWN} more such rows"] if len(bad) > SHOWN else []
        raise InputError("\n".join([*bad[:SHOWN], *more]))


def keep(config: Config, chat: ChatFormat, folder: Path) -> None:
    """Keep a checked copy of the rows in `folder`. Does nothing where it is there.

    Raises:
        InputError: as `checked`.
    """

    publish_folder(folder, lambda part: blocks.write(part, checked(config, chat)))


async def transcribe(
    config: Config, workload: Workload, chat: ChatFormat, owner: str, ends_soon: Callable[[], bool]
) -> None:
    """Write blocks of conversations into this worker's journal until none is free.

    Raises:
        Interrupted: it ends soon, and others are left.
        InfrastructureError: the run's copy of them is not whole.
    """
    conversations = workload.conversations
    assert conversations
    if not is_complete(conversations):
        raise InfrastructureError(f"{conversations} is not whole; launch the run again, which copies the rows anew")
    claims, found = claims_of(workload, owner, config.rollout.lease_seconds), units(workload)
    model = PolicyModel(ScriptedPolicy(chat, []), chat, config.agent, config.model.shard.max_model_len)
    folder, tasks = workload.folder / "journals", {task.task_id: task for task in workload.tasks}
    folder.mkdir(parents=True, exist_ok=True)
    there = {record.identity for record in journal.records(folder)}
    with journal.Journal(folder / f"{owner}.journal") as log:

        async def write(unit: Unit) -> None:
            if claims.was_anothers(unit):  # the other may have written some of it since we looked
                there.update(record.identity for record in await asyncio.to_thread(journal.records, folder))
            task = tasks[unit.task_id]
            for attempt, values in enumerate(blocks.read(conversations, task)):
                if (workload.round, unit.task_id, attempt) not in there:
                    log.append(await asyncio.to_thread(_episode, config, model, task, attempt, values))

        while not ends_soon() and (unit := claims.claim(found)):
            try:
                is_ours = await while_held(claims, unit, config.rollout.lease_seconds / RENEWALS, write(unit))
            except BaseException:
                claims.release(unit)
                raise
            if is_ours and claims.renew(unit):
                claims.mark_done(unit)
    if ends_soon() and not claims.all_done(found):
        raise Interrupted(f"told to end; what is left of {workload.name} is free for other workers")


def _episode(config: Config, model: PolicyModel, task: Task, attempt: int, values: Any) -> Episode:
    said = conversation.read(values, config.agent.answer_form)
    chat, turns = conversation.write(said, model)
    error, token_ids = "", chat.token_ids
    if len(token_ids) > model.context:
        error = f"its {len(token_ids)} tokens do not fit model.shard.max_model_len={model.context}: left out"
        token_ids = []
    return Episode(
        round=0,
        attempt=attempt,
        task_id=task.task_id,
        level=task.level,
        question=next(str(one["content"]) for one in reversed(said.prompt) if one["role"] == "user"),
        token_ids=token_ids,
        mask=chat.mask[: len(token_ids)],
        logprobs=chat.logprobs[: len(token_ids)],
        turns=turns,
        answer=said.answer,
        reward=float(not error),
        status="max_tokens" if error else "no_answer" if said.answer is None else "answered",
        seconds={"wait": 0.0, "generate": 0.0, "tools": 0.0, "stalled": 0.0, "total": 0.0},
        policy_version=-1,
        seed=episode_seed(config.seed, 0, task.task_id, attempt),
        error=error,
        contexts=[Context("agent")],
    )
