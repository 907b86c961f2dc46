"""The scripted expert: a policy that replays a given plan. The cold start learns from its episodes."""

from aworld.agents.chat import ChatFormat
from aworld.agents.protocols import Completion, Sampling
from aworld.errors import InfrastructureError


class ScriptedPolicy:
    """A Policy that says the turns of `plan` in order. Log-probabilities are 0: it is certain."""

    def __init__(self, chat: ChatFormat, plan: list[str]):
        self._turns = iter([chat.assistant(text) for text in plan])

    async def generate(self, prompt_ids: list[int], sampling: Sampling) -> Completion:
        token_ids = next(self._turns, None)
        if token_ids is None:
            raise InfrastructureError("the script has no more turns; its plan does not fit the task")
        return Completion(token_ids, [0.0] * len(token_ids), "stop", -1)
