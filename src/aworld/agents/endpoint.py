"""Conversations with a model behind an OpenAI-compatible endpoint: a teacher, a rival, a stronger colleague.

What it says is never trained on: the endpoint renders the conversation itself, and at most tells its own turns' tokens.
"""

import asyncio
import json
import os
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

from aworld import config as schema
from aworld.agents.chat import check_answer_form, final_answer, without_thoughts
from aworld.agents.protocols import ToolCall, Utterance
from aworld.errors import InfrastructureError, InputError

TRIES = 4
AGAIN = (408, 409, 429, 500, 502, 503, 504)
CHARS_PER_TOKEN = 3  # of what has been said since the endpoint last counted


class EndpointSpeaker:
    """Talks with `endpoint.model`.

    Args:
        is_policy: whether it is who is evaluated, so that its tokens count as sampled.

    Raises:
        InputError: the address or the key is missing, or there is no such form of answers.
    """

    def __init__(self, endpoint: schema.Endpoint, config: schema.Agent, is_policy: bool = True):
        check_answer_form(config.answer_form)
        if not endpoint.base_url:
            raise InputError(
                f"{endpoint.model} has no base_url; set it beside endpoint.model, as http://localhost:8000/v1"
            )
        key = os.environ.get(endpoint.key_variable, "") if endpoint.key_variable else ""
        if endpoint.key_variable and not key:
            raise InputError(f"the variable {endpoint.key_variable} is not set, which holds the endpoint's key")
        self.endpoint, self.config, self.is_policy = endpoint, config, is_policy
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.AsyncClient(headers=headers, timeout=endpoint.seconds)

    @property
    def sampling(self) -> dict[str, Any]:
        return {"model": self.endpoint.model, "temperature": self.config.temperature, "top_p": self.config.top_p}

    def begin(self, system: str, question: str, tools: list[dict[str, Any]]) -> "MessageConversation":
        return MessageConversation(self, system, question, tools)

    async def is_there(self) -> bool:
        """Whether anything answers at the endpoint's address."""
        with suppress(httpx.HTTPError):
            await self._client.get(f"{self.endpoint.base_url.rstrip('/')}/models")
            return True
        return False

    async def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        """The endpoint's reply, which has a choice; what fails for a moment is tried four times.

        Raises:
            InfrastructureError: the endpoint does not answer, or refuses the request.
        """
        reason = ""
        for attempt in range(TRIES):
            await asyncio.sleep(2.0**attempt - 1.0)
            try:
                reply = await self._client.post(f"{self.endpoint.base_url.rstrip('/')}/chat/completions", json=body)
                if reply.is_error:
                    reason = f"status {reply.status_code}: {reply.text[:200]}"
                    if reply.status_code not in AGAIN:
                        break
                    continue
                answer = reply.json()
                answer["choices"][0]["message"].get("content")
                return answer
            except (httpx.HTTPError, ValueError, LookupError, TypeError, AttributeError) as error:
                reason = str(error) or type(error).__name__
        raise InfrastructureError(f"{self.endpoint.model} at {self.endpoint.base_url} did not answer: {reason}")


@dataclass
class MessageConversation:
    """One conversation with an endpoint: a Conversation."""

    speaker: EndpointSpeaker
    system: str
    question: str
    tools: list[dict[str, Any]]
    token_ids: list[int] = field(default_factory=list)  # sampled, where the engine gives them
    policy_version: int = -1

    def __post_init__(self) -> None:
        system = [{"role": "system", "content": self.system}] if self.system else []
        self._messages: list[dict[str, Any]] = [*system, {"role": "user", "content": self.question}]
        self._aside: int | None = None
        self._used, self._counted = 0, 0  # tokens of so many messages, by the endpoint's own count
        self.opening = f"{self.system}\n\n{self.question}"

    @property
    def mask(self) -> list[int]:
        return [int(self.speaker.is_policy)] * len(self.token_ids)

    @property
    def logprobs(self) -> list[float]:
        return [0.0] * len(self.token_ids)

    @property
    def room(self) -> int:
        if not self.speaker.endpoint.context:
            return sys.maxsize
        since = len(json.dumps(self._messages[self._counted :])) // CHARS_PER_TOKEN
        return self.speaker.endpoint.context - self._used - since

    async def say(self, max_tokens: int, seed: int) -> Utterance:
        c, endpoint = self.speaker.config, self.speaker.endpoint
        answer = await self.speaker.complete(
            {
                "model": endpoint.model,
                "messages": self._messages,
                "temperature": c.temperature,
                "top_p": c.top_p,
                "max_tokens": max_tokens,
                "seed": seed,
                **({"tools": self.tools} if self.tools else {}),
                **endpoint.extra,
            }
        )
        choice, usage = answer["choices"][0], answer.get("usage") or {}
        self.token_ids += choice.get("token_ids") or []
        self._used = usage.get("total_tokens", 0)
        message = choice["message"]
        text, calls = message.get("content") or "", message.get("tool_calls") or []
        self._messages.append({"role": "assistant", "content": text, **({"tool_calls": calls} if calls else {})})
        self._counted = len(self._messages) if self._used else 0
        return Utterance(
            _shown(message),
            without_thoughts(text),
            tuple(_tool_call(call) for call in calls),
            final_answer(text, c.answer_form) if not calls else None,
            choice.get("finish_reason") != "length",
            usage.get("completion_tokens", 0),
        )

    def hear(self, results: list[str]) -> None:
        calls = self._messages[-1]["tool_calls"]
        self._messages += [
            {"role": "tool", "tool_call_id": call.get("id", ""), "content": result}
            for call, result in zip(calls, results, strict=True)
        ]

    def told(self, text: str, aside: bool = False) -> None:
        if aside:
            self._aside = len(self._messages)
        self._messages.append({"role": "user", "content": text})

    def shortened(self, note: str) -> "MessageConversation | None":
        shorter = MessageConversation(self.speaker, self.system, f"{self.question}\n\n{note}", self.tools)
        told = self._messages[: self._aside]
        turns = [at for at, message in enumerate(told) if message["role"] == "assistant"]
        fits = self.speaker.endpoint.context // 2 * CHARS_PER_TOKEN
        kept = [at for at in turns if len(json.dumps(told[at:])) <= fits]
        if kept[:1] == turns[:1]:
            return None
        shorter.question = self.question  # the next note takes the place of this one
        shorter._messages += told[kept[0] :] if kept else []
        return shorter


def _tool_call(call: dict[str, Any]) -> ToolCall:
    name, given = call["function"]["name"], call["function"].get("arguments") or "{}"
    try:
        arguments = json.loads(given)
    except ValueError as reason:
        return ToolCall(name, {"": given}, f"the arguments are not valid JSON: {reason}")
    if not isinstance(arguments, dict):
        return ToolCall(name, {"": given}, "the arguments are not an object")
    return ToolCall(name, arguments)


def _shown(message: dict[str, Any]) -> str:
    """What a person reads of a message: its thoughts, where the endpoint gives them, its words, its calls."""
    functions = [call["function"] for call in message.get("tool_calls") or []]
    calls = [f"{function['name']}({function.get('arguments', '')})" for function in functions]
    thoughts = message.get("reasoning_content") or message.get("reasoning") or ""
    return "\n".join(part for part in (thoughts, message.get("content") or "", *calls) if part)
