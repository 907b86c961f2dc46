"""A question to an agent, the agent's work on it, its outcome, and the sampling seed of a turn."""

import hashlib
from dataclasses import dataclass

from aworld.agents.protocols import Chat, ToolCall
from aworld.agents.record import Place
from aworld.trajectories.episode import Status


@dataclass(frozen=True)
class Question:
    """A question to an agent.

    Attributes:
        place: the path to the question: the index of the agent in the order, then the turn and the call of each
            question that led to this one.
        asked_by: number of the asker's context; None: the user asks.
        is_last: whether its answer is the episode's.
        notes: of the agent that handed the question over.
    """

    text: str
    place: Place
    asked_by: int | None = None
    is_last: bool = False
    notes: str = ""

    @property
    def with_notes(self) -> str:
        """The text, and below it the notes where there are any."""
        return f"{self.text}\n\n{self.notes}" if self.notes else self.text


@dataclass(frozen=True)
class Outcome:
    """How an agent's work on a question ended.

    Attributes:
        answer: the answer, or None. Where `status` is a limit, the answer came in the last turn.
        content: the words of the agent's last message, with or without an answer.
    """

    status: Status
    answer: str | None
    content: str


@dataclass(frozen=True)
class Handoff:
    """Another agent goes on with the question."""

    to: str
    question: Question


@dataclass
class Work:
    """An agent's work on a question, so far.

    Attributes:
        context: the number of its context in the record.
        turns: of the model.
        last_call, repeats: the last call, and how often it came in a row.
    """

    question: Question
    chat: Chat
    context: int
    turns: int = 0
    last_content: str = ""
    last_call: ToolCall | None = None
    repeats: int = 0
    objections: int = 0
    is_nudged: bool = False

    def outcome(self, status: Status, answer: str | None = None) -> Outcome:
        return Outcome(status, answer, self.last_content)


def turn_seed(seed: int, place: Place, turn: int) -> int:
    """The sampling seed (63 bits) of an agent's turn. It follows from the place of the question, not from the order in
    which agents happen to work."""
    first, *way = place
    text = "/".join(map(str, [f"{seed}.{first}" if first else seed, *way, turn]))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1
