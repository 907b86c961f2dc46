"""Chats with a model behind an OpenAI-compatible endpoint: a teacher, a rival, a stronger colleague.

Its tokens are never trained on: the endpoint renders the conversation itself, and at most tells its own turns' tokens.
What a teacher says gets the tokens of the policy's own format: `teacher.py`.
"""

import json
import re
import sys
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from itertools import zip_longest
from typing import Any

from aworld import config as schema
from aworld.agents.answers import check_answer_form
from aworld.agents.chat import read_turn
from aworld.agents.openai_chat import as_sent
from aworld.agents.protocols import AssistantMessage
from aworld.agents.reply import Reply, read
from aworld.endpoints import client_of
from aworld.errors import InfrastructureError, InputError
from aworld.openai_client import ONCE, BusyError, EndpointError, RefusedError, Retries

RETRIES = Retries(4)
NO_RESULT = "[no result]"  # an endpoint wants one for each call
CHARS_PER_TOKEN = 3  # of what has been said since the endpoint last counted
GREETING = [{"role": "user", "content": "Reply with the word ok."}]
GREETING_TOKENS = 16
CONVERSATIONS = 3  # the run stops after so many refused chats, if none was accepted
TOO_LONG = re.compile(r"context|token|too (?:long|large)|length", re.IGNORECASE)


class Refused(Exception):  # noqa: N818
    """An endpoint does not take this conversation, but would take others; `is_too_long`: its length is why."""

    def __init__(self, reason: str, is_too_long: bool):
        super().__init__(reason)
        self.is_too_long = is_too_long


class EndpointModel:
    """Talks with `endpoint.model`.

    Args:
        is_policy: whether this model is evaluated in the place of the policy; its tokens then count as sampled.

    Raises:
        InputError: the address or the key is missing or is none, or there is no such form of answers.
    """

    def __init__(self, endpoint: schema.Endpoint, config: schema.Agent, is_policy: bool = True):
        check_answer_form(config.answer_form)
        self.endpoint, self.config, self.is_policy = endpoint, config, is_policy
        self._client = client_of(endpoint)
        self._taken: set[bool] = set()  # accepted requests: of a first turn (False), of a later one (True)
        self._refused: dict[bool, list[str]] = {False: [], True: []}  # questions of refused ones

    @property
    def sampling(self) -> dict[str, Any]:
        return {"model": self.endpoint.model, "temperature": self.config.temperature, "top_p": self.config.top_p}

    def begin(self, system: str, question: str, tools: list[dict[str, Any]]) -> "MessageChat":
        said = [{"role": "system", "content": system}] if system else []
        return self.chat([*said, {"role": "user", "content": question}], tools)

    def chat(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> "MessageChat":
        """A chat that goes on from these messages, which are as `openai_chat.as_read` gives them."""
        return MessageChat(self, as_sent(messages), tools)

    async def is_there(self) -> bool:
        """Whether the endpoint answers a word, or is only busy.

        Raises:
            InputError: it refuses whatever it is asked, as with a wrong key, or where it has no such model.
        """
        like = self.sampling | {"max_tokens": GREETING_TOKENS} | self.endpoint.extra
        try:
            await self._greet(like)
        except BusyError:
            return True
        except EndpointError:
            return False
        return True

    async def complete(self, body: dict[str, Any]) -> Reply:
        """The endpoint's reply. A fault that may pass is given four tries.

        Raises:
            Refused: the endpoint does not take this request.
            InputError: it takes none that is asked in this way.
            InfrastructureError: it does not answer, or not in a form that can be understood.
        """
        try:
            return await self._client.chat(body, read, RETRIES)
        except RefusedError as error:
            reason = str(error)
            with suppress(EndpointError):
                await self._greet(body)
                is_too_long = error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or TOO_LONG.search(error.text)
                raise Refused(f"the endpoint refuses this, {reason}", bool(is_too_long)) from None
        except EndpointError as error:
            reason = str(error)
        raise InfrastructureError(f"{self.endpoint.model} at {self.endpoint.base_url} did not answer: {reason}")

    def taken(self, is_later: bool) -> None:
        """The endpoint has replied in a conversation; `is_later`: which had a turn of the model's already."""
        self._taken.add(is_later)

    def refused(self, is_later: bool, question: str, reason: Refused) -> None:
        """The endpoint has refused a conversation, though it takes a short word asked in the same way.

        Raises:
            InputError: it refuses every conversation at this point. One question may be flagged or too long by itself,
                so the first request has to be refused for two questions.
        """
        questions = self._refused[is_later]
        questions.append(question)
        if is_later in self._taken or len(questions) < CONVERSATIONS or not (is_later or len(set(questions)) > 1):
            return
        asked = "once the model has called a tool" if is_later else "as soon as it is asked a question"
        raise InputError(
            f"{self.endpoint.model} at {self.endpoint.base_url} refused {len(questions)} conversations of "
            f"{len(questions)} {asked}: {reason}; check the endpoint's context and extra, and the agent's turn_tokens"
        )

    async def _greet(self, like: dict[str, Any]) -> None:
        """Ask for a word, with the settings of the request `like`.

        Raises:
            InputError: the endpoint refuses even that.
            EndpointError: it does not answer.
        """
        try:
            await self._client.chat(like | {"messages": GREETING}, read, ONCE)
        except RefusedError as error:
            raise InputError(
                f"{self.endpoint.model} at {self.endpoint.base_url} refuses whatever it is asked, {error}; "
                "check the endpoint's model, base_url, key_variable and extra, and the agent's turn_tokens"
            ) from None


@dataclass
class MessageChat:
    """One conversation with an endpoint: a Chat."""

    model: EndpointModel
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    token_ids: list[int] = field(default_factory=list)  # sampled, where the engine gives them
    policy_version: int = -1

    def __post_init__(self) -> None:
        self._messages = list(self.messages)
        self._aside: int | None = None
        self._used, self._counted = 0, 0  # tokens of so many messages, by the endpoint's own count
        self.opening = "\n\n".join(message["content"] or "" for message in self.messages)

    @property
    def mask(self) -> list[int]:
        return [int(self.model.is_policy)] * len(self.token_ids)

    @property
    def logprobs(self) -> list[float]:
        return [0.0] * len(self.token_ids)

    @property
    def room(self) -> int:
        if not self.model.endpoint.context:
            return self.context
        since = len(json.dumps(self._messages[self._counted :])) // CHARS_PER_TOKEN
        return self.context - self._used - since

    @property
    def context(self) -> int:
        return self.model.endpoint.context or sys.maxsize

    async def generate(self, max_tokens: int, seed: int) -> AssistantMessage:
        c, endpoint = self.model.config, self.model.endpoint
        body = {
            "model": endpoint.model,
            "messages": self._messages,
            "temperature": c.temperature,
            "top_p": c.top_p,
            "max_tokens": max_tokens,
            "seed": seed,
            **({"tools": self.tools} if self.tools else {}),
            **endpoint.extra,
        }
        is_later = any(message["role"] == "assistant" for message in self._messages)
        try:
            reply = await self.model.complete(body)
        except Refused as refusal:  # asked again it would be refused again: there the model ends
            self.model.refused(is_later, self.messages[-1]["content"], refusal)
            return AssistantMessage(f"[{refusal}]", "", (), None, not refusal.is_too_long, 0, is_error=True)
        self.model.taken(is_later)
        self.token_ids += reply.token_ids
        self._messages.append(reply.message)
        self._used = reply.total
        self._counted = len(self._messages) if reply.total else 0
        return message_of(reply, c.answer_form)

    def add_tool_results(self, results: list[str]) -> None:
        calls = self._messages[-1].get("tool_calls")
        if calls is None:  # they were in the text: so are the results, as Qwen3's template writes them
            responses = [f"<tool_response>\n{result}\n</tool_response>" for result in results]
            self._messages.append({"role": "user", "content": "\n".join(responses)})
            return
        pairs = zip_longest([call["id"] for call in calls], results)  # a program may leave some out, or add some
        self._messages += [
            {"role": "tool", "tool_call_id": one or f"call-{at}", "content": NO_RESULT if result is None else result}
            for at, (one, result) in enumerate(pairs)
        ]

    def add_user(self, text: str, aside: bool = False) -> None:
        if aside:
            self._aside = len(self._messages)
        self._messages.append({"role": "user", "content": text})

    def shortened(self, note: str) -> "MessageChat | None":
        *before, question = self.messages
        noted = question | {"content": f"{question['content']}\n\n{note}"}
        shorter = MessageChat(self.model, [*before, noted], self.tools)
        told = self._messages[: self._aside]
        turns = [at for at, message in enumerate(told) if message["role"] == "assistant"]
        fits = self.model.endpoint.context // 2 * CHARS_PER_TOKEN
        kept = [at for at in turns if len(json.dumps(told[at:])) <= fits]
        if kept[:1] == turns[:1]:
            return None
        shorter.messages = self.messages  # the next note takes the place of this one
        shorter._messages += told[kept[0] :] if kept else []
        return shorter


def message_of(reply: Reply, answer_form: str) -> AssistantMessage:
    """The message for the agent loop."""
    read = read_turn(reply.text, answer_form)
    thoughts = filter(None, (reply.thought, read.thought))
    read = replace(read, text=reply.shown, thought="\n".join(thoughts))
    if reply.calls:  # else those that its server has left in the text count
        read = replace(read, calls=reply.calls, error=None)
    return read.message(reply.ended, reply.tokens)
