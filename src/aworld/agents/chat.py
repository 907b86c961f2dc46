"""Qwen3's chat format, token-exact: ChatML with Hermes tool calls.

The model's own template is rendered once, for the prompt. From then on tokens are only appended: what the policy
sampled, as it sampled it, and the tools' results. Nothing is re-tokenised and no past turn is rendered again (Qwen3's
template would drop its <think> blocks, which changes the prefix under the policy's feet).

Only the template's own text and that of this module becomes special or added tokens. The text of a question, a tool's
result, its description or a colleague stays plain text, whatever it says.
"""

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from tokenizers import Tokenizer

from aworld.agents.answers import ANSWER_FORMS, check_answer_form
from aworld.agents.protocols import AssistantMessage, ToolCall
from aworld.agents.turns import CALL, END_OF_CALL, END_OF_THOUGHT, THINK, parts, split_thought
from aworld.errors import InputError
from aworld.imports import without_collecting, without_listing_packages

END_OF_TURN = "<|im_end|>"
END_OF_TEXT = "<|endoftext|>"  # ends a turn as well: Qwen3's generation config has both, a base model writes this one
TURN = "<|im_start|>assistant\n"
RESULT = "\n<|im_start|>user\n<tool_response>\n{}\n</tool_response>" + END_OF_TURN + "\n"
MARK = "\ufdd0"  # breaks a special token's text within a prompt; Unicode keeps this character for internal use
_THINKING = {"enable_thinking": True}


@dataclass(frozen=True)
class ParsedTurn:
    """A turn of a model, read.

    Attributes:
        content: the text without thought and calls.
        thought: that it begins with.
        error: what is wrong with the first malformed call; None: all are well-formed.
        wrong: the text of that call.
    """

    text: str
    content: str
    calls: tuple[ToolCall, ...]
    answer: str | None
    error: str | None
    wrong: str = ""
    thought: str = ""

    def message(self, ended: bool, tokens: int) -> AssistantMessage:
        """The message for the agent loop. A good call beats an answer, an answer beats a malformed call."""
        wrong = [ToolCall("", {"": self.wrong}, self.error)] if self.error is not None else []
        answer = self.answer if not self.calls else None
        calls = (*self.calls, *wrong) if answer is None else ()
        return AssistantMessage(self.text, self.content, calls, answer, ended, tokens, thought=self.thought)


class ChatFormat:
    """The format of the model in `folder` (its tokenizer and chat template).

    Args:
        answer_form: how the policy gives its answer: `tag` or `final` (ANSWER_FORMS).
        enable_thinking: as the template's variable of this name.

    Attributes:
        end_of_turn: the token that the template ends a turn with.
        ends: all tokens with which the policy may end a turn.
        turn_opening: the tokens that open a turn of the policy, such as those of `\\n<|im_start|>assistant\\n`.

    Raises:
        InputError: no such form; there is no tokenizer or no template, or the template has another format.
    """

    def __init__(self, folder: Path, answer_form: str = "tag", enable_thinking: bool = True):
        check_answer_form(answer_form)
        self._answer_form, self._thinking = answer_form, enable_thinking
        if not (folder / "tokenizer.json").is_file():
            raise InputError(f"{folder} holds no tokenizer.json; add it from the Hugging Face folder of its model")
        self.tokenizer = tokenizer_class().from_pretrained(folder)
        self._added: dict[str, int] = self.tokenizer.get_added_vocab()
        longest_first = sorted(self._added, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._plain_tokenizer = _without_added_tokens(self.tokenizer.backend_tokenizer)
        beginning = self._beginning(folder)
        self.end_of_turn: int = self._added[END_OF_TURN]
        self.ends = tuple(self._added[end] for end in (END_OF_TURN, END_OF_TEXT) if end in self._added)
        self.turn_opening = self._format(f"\n{beginning}")
        has_thought = THINK in beginning
        self._opens_thought = has_thought and END_OF_THOUGHT not in beginning.rpartition(THINK)[2]
        self._may_think = self._opens_thought or not has_thought  # else the template closes the thought at once

    def prompt(self, system: str, question: str, tools: list[dict[str, Any]]) -> list[int]:
        """The tokens up to the policy's first turn."""
        return self.prompt_of([{"role": "system", "content": system}, {"role": "user", "content": question}], tools)

    def prompt_of(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> list[int]:
        """As `prompt`, of any messages. Raises InputError as `prompt_text`."""
        return self.encode(self.prompt_text(messages, tools))

    def prompt_text(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> str:
        """The text up to the policy's first turn, for `encode`.

        Raises:
            InputError: the template refuses the messages.
        """
        try:
            return self._render(self._marked(messages), tools=self._marked(tools), add_generation_prompt=True)
        except (TemplateError, TypeError) as reason:
            raise InputError(f"the model's chat template refuses the messages: {reason}") from None

    def encode(self, text: str) -> list[int]:
        """The tokens of a text of the template. Where MARK breaks a special token, it stays plain text."""
        ids, at = [], 0
        for found in self._special.finditer(text):
            ids += [*self._plain(text[at : found.start()].replace(MARK, "")), self._added[found[0]]]
            at = found.end()
        return [*ids, *self._plain(text[at:].replace(MARK, ""))]

    def tool_results(self, results: list[str], ended: bool = True) -> list[int]:
        """The tokens from the end of the policy's turn up to `turn_opening`, with which its next one begins.

        `ended` says whether the policy closed its turn with the end-of-turn token itself.
        """
        ids = [] if ended else [self.end_of_turn]
        ids += self._format("\n<|im_start|>user")
        for result in results:
            ids += self._format("\n<tool_response>\n") + self._plain(result) + self._format("\n</tool_response>")
        return [*ids, self.end_of_turn]

    def user(self, text: str, ended: bool = True) -> list[int]:
        """As `tool_results`, of a user's words."""
        ids = [] if ended else [self.end_of_turn]
        return [*ids, *self._format("\n<|im_start|>user\n"), *self._plain(text), self.end_of_turn]

    def assistant(self, text: str) -> list[int]:
        """A whole turn of an assistant who writes `text`, without a thought of its own."""
        closed = f"\n{END_OF_THOUGHT}\n\n{text}" if self._opens_thought else text
        return [*self._format(closed), self.end_of_turn]

    def turn(self, message: AssistantMessage) -> list[int]:
        """The tokens of `turn_text`, with the end-of-turn token unless the turn was cut."""
        ids = self.encode(self.turn_text(message))
        return [*ids, self.end_of_turn] if message.ended else ids

    def turn_text(self, message: AssistantMessage) -> str:
        """What the policy writes where it takes the turn of another model, as its template has it; for `encode`.

        Where the template itself closes the thought, the thought is left out.

        Raises:
            ValueError: the policy cannot say this: it would be read as another message.
        """
        if wrong := next((call.error for call in message.calls if call.error), ""):
            raise ValueError(wrong)
        thought, content = message.thought.strip() if self._may_think else "", message.content.strip()
        calls = [json.dumps({"name": c.name, "arguments": c.arguments}, ensure_ascii=False) for c in message.calls]
        blocks = [f"{CALL}\n{self._marked(call)}\n{END_OF_CALL}" for call in calls]
        words = "\n".join(filter(None, [self._marked(content), *blocks]))
        text = self._thought(self._marked(thought), not message.ended and not words) + words
        read = parts(text.replace(MARK, ""), self._opens_thought)
        said = self.split_thought(text.replace(MARK, ""))[0]
        if read.error or (said, read.words, read.calls) != (thought, content, message.calls):
            raise ValueError("its text would be read as another message")
        return text

    def _thought(self, thought: str, is_cut: bool) -> str:
        """The text of a turn up to the end of its thought."""
        opened = "" if self._opens_thought else f"{THINK}\n"
        if is_cut and thought:
            return opened + thought
        if not thought and not self._opens_thought:
            return self._no_thought if self._may_think else ""
        return f"{opened}{thought}\n{END_OF_THOUGHT}\n\n"

    def split_thought(self, text: str) -> tuple[str, str]:
        """The thought that a turn of this text begins with, and the rest."""
        return split_thought(text, self._opens_thought)

    def decode(self, token_ids: list[int]) -> str:
        """For people and for parsing; never encoded again."""
        return self.tokenizer.decode(token_ids, skip_special_tokens=False)

    def parse(self, token_ids: list[int]) -> ParsedTurn:
        """Read a turn. Never raises: a malformed call becomes an error for the policy to read."""
        end = len(token_ids)
        while end and token_ids[end - 1] in self.ends:
            end -= 1
        return read_turn(self.decode(token_ids[:end]), self._answer_form, self._opens_thought)

    def _render(self, messages: list[dict[str, Any]], **variables: Any) -> str:
        variables = {"enable_thinking": self._thinking, **variables}
        return self.tokenizer.apply_chat_template(messages, tokenize=False, **variables)

    def _beginning(self, folder: Path) -> str:
        """What the template begins a turn of the model with.

        Raises:
            InputError: there is no template; it has another format; there is no thinking to be switched off.
        """
        if not self.tokenizer.chat_template:
            raise InputError(f"{folder} has no chat template; take an instruct model, or add its chat_template.jinja")
        call = {"type": "function", "function": {"name": "f", "arguments": {"x": "1"}}}
        talk: list[dict[str, Any]] = [
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "r"},
        ]
        try:
            told = self._render(talk, add_generation_prompt=False)
            asked, thinking = (self._render(talk, add_generation_prompt=True, **v) for v in ({}, _THINKING))
        except (TemplateError, TypeError, ValueError) as error:
            raise InputError(f"the chat template of {folder} cannot be used: {' '.join(str(error).split())}") from None
        beginning = asked.removeprefix(told)
        thoughtless = self._render([talk[0], {"role": "assistant", "content": "a"}], add_generation_prompt=False)
        before = thoughtless.rpartition(TURN)[2].rpartition(f"a{END_OF_TURN}")[0]
        self._no_thought = before if before.startswith(THINK) else ""  # how a turn without a thought begins
        is_hermes = parts(told).calls == (ToolCall("f", {"x": "1"}),) and told.endswith(RESULT.format("r"))
        if not is_hermes or not beginning.startswith(TURN):
            raise InputError(
                f"the chat template of {folder} is not ChatML with Hermes tool calls (JSON within <tool_call>), as "
                "Qwen3's is; take a model with such a template"
            )
        if not self._thinking and asked == thinking:
            raise InputError(
                f"agent.enable_thinking=false: the chat template of {folder} has no such switch; leave it out"
            )
        return beginning

    def _marked(self, value: Any) -> Any:
        """Messages or tools, with the text of special and added tokens broken by MARK."""
        if isinstance(value, str):
            return self._special.sub(lambda found: found[0][0] + MARK + found[0][1:], value)
        if isinstance(value, dict):
            return {self._marked(key): self._marked(inner) for key, inner in value.items()}
        return [self._marked(inner) for inner in value] if isinstance(value, list) else value

    def _format(self, text: str) -> list[int]:
        # transformers' own encode takes thrice as long
        return self.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids

    def _plain(self, text: str) -> list[int]:
        """Half a surrogate pair, which no UTF-8 holds, becomes a question mark."""
        return self._plain_tokenizer.encode(text.encode(errors="replace").decode(), add_special_tokens=False).ids


@cache
def tokenizer_class() -> Any:
    """The class of all tokenizers. Its import takes a second, the first time."""
    with without_collecting(), without_listing_packages():
        from transformers import PreTrainedTokenizerFast  # AutoTokenizer imports for four seconds

    return PreTrainedTokenizerFast


def _without_added_tokens(tokenizer: Tokenizer) -> Tokenizer:
    """The same model, which takes the text of a special or added token for any other text.

    `encode_special_tokens` would not do: Qwen3's <think> and <tool_call> are added tokens that are not special.
    """
    plain = Tokenizer(tokenizer.model)
    if tokenizer.normalizer is not None:
        plain.normalizer = tokenizer.normalizer
    if tokenizer.pre_tokenizer is not None:
        plain.pre_tokenizer = tokenizer.pre_tokenizer
    return plain


def read_turn(text: str, answer_form: str, is_thinking: bool = False) -> ParsedTurn:
    """Read a turn's text. `is_thinking`: its thought was opened before it began."""
    found = parts(text, is_thinking)
    answer, (thought, _) = ANSWER_FORMS[answer_form](found.words), split_thought(text, is_thinking)
    return ParsedTurn(text, found.words, found.calls, answer, found.error, found.wrong, thought)
