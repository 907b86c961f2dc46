"""The messages of a context, in OpenAI's shape, read from its tokens.

The mask tells the policy's text from the template's: only a special token that the policy did not sample begins or ends
a message. So text that looks like the template's own stays text.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import TemplateError

from aworld.agents import turns
from aworld.agents.chat import ChatFormat

START, END = "<|im_start|>", "<|im_end|>"
RESPONSE, END_OF_RESPONSE = "<tool_response>", "</tool_response>"
TOOLS, END_OF_TOOLS = "\n<tools>\n", "\n</tools>"
_HEADING = "# Tools\n"
_SHORT_TOOL = re.compile(r"(\w+)\(([^()]*)\)")  # as the demo's template has it: name(parameters)

Message = dict[str, Any]


@dataclass(frozen=True)
class Conversation:
    """
    Attributes:
        messages: of roles system, user, assistant (with `reasoning_content` and `tool_calls`) and tool.
        tools: specs of the tools that the prompt offers.
        plain: the same messages as `role` and `content` alone: the content is the text of the tokens, with thoughts,
            calls, and the tools within the system's message.
    """

    messages: list[Message]
    tools: list[dict[str, Any]]
    plain: list[Message]

    @property
    def prompt(self) -> list[Message]:
        """The messages before the first turn of the assistant."""
        roles = [message["role"] for message in self.messages]
        return self.messages[: roles.index("assistant") if "assistant" in roles else len(roles)]


class Reader:
    """Reads contexts of the model in `folder`.

    Raises:
        InputError: as ChatFormat.
    """

    def __init__(self, folder: Path, enable_thinking: bool):
        self.chat = ChatFormat(folder, enable_thinking=enable_thinking)
        added = self.chat.tokenizer.get_added_vocab()
        self._start, self._end = added[START], added[END]

    def read(self, ids: np.ndarray, mask: np.ndarray) -> Conversation:
        """The conversation in a context.

        Args:
            ids: token ids, int32 [n].
            mask: uint8 [n], 1 where the policy sampled the token.
        """
        messages: list[Message] = []
        plain: list[Message] = []
        tools: list[dict[str, Any]] = []
        for role, own in self._split(ids, mask):
            text = self.chat.decode(own.tolist()).partition("\n")[2]
            plain.append({"role": role, "content": text})
            if role == "system":
                text, tools = split_tools(text)
                messages += [{"role": role, "content": text}] if text else []
            elif role == "assistant":
                messages.append(self._assistant(text, sum(len(m.get("tool_calls", ())) for m in messages)))
            elif text.startswith(RESPONSE) and messages and (calls := messages[-1].get("tool_calls")):
                messages += _results(text, [call["id"] for call in calls])
            else:
                messages.append({"role": role, "content": text})
        return Conversation(messages, tools, plain)

    def is_rendered(self, conversation: Conversation, ids: np.ndarray, mask: np.ndarray) -> bool:
        """Whether the model's template makes the very text of these tokens of the messages, up to the last turn."""
        last = int(np.flatnonzero(mask)[-1]) + 1
        whole = self.chat.decode(ids[:last].tolist()).removesuffix(END)
        try:
            rendered = self.chat.tokenizer.apply_chat_template(
                [_for_template(message) for message in conversation.messages],
                tools=conversation.tools or None,
                tokenize=False,
            )
        except (TemplateError, TypeError):
            return False
        return rendered.rstrip("\n").removesuffix(END) == whole

    def _split(self, ids: np.ndarray, mask: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """The role of each message, and its tokens from the role's on."""
        starts = np.flatnonzero((ids == self._start) & (mask == 0))
        for begin, end in zip(starts, [*starts[1:], len(ids)], strict=True):
            own, sampled = ids[begin + 1 : end], np.flatnonzero(mask[begin + 1 : end])
            if len(sampled):
                own = own[: sampled[-1] + 1]
                while len(own) and own[-1] in self.chat.ends:
                    own = own[:-1]
            else:
                ended = np.flatnonzero(own == self._end)
                if not len(ended):
                    return  # the opening of a turn that was never sampled
                own = own[: ended[-1]]
            yield self.chat.decode(own[:8].tolist()).partition("\n")[0], own

    def _assistant(self, text: str, calls_before: int) -> Message:
        """A turn. A malformed call stays in its content, with all others of the turn."""
        thought, rest = self.chat.split_thought(text)
        found = turns.parts(rest)
        message: Message = {"role": "assistant", "content": rest.strip() if found.error else found.words}
        if thought:
            message["reasoning_content"] = thought
        if found.calls and not found.error:
            message["tool_calls"] = [
                {
                    "id": f"call_{number}",
                    "type": "function",
                    "function": {"name": call.name, "arguments": _json(call.arguments)},
                }
                for number, call in enumerate(found.calls, calls_before)
            ]
        return message


def split_tools(system: str) -> tuple[str, list[dict[str, Any]]]:
    """The system's message without its list of tools, and the tools: Hermes' JSON lines, or the demo's short form."""
    at = system.rfind(_HEADING)
    section = system[at:]
    if at < 0:
        return system, []
    _, begin, rest = section.partition(TOOLS)
    if begin:
        lines = rest.partition(END_OF_TOOLS)[0].splitlines()
        found = [json.loads(line) for line in lines if line.strip()]
    else:
        short = map(_SHORT_TOOL.fullmatch, section.removeprefix(_HEADING).splitlines())
        found = [_spec(tool[1], tool[2]) for tool in short if tool]
    return system[:at].rstrip("\n"), found


def _spec(name: str, parameters: str) -> dict[str, Any]:
    properties: dict[str, Any] = {parameter: {} for parameter in parameters.split(", ") if parameter}
    schema = {"type": "object", "properties": properties}
    return {"type": "function", "function": {"name": name, "description": "", "parameters": schema}}


def _results(text: str, ids: list[str]) -> Iterator[Message]:
    """A message of results as one message each."""
    between = f"\n{END_OF_RESPONSE}\n{RESPONSE}\n"
    whole = text.removeprefix(f"{RESPONSE}\n").removesuffix(f"\n{END_OF_RESPONSE}")
    results = whole.split(between)
    if len(results) > len(ids):  # a result holds the text of the tags: which one cannot be told
        results = [*results[: len(ids) - 1], between.join(results[len(ids) - 1 :])]
    for name, result in zip(ids, results, strict=False):
        yield {"role": "tool", "tool_call_id": name, "content": result}


def _for_template(message: Message) -> Message:
    """With arguments as objects, as chat templates take them."""
    calls = [
        call | {"function": call["function"] | {"arguments": json.loads(call["function"]["arguments"])}}
        for call in message.get("tool_calls", ())
    ]
    return message | ({"tool_calls": calls} if calls else {})


def _json(value: Any) -> str:
    """As templates write JSON, in characters that UTF-8 holds."""
    return json.dumps(value, ensure_ascii=False).encode(errors="replace").decode()
