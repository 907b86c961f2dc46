"""A question that an agent is asked, how far it is with it, and how it ends."""

import hashlib
from dataclasses import dataclass

from aworld.agents.protocols import Conversation, ToolCall
from aworld.agents.record import Place
from aworld.trajectories.episode import Status


@dataclass(frozen=True)
class Question:
    """What an agent is asked.

    Attributes:
        place: in the episode: the number of the agent in the order, and for each question on the way to this one the
            turn and the call in which it was asked.
        asked_by: number of the asker's context; None: the user asks.
        is_last: whether the answer is the episode's.
        notes: of the agent that handed it over.
    """

    text: str
    place: Place
    asked_by: int | None = None
    is_last: bool = False
    notes: str = ""


@dataclass(frozen=True)
class Outcome:
    """How an agent ended with a question.

    Attributes:
        answer: with the status of a limit it was given in the last turn.
        said: the last that the agent said, also without an answer.
    """

    status: Status
    answer: str | None
    said: str


@dataclass(frozen=True)
class Handoff:
    """Another agent goes on with the question."""

    to: str
    question: Question


@dataclass
class Work:
    """A question that an agent has in hand.

    Attributes:
        turns: that the agent took so far.
        call: the last one made, and how often in a row.
    """

    question: Question
    talk: Conversation
    context: int
    turns: int = 0
    said: str = ""
    call: ToolCall | None = None
    repeats: int = 0
    objections: int = 0
    is_nudged: bool = False

    def outcome(self, status: Status, answer: str | None = None) -> Outcome:
        return Outcome(status, answer, self.said)


def turn_seed(seed: int, place: Place, turn: int) -> int:
    """The sampling seed (63 bits) of an agent's turn: of where it is asked, not of what else happens meanwhile."""
    first, *way = place
    text = "/".join(map(str, [f"{seed}.{first}" if first else seed, *way, turn]))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1
