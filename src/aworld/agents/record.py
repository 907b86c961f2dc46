"""The record of one episode, shared by its agents: contexts, turns, calls, tokens and seconds, and its limits."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any

from aworld import config as schema
from aworld.agents.protocols import AssistantMessage, Chat, Observation, ToolCall
from aworld.errors import AWorldError
from aworld.tasks.task import Task
from aworld.trajectories.episode import Context, Episode, Status, Turn

SLOW = 3.0  # a turn has stalled that takes so many times the episode's mean seconds per token
UNFINISHED = "[not finished]"
Place = tuple[int, ...]


@dataclass(frozen=True)
class OpenedContext:
    """A context of an agent, and its place. Contexts are stored in the order of their places.

    Attributes:
        place: that of the question; a later context of the same question appends the turn in which it began.
        asked_by: number of the context that asked; None: the user asks.
    """

    agent: str
    chat: Chat
    place: Place
    asked_by: int | None


@dataclass
class CallRecord:
    """A call that is being made, and its result so far."""

    observation: Observation = field(default_factory=lambda: Observation(UNFINISHED, True, 0.0))


@dataclass
class Record:
    """What happened in an episode so far. `seconds` are sums over all agents, which may work at the same time.

    Attributes:
        sampled: tokens that models sampled.
        model_turns: turns, also those under way.
        sandbox_lock: held during a call to a tool that shares state with others.
    """

    config: schema.Agent
    seed: int
    turns: list[Turn] = field(default_factory=list)
    opened: list[OpenedContext] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"generate": 0.0, "tools": 0.0, "stalled": 0.0})
    sampled: int = 0
    model_turns: int = 0
    began: float = field(default_factory=time.monotonic)
    sandbox_lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def now(self) -> float:
        """Seconds since the episode began."""
        return time.monotonic() - self.began

    @property
    def limit_reached(self) -> Status | None:
        """The limit that is reached, after which no agent may take a turn; None: none is."""
        if self.model_turns >= self.config.max_turns:
            return "max_turns"
        return "max_tokens" if self.sampled >= self.config.max_tokens else None

    def all_seconds(self) -> dict[str, float]:
        """Seconds by phase. Agents that stall at the same time count once: no more stalls than the episode took."""
        total = self.now
        return {**self.seconds, "stalled": min(self.seconds["stalled"], total), "total": total}

    def longest_turn(self, tokens: int) -> float:
        """Seconds that a turn of so many tokens may take at the pace so far; 0 where there is no pace yet."""
        return SLOW * tokens * self.seconds["generate"] / self.sampled if self.sampled else 0.0

    def open_context(self, opened: OpenedContext) -> int:
        """Note a new context; returns its number."""
        number = len(self.opened)
        self.opened.append(opened)
        self.turns.append(Turn("prompt", opened.chat.opening, began=self.now if number else 0.0, context=number))
        return number

    async def generate(self, chat: Chat, limit: int, seed: int, context: int) -> AssistantMessage:
        """The model's next turn, of at most `limit` tokens, recorded."""
        began = self.now
        message = AssistantMessage(UNFINISHED, "", (), None, False, 0, is_error=True)
        self.model_turns += 1  # now: another turn may begin meanwhile
        try:
            message = await chat.generate(limit, seed)
        except BaseException:
            self.model_turns -= 1
            raise
        finally:  # also of a turn that is cut off: its time counts, its tokens are lost
            self._end_turn(message, began, limit, context)
        return message

    def _end_turn(self, message: AssistantMessage, began: float, limit: int, context: int) -> None:
        """Record a model's turn of at most `limit` tokens, also where it fails or is cut off."""
        seconds = self.now - began
        if message.is_error:
            self.seconds["stalled"] += max(0.0, seconds - self.longest_turn(limit))
        self.seconds["generate"] += seconds
        self.sampled += message.tokens
        self.turns.append(Turn("assistant", message.text, None, None, message.is_error, seconds, began, context))

    @contextmanager
    def call(self, context: int, call: ToolCall) -> Iterator[CallRecord]:
        """Record a call and its result, also where it fails or is cut off."""
        recorded, began = CallRecord(), self.now
        try:
            yield recorded
        except AWorldError as error:
            recorded.observation = Observation(f"error: {error}", True, 0.0)
            raise
        finally:
            seen = recorded.observation
            seconds = seen.seconds or self.now - began
            if seen.stalled:
                self.seconds["stalled"] += seconds
            name, arguments = (call.name, call.arguments) if call.name else (None, None)
            self.turns.append(Turn("tool", seen.text, name, arguments, seen.is_error, seconds, began, context))

    def in_order(self) -> tuple[list[Chat], list[Context], list[Turn]]:
        """Chats and contexts, sorted by place; and the turns, in the order in which they ended."""
        order = sorted(range(len(self.opened)), key=lambda number: self.opened[number].place)
        index = {number: at for at, number in enumerate(order)}
        chats = [self.opened[number].chat for number in order]
        starts = accumulate((len(chat.token_ids) for chat in chats), initial=0)
        contexts = []
        for number, start in zip(order, starts, strict=False):
            opened = self.opened[number]
            asked_by = None if opened.asked_by is None else index[opened.asked_by]
            contexts.append(Context(opened.agent, start, asked_by))
        return chats, contexts, [replace(turn, context=index.get(turn.context, 0)) for turn in self.turns]

    def episode(
        self,
        task: Task,
        answer: str | None,
        status: Status,
        error: str,
        sampling: dict[str, Any],
        *,
        round: int,
        attempt: int,
    ) -> Episode:
        """The episode, not scored yet. `sampling` is the model's."""
        chats, contexts, turns = self.in_order()
        return Episode(
            round=round,
            attempt=attempt,
            task_id=task.task_id,
            level=task.level,
            question=task.question,
            token_ids=[token for chat in chats for token in chat.token_ids],
            mask=[bit for chat in chats for bit in chat.mask],
            logprobs=[logprob for chat in chats for logprob in chat.logprobs],
            turns=turns,
            answer=answer,
            reward=0.0,
            status=status,
            seconds=self.all_seconds(),
            policy_version=max((chat.policy_version for chat in chats), default=-1),
            seed=self.seed,
            sampling=sampling | {"completion_tokens": self.sampled},
            error=error,
            contexts=contexts,
        )
