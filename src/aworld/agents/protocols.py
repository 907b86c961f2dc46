"""Protocols of Policy, ChatModel, Chat and Environment, and the records that they exchange."""

from collections.abc import Collection
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


@dataclass(frozen=True)
class ToolCall:
    """A call that a model made.

    Attributes:
        name: of the tool, or of another agent as in `ask_NAME`; empty where the call is malformed.
        error: what is wrong with a call that cannot be read. It is not run, and the model reads the error.
    """

    name: str
    arguments: dict[str, Any]
    error: str = ""


@dataclass(frozen=True)
class AssistantMessage:
    """One turn of a model.

    Attributes:
        text: for people, with thoughts and calls.
        content: the text without thoughts and calls.
        answer: the final answer that it gives; None: it gives none.
        ended: whether the model ended the turn itself; else it was cut at the limit.
        tokens: number of sampled tokens.
        is_error: whether the model made no turn; `text` holds the reason.
        thought: that it began with, where it is told.
    """

    text: str
    content: str
    calls: tuple[ToolCall, ...]
    answer: str | None
    ended: bool
    tokens: int
    is_error: bool = False
    thought: str = ""


class Chat(Protocol):
    """The chat of one agent with its model, from the prompt on.

    Attributes:
        opening: the prompt, for people.
        token_ids, mask, logprobs: as in an Episode. An endpoint's chat has what the endpoint tells of its tokens.
        policy_version: of the weights that sampled last; -1: no policy did.
        room: number of tokens that still fit.
        context: number of tokens that fit in all.
    """

    @property
    def opening(self) -> str: ...

    @property
    def token_ids(self) -> list[int]: ...

    @property
    def mask(self) -> list[int]: ...

    @property
    def logprobs(self) -> list[float]: ...

    @property
    def policy_version(self) -> int: ...

    @property
    def room(self) -> int: ...

    @property
    def context(self) -> int: ...

    async def generate(self, max_tokens: int, seed: int) -> AssistantMessage:
        """The model's next turn. Raises InfrastructureError."""
        ...

    def add_tool_results(self, results: list[str]) -> None:
        """Append the results of the last turn's calls, in their order."""
        ...

    def add_user(self, text: str, aside: bool = False) -> None:
        """Append a user's message. Of an `aside`, `shortened` drops this message and all later ones."""
        ...

    def shortened(self, note: str) -> "Chat | None":
        """A new chat: the question, `note`, and the latest turns that fit into half of the context. None: all turns
        fit."""
        ...


class ChatModel(Protocol):
    """A model to chat with. `sampling` is what an Episode records of how it samples."""

    @property
    def sampling(self) -> dict[str, Any]: ...

    def begin(self, system: str, question: str, tools: list[dict[str, Any]]) -> Chat: ...


class Policy(Protocol):
    """An engine: token ids in, token ids out. Raises InfrastructureError where the engine fails."""

    async def generate(self, prompt_ids: list[int], sampling: Sampling) -> Completion: ...


@dataclass(frozen=True)
class Observation:
    """The result of a tool call.

    Attributes:
        is_error: whether the call failed, which the agent may read and react to.
        files: names of the files that the call has put into the episode's folder.
        stalled: whether its time was lost to the machine or the web, not to what the policy asked for.
    """

    text: str
    is_error: bool
    seconds: float
    files: tuple[str, ...] = ()
    stalled: bool = False


class Environment(Protocol):
    """The tools of one episode. A call always returns within its time limit.

    A tool that fails is an Observation with is_error. InfrastructureError says that the environment itself is gone.

    Attributes:
        tools: OpenAI-style {"type": "function", "function": {name, description, parameters}}.
        independent: names of the tools that share no state: calls to them may run at the same time.
    """

    tools: list[dict[str, Any]]

    @property
    def independent(self) -> Collection[str]: ...

    async def call(self, name: str, arguments: dict[str, Any]) -> Observation: ...
