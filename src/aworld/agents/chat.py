"""Qwen3's chat format, token-exact: ChatML with Hermes tool calls.

The model's own template is rendered once, for the prompt. From then on tokens are only appended: what the policy
sampled, as it sampled it, and the tools' results. Nothing is re-tokenised and no past turn is rendered again (Qwen3's
template would drop its <think> blocks, which changes the prefix under the policy's feet).
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast  # AutoTokenizer imports for four seconds

from aworld.agents.protocols import ToolCall
from aworld.errors import InputError

END_OF_TURN = "<|im_end|>"
TURN = "\n<|im_start|>assistant\n"
_CALL = re.compile(r"<tool_call>(.*?)(</tool_call>|\Z)", re.DOTALL)
_TAG = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_FINAL = re.compile(r"(?:FINAL ANSWER|Final [Aa]nswer)[ *`]*[:：]")
_TEMPLATE = re.compile(r"\[([^\[\]]*)\]")
# the template of some models opens the first thought itself, and the turn only says where it ends
_THINK = re.compile(r"\A(?:(?!<think>).)*?</think>|<think>.*?(?:</think>|\Z)", re.DOTALL)


@dataclass(frozen=True)
class ParsedTurn:
    """What a turn of the policy says. `said` is its words alone; `error` tells what is wrong with its tool calls, and
    `wrong` is the first such call."""

    text: str
    said: str
    calls: tuple[ToolCall, ...]
    answer: str | None
    error: str | None
    wrong: str = ""


class ChatFormat:
    """The format of the model in `folder` (its tokenizer and chat template).

    Args:
        answer_form: how the policy gives its answer: `tag` or `final` (ANSWER_FORMS).

    Raises:
        InputError: no such form.
    """

    def __init__(self, folder: Path, answer_form: str = "tag"):
        check_answer_form(answer_form)
        self._answer_form = answer_form
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        self.end_of_turn: int = self.tokenizer.convert_tokens_to_ids(END_OF_TURN)
        self.turn = self._format(TURN)  # begins a turn of the policy
        # Rust's tokenizer by itself: with this switch a special token's text in a tool's result stays mere text.
        self._rust = self.tokenizer.backend_tokenizer

    def prompt(self, system: str, question: str, tools: list[dict[str, Any]]) -> list[int]:
        """The tokens up to the policy's first turn."""
        messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
        text = self.tokenizer.apply_chat_template(messages, tools=tools, add_generation_prompt=True, tokenize=False)
        return self.tokenizer.encode(text, add_special_tokens=False)

    def observation(self, results: list[str], ended: bool = True) -> list[int]:
        """The tokens from the end of the policy's turn up to `turn`, with which its next one begins.

        `ended` says whether the policy closed its turn with the end-of-turn token itself.
        """
        ids = [] if ended else [self.end_of_turn]
        ids += self._format("\n<|im_start|>user")
        for result in results:
            ids += self._format("\n<tool_response>\n") + self._plain(result) + self._format("\n</tool_response>")
        return [*ids, self.end_of_turn]

    def user(self, text: str, ended: bool = True) -> list[int]:
        """As `observation`, of a user's words."""
        ids = [] if ended else [self.end_of_turn]
        return [*ids, *self._format("\n<|im_start|>user\n"), *self._plain(text), self.end_of_turn]

    def say(self, text: str) -> list[int]:
        """A whole turn of an assistant who writes `text`."""
        return [*self._format(text), self.end_of_turn]

    def decode(self, token_ids: list[int]) -> str:
        """For people and for parsing; never encoded again."""
        return self.tokenizer.decode(token_ids, skip_special_tokens=False)

    def parse(self, token_ids: list[int]) -> ParsedTurn:
        """Read a turn. Never raises: a malformed call becomes an error for the policy to read."""
        text = self.decode(token_ids).removesuffix(END_OF_TURN)
        said = _THINK.sub("", text)
        calls: list[ToolCall] = []
        error, wrong = None, ""
        for body, end in _CALL.findall(said):
            call = _tool_call(body) if end else "the tool call is not closed by </tool_call>"
            if isinstance(call, ToolCall):
                calls.append(call)
            elif error is None:
                error, wrong = call, body
        answer = final_answer(text, self._answer_form)
        return ParsedTurn(text, without_thoughts(text), tuple(calls), answer, error, wrong)

    def _format(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def _plain(self, text: str) -> list[int]:
        self._rust.encode_special_tokens = True
        try:
            return self._rust.encode(text, add_special_tokens=False).ids
        finally:
            self._rust.encode_special_tokens = False


def check_answer_form(name: str) -> None:
    """
    Raises:
        InputError: no such form.
    """
    if name not in ANSWER_FORMS:
        raise InputError(f"agent.answer_form={name}: no such form; valid: {', '.join(ANSWER_FORMS)}")


def final_answer(text: str, form: str) -> str | None:
    """The last answer that a turn gives, outside of its thoughts and tool calls."""
    return ANSWER_FORMS[form](without_thoughts(text))


def _tagged(text: str) -> str | None:
    answers = _TAG.findall(text)
    return answers[-1].strip() if answers else None


def _final(text: str) -> str | None:
    """The line that the last FINAL ANSWER: begins, or stands above; without emphasis, and without the brackets in which
    GAIA's prompt has YOUR FINAL ANSWER."""
    for part in reversed(_FINAL.split(text)[1:]):
        lines = (line.strip("*` \t\r") for line in part.splitlines())
        if answer := next(filter(None, lines), ""):
            whole = _TEMPLATE.fullmatch(answer)
            return whole[1].strip("*` ") if whole else answer
    return None


ANSWER_FORMS = {"tag": _tagged, "final": _final}


def without_thoughts(text: str) -> str:
    """A turn's words alone, without its thoughts and tool calls."""
    return _CALL.sub("", _THINK.sub("", text)).strip()


def _tool_call(body: str) -> ToolCall | str:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        return f"the tool call is not valid JSON: {error}"
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return 'the tool call is not an object with a "name"'
    arguments = value.get("arguments", {})
    if isinstance(arguments, str):  # some models write the arguments as a JSON string
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return 'the "arguments" of the tool call are not valid JSON'
    if not isinstance(arguments, dict):
        return 'the "arguments" of the tool call are not an object'
    return ToolCall(value["name"], arguments)
