"""The two seams an agent stands between: the policy that speaks and the environment that answers."""

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn. Every parameter is sent, so no server default can change the distribution."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1  # -1: no limit
    max_tokens: int = 256  # per turn
    seed: int | None = None


@dataclass(frozen=True)
class Completion:
    """What the policy sampled in one turn.

    Attributes:
        token_ids: the sampled ids, the stop token included when one was sampled.
        logprobs: log-probability (nats) of each sampled id under the sampling distribution.
        finish_reason: `stop` (an end-of-turn token was sampled) or `length` (max_tokens reached).
        policy_version: the version of the weights that sampled it.
    """

    token_ids: list[int]
    logprobs: list[float]
    finish_reason: str
    policy_version: int


class Policy(Protocol):
    """Token ids in, token ids out. Raises InfrastructureError when the engine behind it fails."""

    async def generate(self, prompt_ids: list[int], sampling: Sampling) -> Completion: ...


@dataclass(frozen=True)
class Observation:
    """What a tool call returned; `is_error` marks a failure that the agent may read and react to.

    `files` are the names of those that it has put into the episode's folder.
    """

    text: str
    is_error: bool
    seconds: float
    files: tuple[str, ...] = ()


class Environment(Protocol):
    """The world of one episode: some tools, and a call that always returns within its time limit.

    A failing tool is an Observation with is_error; InfrastructureError says that the world itself is gone.
    """

    tools: list[dict[str, Any]]  # OpenAI-style {"type": "function", "function": {name, description, parameters}}

    async def call(self, name: str, arguments: dict[str, Any]) -> Observation: ...
