"""A run as it is on disk, with rounds and an evaluation whose episodes have Qwen3's own tokens."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from aworld import config as configuration
from aworld.agents.chat import ChatFormat
from aworld.config import Config
from aworld.publish import publish_text
from aworld.rundir import HELD_OUT, RunDir
from aworld.tasks import make_source
from aworld.trajectories import file
from aworld.trajectories.arrays import from_episodes
from aworld.trajectories.episode import Context, Episode, Turn
from aworld.trajectories.journal import Journal

SYSTEM = "Use tools, then answer."
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": f"Runs {name}.",
            "parameters": {"type": "object", "properties": {parameter: {"type": "string"}}, "required": [parameter]},
        },
    }
    for name, parameter in (("python", "code"), ("search", "query"))
]
CALL = '<think>\nI compute.\n</think>\n\n<tool_call>\n{"name": "python", "arguments": {"code": "6*7"}}\n</tool_call>'
WORDS = ["recipe=demo", "site=local", "tasks.train=4", "tasks.held_out=3", "evaluation.attempts=2"]


@dataclass
class Tokens:
    """A context of exact tokens, made turn by turn as the agents make it."""

    chat: ChatFormat
    ids: list[int] = field(default_factory=list)
    mask: list[int] = field(default_factory=list)
    is_open: bool = True

    def add(self, ids: list[int], is_sampled: bool = False) -> "Tokens":
        self.ids += ids
        self.mask += [int(is_sampled)] * len(ids)
        return self

    def turn(self, text: str) -> "Tokens":
        if not self.is_open:
            self.add(self.chat.turn_opening)
        self.is_open = False
        return self.add([*self.chat.tokenizer.encode(text, add_special_tokens=False), self.chat.end_of_turn], True)

    def results(self, *texts: str) -> "Tokens":
        return self.add(self.chat.tool_results(list(texts)))

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        return np.array(self.ids, np.int32), np.array(self.mask, np.uint8)


def played(
    chat: ChatFormat, task_id: str, question: str, attempt: int, answer: str, reward: float, **more: Any
) -> Episode:
    """An episode of one agent: a call, its result, an answer."""
    final = f"<think>\nI know.\n</think>\n\n<answer>{answer}</answer>"
    tokens = Tokens(chat).add(chat.prompt(SYSTEM, question, TOOLS)).turn(CALL).results("42").turn(final)
    turns = [
        Turn("prompt", question),
        Turn("assistant", CALL, seconds=1.0, began=0.0),
        Turn("tool", "42", "python", {"code": "6*7"}, seconds=0.5, began=1.0),
        Turn("assistant", final, seconds=1.0, began=1.5),
    ]
    episode = Episode(
        round=1,
        task_id=task_id,
        attempt=attempt,
        level=1,
        question=question,
        token_ids=tokens.ids,
        mask=tokens.mask,
        logprobs=[-0.5 * bit for bit in tokens.mask],
        turns=turns,
        answer=answer,
        reward=reward,
        status="answered",
        seconds={"total": 2.5, "generate": 2.0, "tools": 0.5},
        policy_version=0,
        seed=7,
    )
    return replace(episode, **more)


def lost(chat: ChatFormat, task_id: str, question: str, attempt: int) -> Episode:
    """An attempt that the machine lost before the first turn."""
    asked = played(chat, task_id, question, attempt, "", 0.0, status="infra_error", error="vLLM died")
    return replace(asked, token_ids=[], mask=[], logprobs=[], turns=[], answer=None)


def with_colleague(chat: ChatFormat, episode: Episode) -> Episode:
    """The episode, in whose tool call another agent was asked, in a context of its own."""
    asked = Tokens(chat).add(chat.prompt("You help.", "What is 6*7?", [])).turn("<think>\nHm.\n</think>\n\n42")
    turns = [Turn("prompt", "?", began=1.1, context=1), Turn("assistant", "42", seconds=0.2, began=1.2, context=1)]
    return replace(
        episode,
        token_ids=[*episode.token_ids, *asked.ids],
        mask=[*episode.mask, *asked.mask],
        logprobs=[*episode.logprobs, *(0.0 for _ in asked.ids)],
        turns=[*episode.turns, *turns],
        contexts=[Context("agent"), Context("helper", len(episode.token_ids), 0)],
    )


def run_with(folder: Path, qwen3: Path, *words: str) -> tuple[RunDir, Config, ChatFormat]:
    """A run without episodes, whose base has Qwen3's tokenizer."""
    config = configuration.load([*WORDS, f"runs={folder}", "name=run", *words])
    run = RunDir.of(config)
    publish_text(run.config, configuration.to_yaml(config))
    run.base.symlink_to(qwen3)
    return run, config, ChatFormat(qwen3)


def play(run: RunDir, config: Config, chat: ChatFormat) -> dict[str, list[Episode]]:
    """Two rounds and an evaluation. Of the rounds: a task of one right attempt and one wrong, one that is lost once.

    Returns:
        The episodes by the name of their part.
    """
    source = make_source(config.tasks, run.tasks)
    train, asked = list(source.tasks("train")), list(source.tasks("held_out"))
    a, b = train[0], train[1]
    rounds = {
        1: [
            played(chat, a.task_id, a.question, 0, "wrong", 0.0),
            played(chat, a.task_id, a.question, 1, str(a.answer), 1.0),
            lost(chat, b.task_id, b.question, 0),
            with_colleague(chat, played(chat, b.task_id, b.question, 1, str(b.answer), 1.0)),
        ],
        2: [played(chat, a.task_id, a.question, n, str(a.answer), 1.0, round=2) for n in range(2)],
    }
    for number, episodes in rounds.items():
        record(run.round(number), episodes)
        file.write(run.trajectories(number), from_episodes(number, episodes))
    first, second, _ = asked  # of the third nothing is played
    evaluation = [
        played(chat, first.task_id, first.question, 0, str(first.answer), 1.0, round=0),
        replace(played(chat, first.task_id, first.question, 1, "no", 0.0, round=0), status="max_tokens"),
        with_colleague(chat, played(chat, second.task_id, second.question, 0, str(second.answer), 1.0, round=0)),
        replace(lost(chat, second.task_id, second.question, 1), round=0),
    ]
    record(run.evaluation(HELD_OUT, 0), evaluation)
    return {"round 1": rounds[1], "round 2": rounds[2], "evaluation": evaluation}


def record(folder: Path, episodes: list[Episode]) -> None:
    with Journal(folder / "journals" / "worker-0.journal") as log:
        for episode in episodes:
            log.append(episode)
