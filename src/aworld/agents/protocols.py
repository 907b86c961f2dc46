"""The two seams an agent stands between: the policy that speaks and the environment that answers."""

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
    """A call that a model made; `error` says what is wrong with it, and then it is not run."""

    name: str
    arguments: dict[str, Any]
    error: str = ""


@dataclass(frozen=True)
class Utterance:
    """One turn of a model.

    Attributes:
        text: for people, thoughts and calls included.
        said: its words alone.
        ended: whether the model ended the turn itself; else it was cut at the limit.
        tokens: how many were sampled.
        is_error: whether it says nothing, and `text` is why.
    """

    text: str
    said: str
    calls: tuple[ToolCall, ...]
    answer: str | None
    ended: bool
    tokens: int
    is_error: bool = False


class Conversation(Protocol):
    """One agent's talk with its model, from its prompt on.

    Attributes:
        opening: the prompt, for people.
        token_ids, mask, logprobs: as in an Episode; of an endpoint, what it told of the tokens it sampled.
        policy_version: of the weights that sampled last; -1: not the policy's, or nothing yet.
        room: tokens that still fit.
        context: tokens that fit in all.
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

    async def say(self, max_tokens: int, seed: int) -> Utterance:
        """The model's next turn. Raises InfrastructureError."""
        ...

    def hear(self, results: list[str]) -> None:
        """The results of the calls of the last turn, in their order."""
        ...

    def told(self, text: str, aside: bool = False) -> None:
        """A user's word in answer to the last turn; from one `aside` on, `shortened` leaves everything out."""
        ...

    def shortened(self, note: str) -> "Conversation | None":
        """A new one of the same question with `note`, and as many of the last turns as half of it holds; None: that
        would leave nothing out."""
        ...


class Speaker(Protocol):
    """A model that conversations can be held with. `sampling` is what an Episode says of it."""

    @property
    def sampling(self) -> dict[str, Any]: ...

    def begin(self, system: str, question: str, tools: list[dict[str, Any]]) -> Conversation: ...


class Policy(Protocol):
    """Token ids in, token ids out. Raises InfrastructureError when the engine behind it fails."""

    async def generate(self, prompt_ids: list[int], sampling: Sampling) -> Completion: ...


@dataclass(frozen=True)
class Observation:
    """What a tool call returned; `is_error` marks a failure that the agent may read and react to.

    `files` are the names of those that it has put into the episode's folder. `stalled` says that its time was lost to
    the machine or the web, not to what the policy asked for.
    """

    text: str
    is_error: bool
    seconds: float
    files: tuple[str, ...] = ()
    stalled: bool = False


class Environment(Protocol):
    """The world of one episode: some tools, and a call that always returns within its time limit.

    A failing tool is an Observation with is_error; InfrastructureError says that the world itself is gone.

    Attributes:
        tools: OpenAI-style {"type": "function", "function": {name, description, parameters}}.
        independent: names of the tools that share no state: calls to them may run at the same time.
    """

    tools: list[dict[str, Any]]

    @property
    def independent(self) -> Collection[str]: ...

    async def call(self, name: str, arguments: dict[str, Any]) -> Observation: ...
