"""A teacher plays in the place of the policy, and its turns get the tokens that the policy would have sampled.

The teacher has a chat of its own, in its own format: messages at an endpoint, or tokens of its own on a shard. The
policy's chat runs beside it. Both get the same questions and results. Each turn of the teacher, with its thought, is
written into the policy's chat as the policy's template writes it. The agent acts on the turn as it is read from there.
"""

from dataclasses import dataclass
from typing import Any

from aworld.agents.chat import ChatFormat
from aworld.agents.endpoint import EndpointModel
from aworld.agents.protocols import AssistantMessage
from aworld.agents.tokens import PolicyModel, TokenChat, opening


@dataclass(frozen=True)
class TeacherModel:
    """A teacher, whose chats are the tokens of the policy: a TokenModel.

    Args:
        teacher: behind an endpoint, or on a shard with a format of its own.
        format, context: of the policy that learns from it.
    """

    teacher: EndpointModel | PolicyModel
    format: ChatFormat
    context: int

    @property
    def sampling(self) -> dict[str, Any]:
        return self.teacher.sampling

    def begin(self, system: str, question: str, tools: list[dict[str, Any]]) -> TokenChat:
        return self.chat(opening(system, question), tools)

    def chat(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> TokenChat:
        return TaughtChat(self, messages, tools)


@dataclass
class TaughtChat(TokenChat):
    """A TokenChat whose turns a teacher takes. Log-probabilities are 0: the policy did not sample these tokens."""

    model: TeacherModel

    def __post_init__(self) -> None:
        super().__post_init__()
        said = [message for message in self.messages if message["role"] != "system" or message["content"]]
        self._teacher = self.model.teacher.chat(said, self.tools)

    @property
    def room(self) -> int:
        return min(super().room, self._teacher.room)

    async def generate(self, max_tokens: int, seed: int) -> AssistantMessage:
        """The teacher's next turn. It is an error where the policy could not take it: then the episode ends."""
        said = await self._teacher.generate(max_tokens, seed)
        if said.is_error:
            return said
        try:
            token_ids = self.model.format.turn(said)
        except ValueError as reason:
            return _no_turn(f"the policy's chat format cannot hold the teacher's turn: {reason}", said, ended=True)
        if len(token_ids) > max_tokens:
            longer = f"the teacher's turn has {len(token_ids)} of the policy's tokens, and {max_tokens} are left"
            return _no_turn(longer, said, ended=False)
        return self.add_turn(token_ids, [0.0] * len(token_ids), said.ended)

    def add_tool_results(self, results: list[str]) -> None:
        self._teacher.add_tool_results(results)
        super().add_tool_results(results)

    def add_user(self, text: str, aside: bool = False) -> None:
        self._teacher.add_user(text, aside)
        super().add_user(text, aside)

    def shortened(self, note: str) -> None:
        """Turns stay: a run that trains plays with `agent.context=append`."""


def _no_turn(reason: str, said: AssistantMessage, *, ended: bool) -> AssistantMessage:
    return AssistantMessage(f"[{reason}]\n{said.text}", "", (), None, ended, 0, is_error=True)
