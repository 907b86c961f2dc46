"""Conversations with the policy, in tokens: they are only ever appended."""

from dataclasses import asdict, dataclass, field
from typing import Any

from aworld import config as schema
from aworld.agents.chat import ChatFormat
from aworld.agents.protocols import Policy, Sampling, Utterance


@dataclass(frozen=True)
class PolicySpeaker:
    """The policy as a model to talk with. `context` is the most tokens it can hold."""

    policy: Policy
    chat: ChatFormat
    config: schema.Agent
    context: int

    @property
    def sampling(self) -> dict[str, Any]:
        c = self.config
        how = asdict(Sampling(c.temperature, c.top_p, c.top_k, c.turn_tokens))
        return {key: value for key, value in how.items() if key != "seed"}

    def begin(self, system: str, question: str, tools: list[dict[str, Any]]) -> "TokenConversation":
        return TokenConversation(self, system, question, tools)


@dataclass
class TokenConversation:
    """One context of the policy: a Conversation."""

    speaker: PolicySpeaker
    system: str
    question: str
    tools: list[dict[str, Any]]
    token_ids: list[int] = field(default_factory=list)
    mask: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    policy_version: int = -1

    def __post_init__(self) -> None:
        self._chat = self.speaker.chat
        self._turns: list[int] = []  # where each of the policy's began
        self._ended = True  # the policy closed its last turn with the end-of-turn token
        self._began = True  # what comes next is the policy's: its turn has its beginning
        self._aside: int | None = None
        self._append(self._chat.prompt(self.system, self.question, self.tools))
        self.opening = self._chat.decode(self.token_ids)

    @property
    def room(self) -> int:
        return self.speaker.context - len(self.token_ids) - (0 if self._began else len(self._chat.turn))

    @property
    def context(self) -> int:
        return self.speaker.context

    async def say(self, max_tokens: int, seed: int) -> Utterance:
        c = self.speaker.config
        sampling = Sampling(c.temperature, c.top_p, c.top_k, max_tokens, seed)
        if not self._began:
            self._append(self._chat.turn)
            self._began = True
        completion = await self.speaker.policy.generate(self.token_ids, sampling)
        self._turns.append(len(self.token_ids))
        self._append(completion.token_ids, completion.logprobs)
        self.policy_version = completion.policy_version
        self._ended = completion.token_ids[-1:] == [self._chat.end_of_turn]  # <|endoftext|> is to be followed by it
        parsed = self._chat.parse(completion.token_ids)
        return parsed.utterance(completion.finish_reason == "stop", len(completion.token_ids))

    def hear(self, results: list[str]) -> None:
        self._heard(self._chat.observation(results, self._ended))

    def told(self, text: str, aside: bool = False) -> None:
        if aside:
            self._aside = len(self.token_ids)
        self._heard(self._chat.user(text, self._ended))

    def shortened(self, note: str) -> "TokenConversation | None":
        shorter = TokenConversation(self.speaker, self.system, f"{self.question}\n\n{note}", self.tools)
        fits = self.speaker.context // 2 - len(shorter.token_ids)
        told = self.token_ids[: self._aside]
        kept = [at for at in self._turns if 0 < len(told) - at <= fits]
        if kept[:1] == self._turns[:1] or fits < 0:
            return None
        shorter.question = self.question  # the next note takes the place of this one
        tail = told[kept[0] :] if kept else []
        shorter._began = not tail
        begin = len(shorter.token_ids) - (kept[0] if kept else 0)
        shorter._turns = [begin + at for at in kept]
        shorter._append(tail)  # sampled in another context: here they are as given as the question
        shorter.policy_version = self.policy_version
        return shorter

    def _heard(self, token_ids: list[int]) -> None:
        """A message to the policy, maybe not the last one before its turn."""
        self._append(token_ids)
        self._ended, self._began = True, False

    def _append(self, token_ids: list[int], logprobs: list[float] | None = None) -> None:
        """Sampled tokens come with their log-probabilities, all others without."""
        self.token_ids += token_ids
        self.mask += [int(logprobs is not None)] * len(token_ids)
        self.logprobs += logprobs if logprobs is not None else [0.0] * len(token_ids)
