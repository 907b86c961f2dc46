"""What the agents of an episode share: its limits, and the record of what each of them said and called."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import accumulate

from aworld import config as schema
from aworld.agents.protocols import Conversation, Observation, ToolCall
from aworld.errors import AWorldError
from aworld.trajectories.episode import Context, Status, Turn

SLOW = 3.0  # a turn that takes so many times as long as the turns before it, token for token, has stalled
UNFINISHED = "[not finished]"
Place = tuple[int, ...]


@dataclass(frozen=True)
class Opened:
    """A context, and when in the episode it began: contexts are stored in the order of their places.

    Attributes:
        place: of an agent's first context that of its question; of a later one also the turn in which it began.
        asked_by: number of the context that asked; None: the user did.
    """

    agent: str
    talk: Conversation
    place: Place
    asked_by: int | None


@dataclass
class Noted:
    """The result of a call that is under way."""

    seen: Observation = field(default_factory=lambda: Observation(UNFINISHED, True, 0.0))


@dataclass
class Record:
    """Agents may be at work at the same time: `seconds` are summed over all of them.

    Attributes:
        sampled: tokens.
        spoken: turns, also those under way.
        sandbox: held during a call to a tool that shares state with others.
    """

    config: schema.Agent
    seed: int
    turns: list[Turn] = field(default_factory=list)
    opened: list[Opened] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"generate": 0.0, "tools": 0.0, "stalled": 0.0})
    sampled: int = 0
    spoken: int = 0
    began: float = field(default_factory=time.monotonic)
    sandbox: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def now(self) -> float:
        """Seconds since the episode began."""
        return time.monotonic() - self.began

    @property
    def spent(self) -> Status | None:
        """The limit because of which no agent may say anything more."""
        if self.spoken >= self.config.max_turns:
            return "max_turns"
        return "max_tokens" if self.sampled >= self.config.max_tokens else None

    def longest_turn(self, tokens: int) -> float:
        """Seconds that a turn of so many tokens may take at the pace of those so far; 0 where there are none."""
        return SLOW * tokens * self.seconds["generate"] / self.sampled if self.sampled else 0.0

    def begin(self, opened: Opened) -> int:
        """Note a new context; returns its number."""
        number = len(self.opened)
        self.opened.append(opened)
        self.turns.append(Turn("prompt", opened.talk.opening, began=self.now if number else 0.0, context=number))
        return number

    @contextmanager
    def calling(self, context: int, call: ToolCall) -> Iterator[Noted]:
        """Note a call and its result, also of one that fails or is cut off."""
        noted, began = Noted(), self.now
        try:
            yield noted
        except AWorldError as error:
            noted.seen = Observation(f"error: {error}", True, 0.0)
            raise
        finally:
            seen = noted.seen
            seconds = seen.seconds or self.now - began
            if seen.stalled:
                self.seconds["stalled"] += seconds
            name, arguments = (call.name, call.arguments) if call.name else (None, None)
            self.turns.append(Turn("tool", seen.text, name, arguments, seen.is_error, seconds, began, context))

    def in_order(self) -> tuple[list[Conversation], list[Context], list[Turn]]:
        """The contexts in the order of their places, whoever was faster, and the turns as they ended."""
        order = sorted(range(len(self.opened)), key=lambda number: self.opened[number].place)
        index = {number: at for at, number in enumerate(order)}
        talks = [self.opened[number].talk for number in order]
        starts = accumulate((len(talk.token_ids) for talk in talks), initial=0)
        contexts = []
        for number, start in zip(order, starts, strict=False):
            opened = self.opened[number]
            asked_by = None if opened.asked_by is None else index[opened.asked_by]
            contexts.append(Context(opened.agent, start, asked_by))
        return talks, contexts, [replace(turn, context=index[turn.context]) for turn in self.turns]
