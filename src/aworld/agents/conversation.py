"""A conversation that is there already, as the policy's own tokens: the assistant's turns are those to learn."""

from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

from aworld.agents import openai_chat, reply
from aworld.agents.chat import ChatFormat
from aworld.agents.endpoint import message_of
from aworld.agents.protocols import AssistantMessage
from aworld.agents.tokens import TokenChat, TokenModel
from aworld.errors import InputError
from aworld.trajectories.episode import Turn

Step = AssistantMessage | list[str] | str


@dataclass(frozen=True)
class Conversation:
    """
    Attributes:
        prompt: the messages before the assistant's first turn, as a chat template takes them.
        steps: its turns, the results of the tools that it calls, and the user's words.
    """

    prompt: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    steps: list[Step]

    @property
    def answer(self) -> str | None:
        """The answer of its last turn; None: it gives none."""
        return next(step.answer for step in reversed(self.steps) if isinstance(step, AssistantMessage))


def read(values: Any, answer_form: str, chat: ChatFormat | None = None) -> Conversation:
    """Read {"messages": […], "tools": […]}, in the shape of OpenAI's chat completions.

    Args:
        chat: the format that it is to be written in; None: it is not looked at.

    Raises:
        ValueError: it is none, or cannot be written so; what is wrong.
    """
    if isinstance(values, ValueError):
        raise ValueError(f"no JSON ({values}); mend the line")
    if not isinstance(values, dict):
        raise ValueError(f"a {type(values).__name__} and no object; write {{…}}")
    if isinstance(values.get("tools"), str):
        raise ValueError("tools: text and no list; write [{…}]")
    request = openai_chat.read({"messages": values.get("messages"), "tools": values.get("tools")})
    roles = [message["role"] for message in request.messages]
    if "assistant" not in roles:
        raise ValueError("messages: no turn of the assistant, so nothing is learned from it; leave it out")
    first = roles.index("assistant")
    if "user" not in roles[:first]:
        raise ValueError("messages: the assistant begins; put the user's question before its turn")
    if "system" in roles[1:]:
        raise ValueError(f"messages[{roles.index('system', 1)}]: a system message comes first, or not at all")
    for number, pair in enumerate(pairwise(roles), 1):
        if pair == ("assistant", "assistant"):
            raise ValueError(f"messages[{number}]: two turns of the assistant behind each other; join them")
    steps: list[Step] = []
    said = zip(request.messages[first:], values["messages"][first:], strict=True)
    for is_result, group in groupby(said, lambda each: each[0]["role"] == "tool"):
        if is_result:
            steps.append([message["content"] for message, _ in group])
        else:
            steps += [_step(message, given, answer_form) for message, given in group]
    conversation = Conversation(request.messages[:first], request.tools, steps)
    if chat:
        _check(conversation, chat)
    return conversation


def write(conversation: Conversation, model: TokenModel) -> tuple[TokenChat, list[Turn]]:
    """The chat with all of the conversation's tokens, and its turns."""
    chat = model.chat(conversation.prompt, conversation.tools)
    turns, calls = [Turn("prompt", chat.opening)], []
    for step in conversation.steps:
        if isinstance(step, AssistantMessage):
            token_ids = model.format.turn(step)
            turns.append(Turn("assistant", chat.add_turn(token_ids, [0.0] * len(token_ids), True).text))
            calls = list(step.calls)
        elif isinstance(step, str):
            chat.add_user(step)
            turns.append(Turn("prompt", step))
        else:
            chat.add_tool_results(step)
            made = [(call.name, call.arguments) for call in calls[: len(step)]]
            made += [("tool", {})] * (len(step) - len(made))
            turns += [Turn("tool", text, *call) for text, call in zip(step, made, strict=True)]
    return chat, turns


def _step(message: dict[str, Any], given: dict[str, Any], answer_form: str) -> Step:
    if message["role"] == "user":
        return str(message["content"])
    body = {"choices": [{"message": {key: value for key, value in given.items() if value is not None}}]}
    return message_of(reply.read(body), answer_form)


def _check(conversation: Conversation, chat: ChatFormat) -> None:
    try:
        chat.prompt_text(conversation.prompt, conversation.tools)
    except InputError as reason:
        raise ValueError(str(reason)) from None
    for number, step in enumerate(conversation.steps, len(conversation.prompt)):
        if isinstance(step, AssistantMessage):
            try:
                chat.turn_text(step)
            except ValueError as reason:
                raise ValueError(f"the policy's chat format cannot hold turn {number} ({reason}); mend it") from None
