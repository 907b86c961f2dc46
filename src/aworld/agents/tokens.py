"""Token-exact chats with the policy: tokens are only ever appended."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from aworld import config as schema
from aworld.agents.chat import ChatFormat
from aworld.agents.protocols import AssistantMessage, ChatModel, Policy, Sampling


class TokenModel(ChatModel, Protocol):
    """A ChatModel whose chats are the policy's own tokens. `context` is the number of tokens that one can hold."""

    @property
    def format(self) -> ChatFormat: ...

    @property
    def context(self) -> int: ...

    def chat(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> "TokenChat":
        """A chat that goes on from these messages. Raises InputError where the template refuses them."""
        ...


def opening(system: str, question: str) -> list[dict[str, Any]]:
    """The messages that a chat begins with."""
    return [{"role": "system", "content": system}, {"role": "user", "content": question}]


@dataclass(frozen=True)
class PolicyModel:
    """The policy as a ChatModel. `context` is the number of tokens that it can hold."""

    policy: Policy
    format: ChatFormat
    config: schema.Agent
    context: int

    @property
    def sampling(self) -> dict[str, Any]:
        c = self.config
        how = asdict(Sampling(c.temperature, c.top_p, c.top_k, c.turn_tokens))
        return {key: value for key, value in how.items() if key != "seed"}

    def begin(self, system: str, question: str, tools: list[dict[str, Any]]) -> "TokenChat":
        return self.chat(opening(system, question), tools)

    def chat(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> "TokenChat":
        return PolicyChat(self, messages, tools)


@dataclass
class TokenChat(ABC):
    """A Chat in the policy's tokens: one context. The template renders `messages` and `tools` once, as its prompt.

    Raises:
        InputError: the template refuses them.
    """

    model: TokenModel
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    token_ids: list[int] = field(default_factory=list)
    mask: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    policy_version: int = -1

    def __post_init__(self) -> None:
        self._format = self.model.format
        self._turns: list[int] = []  # where each of the policy's began
        self._is_closed = True  # the policy's last turn ends with the end-of-turn token
        self._is_opened = True  # the tokens that open the policy's next turn are appended
        self._aside: int | None = None
        self._append(self._format.prompt_of(self.messages, self.tools))
        self.opening = self._format.decode(self.token_ids)

    @property
    def room(self) -> int:
        return self.model.context - len(self.token_ids) - (0 if self._is_opened else len(self._format.turn_opening))

    @property
    def context(self) -> int:
        return self.model.context

    @abstractmethod
    async def generate(self, max_tokens: int, seed: int) -> AssistantMessage:
        """The next turn, whose tokens are appended."""

    def open_turn(self) -> list[int]:
        """All tokens up to the first one of the next turn."""
        if not self._is_opened:
            self._append(self._format.turn_opening)
            self._is_opened = True
        return self.token_ids

    def add_turn(self, token_ids: list[int], logprobs: list[float], ended: bool) -> AssistantMessage:
        """Append a turn of the policy, or of another model in its place, and read it."""
        self.open_turn()
        self._turns.append(len(self.token_ids))
        self._append(token_ids, logprobs)
        # a turn that ends with <|endoftext|> still needs the end-of-turn token
        self._is_closed = token_ids[-1:] == [self._format.end_of_turn]
        return self._format.parse(token_ids).message(ended, len(token_ids))

    def add_tool_results(self, results: list[str]) -> None:
        self._append_message(self._format.tool_results(results, self._is_closed))

    def add_user(self, text: str, aside: bool = False) -> None:
        if aside:
            self._aside = len(self.token_ids)
        self._append_message(self._format.user(text, self._is_closed))

    def shortened(self, note: str) -> "TokenChat | None":
        *before, question = self.messages
        noted = question | {"content": f"{question['content']}\n\n{note}"}
        shorter = self.model.chat([*before, noted], self.tools)
        fits = self.model.context // 2 - len(shorter.token_ids)
        told = self.token_ids[: self._aside]
        kept = [at for at in self._turns if 0 < len(told) - at <= fits]
        if kept[:1] == self._turns[:1] or fits < 0:
            return None
        shorter.messages = self.messages  # the next note takes the place of this one
        tail = told[kept[0] :] if kept else []
        shorter._is_opened = not tail
        begin = len(shorter.token_ids) - (kept[0] if kept else 0)
        shorter._turns = [begin + at for at in kept]
        shorter._append(tail)  # sampled in an earlier context, so not trained on in this one
        shorter.policy_version = self.policy_version
        return shorter

    def _append_message(self, token_ids: list[int]) -> None:
        """Append a message to the policy. Another message may follow before its turn."""
        self._append(token_ids)
        self._is_closed, self._is_opened = True, False

    def _append(self, token_ids: list[int], logprobs: list[float] | None = None) -> None:
        """Append tokens. Sampled tokens come with their log-probabilities, and the mask marks them."""
        self.token_ids += token_ids
        self.mask += [int(logprobs is not None)] * len(token_ids)
        self.logprobs += logprobs if logprobs is not None else [0.0] * len(token_ids)


@dataclass
class PolicyChat(TokenChat):
    """A TokenChat whose turns the policy samples."""

    model: PolicyModel

    async def generate(self, max_tokens: int, seed: int) -> AssistantMessage:
        c = self.model.config
        sampling = Sampling(c.temperature, c.top_p, c.top_k, max_tokens, seed)
        completion = await self.model.policy.generate(self.open_turn(), sampling)
        self.policy_version = completion.policy_version
        return self.add_turn(completion.token_ids, completion.logprobs, completion.finish_reason == "stop")
