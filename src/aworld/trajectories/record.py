"""The record of an episode in brief: all that is known of it without its tokens and its text."""

import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aworld.trajectories.episode import NOT_SCORED, Episode, Outcome, Status

LONGEST_ERROR = 400  # characters of it in a record


@dataclass(frozen=True)
class Span:
    """A context of an episode, as training reads it.

    Attributes:
        agent: the name of the agent.
        start: index of its first token in the episode; it ends where the next context starts.
        inputs: number of tokens before its last sampled one; 0 if nothing sampled has a predecessor.
        sampled: number of sampled tokens with a predecessor.
        crc32: as `checksum` has it.
    """

    agent: str
    start: int
    inputs: int
    sampled: int
    crc32: int


@dataclass(frozen=True)
class Record(Outcome):
    """An episode without its tokens and its text.

    Attributes:
        seconds: wall-clock by phase.
        turns: number of the policy's turns.
        tokens: how many it has.
        spans: of its contexts, in order.
        reward_parts: as the episode's.
        error: its beginning.
    """

    round: int
    task_id: str
    attempt: int
    level: int
    reward: float
    status: Status
    policy_version: int
    seed: int
    seconds: dict[str, float]
    turns: int
    tools: dict[str, tuple[int, int]]
    has_answer: bool
    tokens: int
    spans: list[Span]
    reward_parts: dict[str, float] = field(default_factory=dict)
    error: str = ""

    @property
    def is_not_scored(self) -> bool:
        """Whether the reward failed at it."""
        return self.error.startswith(NOT_SCORED)

    @property
    def ends(self) -> list[int]:
        """The index behind the last token of each context."""
        return [*(span.start for span in self.spans[1:]), self.tokens]


def rewards(records: list[Record]) -> dict[str, Any]:
    """`parts`: the mean of each part of the reward, over the episodes that have it. `not_scored`: the number of
    episodes that the reward failed at, by its error."""
    parts: dict[str, list[float]] = {}
    for record in records:
        for name, value in record.reward_parts.items():
            parts.setdefault(name, []).append(value)
    errors = Counter(record.error.removeprefix(NOT_SCORED) for record in records if record.is_not_scored)
    return {
        "parts": {name: sum(values) / len(values) for name, values in sorted(parts.items())},
        "not_scored": dict(errors.most_common()),
    }


def record_of(episode: Episode, tokens: np.ndarray, mask: np.ndarray, logprobs: np.ndarray) -> Record:
    """The record of an episode.

    Args:
        tokens, mask, logprobs: int32 [n], uint8 [n] and float32 [n], those of the episode.
    """
    e = episode
    starts = [context.start for context in e.contexts]
    spans = []
    for context, begin, end in zip(e.contexts, starts, [*starts[1:], len(tokens)], strict=True):
        own = slice(begin, end)
        facts = facts_of(tokens[own], mask[own], logprobs[own])
        spans.append(Span(context.agent, begin, *facts))
    return Record(
        round=e.round,
        task_id=e.task_id,
        attempt=e.attempt,
        level=e.level,
        reward=e.reward,
        status=e.status,
        policy_version=e.policy_version,
        seed=e.seed,
        seconds=e.seconds,
        turns=sum(turn.role == "assistant" for turn in e.turns),
        tools=e.tools,
        has_answer=e.has_answer,
        tokens=len(tokens),
        spans=spans,
        reward_parts=e.reward_parts,
        error=e.error[:LONGEST_ERROR],
    )


def facts_of(tokens: np.ndarray, mask: np.ndarray, logprobs: np.ndarray) -> tuple[int, int, int]:
    """The `inputs`, `sampled` and `crc32` of a Span, from the arrays of its context."""
    predicted = np.flatnonzero(mask[1:])
    inputs = int(predicted[-1]) + 1 if len(predicted) else 0
    return inputs, len(predicted), checksum(tokens, mask, logprobs)


def checksum(tokens: np.ndarray, mask: np.ndarray, logprobs: np.ndarray) -> int:
    """The CRC-32 of a context's bytes: its tokens (int32), its mask (uint8), its log-probabilities (float32)."""
    return zlib.crc32(logprobs.data, zlib.crc32(mask.data, zlib.crc32(tokens.data)))
