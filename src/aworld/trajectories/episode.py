"""The record of one episode: what happened, and the tokens exactly as they were sampled."""

import math
import sys
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

Status = Literal["answered", "no_answer", "max_turns", "max_tokens", "repeated", "timeout", "infra_error"]
LARGEST_ID = 2**31 - 1  # that trajectories can hold
STATUSES: tuple[str, ...] = get_args(Status)


@dataclass(frozen=True)
class Turn:
    """One turn, for people to read; training never looks at it.

    Attributes:
        role: `prompt`, `assistant` or `tool`.
        text: decoded text of the turn, or of the tool's result.
        tool: name of the tool called (role `tool`).
        arguments: the call's arguments (role `tool`).
        is_error: whether the result is an error shown to the policy; of an assistant's turn, that it came to no end and
            left no tokens.
        seconds: wall-clock of the turn.
        began: when it began, in seconds since the episode did.
        context: index of the context that it belongs to.
    """

    role: str
    text: str
    tool: str | None = None
    arguments: dict[str, Any] | None = None
    is_error: bool = False
    seconds: float = 0.0
    began: float = 0.0
    context: int = 0


@dataclass(frozen=True)
class Context:
    """What one agent's model saw and said, from its prompt on; each time an agent is asked it has a new one.

    Attributes:
        agent: the owner's name.
        start: index in the episode's `token_ids` of its first token; it ends where the next one starts.
        asked_by: index of the context whose agent asked this one; None: the user did.
    """

    agent: str
    start: int = 0
    asked_by: int | None = None


@dataclass(frozen=True)
class Episode:
    """One attempt at one task. Identity is (round, task_id, attempt).

    Attributes:
        token_ids: each context after the other, prompt first, in the order the policy saw it.
        mask: 1 where the policy sampled the token, 0 elsewhere; same length as token_ids.
        logprobs: log-probability (nats) of each sampled token, 0.0 where mask is 0; same length.
        answer: the text given as final answer, None when there is none.
        reward: what the scorer gave, 0 to 1.
        seconds: wall-clock by phase: `wait` (for a sandbox, before `total` begins), `generate`, `tools`, `total`; and
            `stalled`, the part of it that the engine or a tool kept the policy waiting for nothing.
        policy_version: version of the weights that sampled every token of the episode.
        seed: from which each turn's sampling seed is derived.
        sampling: the sampling parameters.
        error: why, for `infra_error` and `timeout`.
        contexts: in the order in which they would begin if nothing ran at the same time.
    """

    round: int
    task_id: str
    attempt: int
    level: int
    question: str
    token_ids: list[int]
    mask: list[int]
    logprobs: list[float]
    turns: list[Turn]
    answer: str | None
    reward: float
    status: Status
    seconds: dict[str, float]
    policy_version: int
    seed: int
    sampling: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    contexts: list[Context] = field(default_factory=lambda: [Context("agent")])

    @property
    def identity(self) -> tuple[int, str, int]:
        return (self.round, self.task_id, self.attempt)

    @property
    def tool_turns(self) -> list[Turn]:
        """The calls of tools, each with its result."""
        return [turn for turn in self.turns if turn.role == "tool"]


def sound(episode: Episode) -> Episode:
    """The episode as it may be stored. One that could not be trained on becomes an `infra_error` without tokens, said
    on stderr."""
    wrong = _fault(episode)
    if not wrong:
        return episode
    round_, task_id, attempt = episode.identity
    print(
        f"warning: attempt {attempt} at {task_id} of round {round_} is not used: {wrong}", file=sys.stderr, flush=True
    )
    kept = replace(episode, token_ids=[], mask=[], logprobs=[], contexts=[Context(episode.contexts[0].agent)])
    return replace(kept, reward=0.0, status="infra_error", error=wrong)


def _fault(episode: Episode) -> str:
    """Why the episode would spoil the round that it is in; else empty."""
    e = episode
    if not len(e.token_ids) == len(e.mask) == len(e.logprobs):
        return f"{len(e.token_ids)} token ids, a mask of {len(e.mask)}, {len(e.logprobs)} log-probabilities"
    if unfit := [token for token in e.token_ids if not 0 <= token <= LARGEST_ID]:
        return f"{unfit[0]} is no token id"
    if not all(map(math.isfinite, e.logprobs)):
        return f"token {[*map(math.isfinite, e.logprobs)].index(False)} has a log-probability that is not finite"
    if not isinstance(e.reward, int | float) or not math.isfinite(e.reward):
        return f"its reward is {e.reward}"
    return ""
