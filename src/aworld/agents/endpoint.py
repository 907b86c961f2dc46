"""The same agent around a model behind an OpenAI-compatible endpoint: a teacher, a rival.

To evaluate, never to train on: the endpoint renders the conversation itself, and only its own turns' tokens are known.
"""

import asyncio
import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

from aworld import config as schema
from aworld.agents.chat import check_answer_form, final_answer
from aworld.agents.loop import asked, repeats, turn_seed
from aworld.agents.protocols import Environment
from aworld.errors import InfrastructureError, InputError
from aworld.tasks.task import Task
from aworld.trajectories.episode import Episode, Status, Turn

TRIES = 4
AGAIN = (408, 409, 429, 500, 502, 503, 504)


@dataclass
class Conversation:
    """An episode under way."""

    messages: list[dict[str, Any]]
    turns: list[Turn] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)  # sampled, where the engine gives them
    completion_tokens: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: {"generate": 0.0, "tools": 0.0})
    answer: str | None = None
    began: float = field(default_factory=lambda: asyncio.get_running_loop().time())

    @property
    def now(self) -> float:
        """Seconds since the episode began."""
        return asyncio.get_running_loop().time() - self.began


class EndpointAgent:
    """Plays episodes with `endpoint.model`.

    Raises:
        InputError: the address or the key is missing, or there is no such form of answers.
    """

    def __init__(self, endpoint: schema.Endpoint, config: schema.Agent):
        check_answer_form(config.answer_form)
        if not endpoint.base_url:
            raise InputError("evaluation.endpoint.base_url is not set; such as http://localhost:8000/v1")
        key = os.environ.get(endpoint.key_variable, "") if endpoint.key_variable else ""
        if endpoint.key_variable and not key:
            raise InputError(f"the variable {endpoint.key_variable} is not set, which holds the endpoint's key")
        self.endpoint, self.config = endpoint, config
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.AsyncClient(headers=headers, timeout=endpoint.seconds)

    async def run(self, task: Task, environment: Environment, *, round: int, attempt: int, seed: int) -> Episode:
        """Play one episode. It always ends in an Episode, whose status says how; the reward is not decided here."""
        c = self.config
        messages = [{"role": "system", "content": c.system_prompt}, {"role": "user", "content": asked(task)}]
        talk = Conversation(messages, [Turn("prompt", f"{c.system_prompt}\n\n{asked(task)}")])
        status: Status
        error = ""
        try:
            async with asyncio.timeout(c.episode_seconds):
                status = await self._play(talk, environment, seed)
        except TimeoutError:
            status, error = "timeout", f"not finished within {c.episode_seconds:g} s"
        except InfrastructureError as failure:
            status, error = "infra_error", str(failure)
        sampled = len(talk.token_ids)
        return Episode(
            round=round,
            task_id=task.task_id,
            attempt=attempt,
            level=task.level,
            question=task.question,
            token_ids=talk.token_ids,
            mask=[1] * sampled,
            logprobs=[0.0] * sampled,
            turns=talk.turns,
            answer=talk.answer,
            reward=0.0,
            status=status,
            seconds={**talk.seconds, "total": talk.now},
            policy_version=round,
            seed=seed,
            sampling={
                "model": self.endpoint.model,
                "temperature": c.temperature,
                "top_p": c.top_p,
                "completion_tokens": talk.completion_tokens,
            },
            error=error,
        )

    async def is_there(self) -> bool:
        """Whether anything answers at the endpoint's address."""
        with suppress(httpx.HTTPError):
            await self._client.get(f"{self.endpoint.base_url.rstrip('/')}/models")
            return True
        return False

    async def _play(self, talk: Conversation, environment: Environment, seed: int) -> Status:
        for turn in range(self.config.max_turns):
            left = min(self.config.turn_tokens, self.config.max_tokens - talk.completion_tokens)
            if left < 1:
                return "max_tokens"
            began = talk.now
            message, finish = await self._ask(talk, environment.tools, left, turn_seed(seed, turn))
            talk.seconds["generate"] += talk.now - began
            text, calls = message.get("content") or "", message.get("tool_calls") or []
            talk.turns.append(Turn("assistant", _shown(message), seconds=talk.now - began, began=began))
            talk.messages.append({"role": "assistant", "content": text, **({"tool_calls": calls} if calls else {})})
            if not calls:
                talk.answer = final_answer(text, self.config.answer_form)
                if talk.answer is not None:
                    return "answered"
                return "max_tokens" if finish == "length" else "no_answer"
            for call in calls:
                await self._act(talk, environment, call)
            if repeats(talk.turns) > self.config.max_repeats:
                return "repeated"
        return "max_turns"

    async def _act(self, talk: Conversation, environment: Environment, call: dict[str, Any]) -> None:
        """Run one call; what is wrong with it is told to the model like any result."""
        name, arguments = call["function"]["name"], call["function"].get("arguments") or "{}"
        began = talk.now
        try:
            given = json.loads(arguments)
        except ValueError as reason:
            given, text, is_error = None, f"error: the arguments are not valid JSON: {reason}", True
        else:
            seen = await environment.call(name, given)
            text, is_error = seen.text, seen.is_error
        talk.seconds["tools"] += talk.now - began
        given = given if isinstance(given, dict) else {"": arguments}
        talk.turns.append(Turn("tool", text, name, given, is_error, talk.now - began, began))
        talk.messages.append({"role": "tool", "tool_call_id": call.get("id", ""), "content": text})

    async def _ask(
        self, talk: Conversation, tools: list[dict[str, Any]], tokens: int, seed: int
    ) -> tuple[dict[str, Any], str]:
        """The model's next message, and why it ended; what fails for a moment is tried four times.

        Raises:
            InfrastructureError: the endpoint does not answer, or refuses the request.
        """
        body = {
            "model": self.endpoint.model,
            "messages": talk.messages,
            "temperature": self.config.temperature,
            "top_p": self.config.top_p,
            "max_tokens": tokens,
            "seed": seed,
            **({"tools": tools} if tools else {}),
            **self.endpoint.extra,
        }
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
                choice = answer["choices"][0]
                talk.token_ids += choice.get("token_ids") or []
                talk.completion_tokens += (answer.get("usage") or {}).get("completion_tokens", 0)
                return choice["message"], choice.get("finish_reason") or ""
            except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
                reason = str(error) or type(error).__name__
        raise InfrastructureError(f"{self.endpoint.model} at {self.endpoint.base_url} did not answer: {reason}")


def _shown(message: dict[str, Any]) -> str:
    """What a person reads of a message: its thoughts, where the endpoint gives them, its words, its calls."""
    functions = [call["function"] for call in message.get("tool_calls") or []]
    calls = [f"{function['name']}({function.get('arguments', '')})" for function in functions]
    thoughts = message.get("reasoning_content") or message.get("reasoning") or ""
    return "\n".join(part for part in (thoughts, message.get("content") or "", *calls) if part)
