"""The record of one episode: what happened, and the tokens exactly as they were sampled."""

import math
import sys
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np

Status = Literal["answered", "no_answer", "max_turns", "max_tokens", "repeated", "timeout", "infra_error"]
LARGEST_ID = 2**31 - 1  # of a token: trajectories.h5 holds int32
STATUSES: tuple[str, ...] = get_args(Status)
NOT_SCORED = "not scored: "  # begins the error of an episode that its reward failed at


@dataclass(frozen=True)
class Turn:
    """One turn, for people to read; training does not use it.

    Attributes:
        role: `prompt`, `assistant` or `tool`.
        text: the decoded text of the turn, or the tool's result.
        tool: the name of the called tool (role `tool`).
        arguments: of the call (role `tool`).
        is_error: role `tool`: the result is an error that the policy was shown; role `assistant`: the turn was not
            finished and left no tokens.
        seconds: wall-clock of the turn.
        began: when it began, in seconds since the episode's begin.
        context: index of the context that the turn belongs to.
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
    """One sequence of tokens of one agent's model, from its prompt on. Every time an agent is asked, a context begins.

    Attributes:
        agent: the name of the agent.
        start: index of its first token in the episode's `token_ids`; it ends where the next context starts.
        asked_by: index of the context whose agent asked this one; None: the user asked.
    """

    agent: str
    start: int = 0
    asked_by: int | None = None


class Outcome:
    """How an attempt went, as an episode and its record both say.

    Attributes:
        has_answer: whether there is a final answer.
        tools: for each tool, the number of its calls and of those that returned errors.
    """

    round: int
    task_id: str
    attempt: int
    reward: float
    status: Status
    policy_version: int
    seconds: dict[str, float]
    has_answer: bool
    tools: dict[str, tuple[int, int]]

    @property
    def identity(self) -> tuple[int, str, int]:
        return (self.round, self.task_id, self.attempt)

    def is_lost(self, stalled_share: float) -> bool:
        """Whether it was lost to the machine; one that ran out of time, if more than `stalled_share` of it was."""
        has_stalled = self.seconds.get("stalled", 0.0) > stalled_share * self.seconds.get("total", 0.0)
        return self.status == "infra_error" or (self.status == "timeout" and has_stalled)


@dataclass(frozen=True)
class Episode(Outcome):
    """One attempt at one task. Identity is (round, task_id, attempt).

    Attributes:
        token_ids: of all contexts, one after the other; of each the prompt first, in the order the policy saw them.
        mask: 1 where the policy sampled the token, 0 elsewhere; as long as token_ids.
        logprobs: log-probability (nats) of each sampled token, 0.0 where mask is 0; as long as token_ids.
        answer: the text of the final answer; None: there is none.
        reward: by the scorer, 0 to 1.
        reward_parts: what it is made of, by name, where the scorer says so.
        seconds: wall-clock by phase: `wait` for a sandbox, before `total` begins; `generate`; `tools`; `total`; and
            `stalled`, the part of `total` that was lost to the engine or to a tool.
        policy_version: version of the weights that sampled every token.
        seed: each turn's sampling seed is derived from it.
        sampling: the sampling parameters.
        error: the reason of `infra_error` and `timeout`, and of an agent program's failure; of an episode that was not
            scored it begins with NOT_SCORED.
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
    reward_parts: dict[str, float] = field(default_factory=dict)

    @cached_property
    def has_answer(self) -> bool:  # type: ignore[override]
        return self.answer is not None

    @cached_property
    def tools(self) -> dict[str, tuple[int, int]]:  # type: ignore[override]
        found: dict[str, tuple[int, int]] = {}
        for turn in self.tool_turns:
            calls, errors = found.get(str(turn.tool), (0, 0))
            found[str(turn.tool)] = (calls + 1, errors + turn.is_error)
        return found

    @property
    def tool_turns(self) -> list[Turn]:
        """The turns that are calls of tools."""
        return [turn for turn in self.turns if turn.role == "tool"]


def storable(episode: Episode) -> Episode:
    """The episode as it may be stored.

    One that cannot be trained on becomes an `infra_error` without tokens, with a warning on stderr.
    """
    wrong = _fault(episode)
    if not wrong:
        return episode
    round_, task_id, attempt = episode.identity
    print(
        f"warning: attempt {attempt} at {task_id} of round {round_} is not used: {wrong}", file=sys.stderr, flush=True
    )
    agent = episode.contexts[0].agent if episode.contexts else "agent"
    kept = replace(episode, token_ids=[], mask=[], logprobs=[], contexts=[Context(agent)])
    return replace(kept, reward=0.0, status="infra_error", error=wrong)


def _fault(episode: Episode) -> str:
    """Why the episode cannot be stored and trained on; "" where it can."""
    e = episode
    if not len(e.token_ids) == len(e.mask) == len(e.logprobs):
        return f"{len(e.token_ids)} token ids, a mask of {len(e.mask)}, {len(e.logprobs)} log-probabilities"
    if unfit := [token for token in e.token_ids if not 0 <= token <= LARGEST_ID]:
        return f"{unfit[0]} is no token id"
    with np.errstate(over="ignore"):  # stored as float32, where it has to be finite
        is_finite = np.isfinite(np.array(e.logprobs, np.float32))
    if not is_finite.all():
        return f"token {is_finite.argmin()} has a log-probability that is not finite"
    if not isinstance(e.reward, int | float) or not math.isfinite(e.reward):
        return f"its reward is {e.reward}"
    starts = [context.start for context in e.contexts]
    if starts[:1] != [0] or starts != sorted(starts) or starts[-1] > len(e.token_ids):
        return f"its contexts start at {starts}"
    return ""
