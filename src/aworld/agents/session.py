"""One episode of an agent program: its requests become contexts of exact tokens, within the episode's limits."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aworld import config as schema
from aworld.agents import openai_chat
from aworld.agents.openai_chat import Request, Said
from aworld.agents.protocols import Environment, Observation, ToolCall
from aworld.agents.record import OpenedContext, Record
from aworld.agents.tokens import TokenChat, TokenModel
from aworld.agents.work import turn_seed
from aworld.errors import InfrastructureError, InputError
from aworld.trajectories.episode import Status, Turn

PROGRAM = "program"  # the owner of its contexts
AT_ONCE = 16  # turns of one episode; further requests wait
WAITING = 256  # of those; more are a flood
T = TypeVar("T")
REFUSALS = 100  # of requests; a program that goes on is ended


class Refused(Exception):  # noqa: N818
    """A request that gets no turn. Its text is for the program.

    Attributes:
        code: as in OpenAI's errors.
        limit: the limit of the episode that is reached; None: the request is wrong.
    """

    def __init__(self, code: str, reason: str, limit: Status | None = None):
        super().__init__(reason)
        self.code, self.limit = code, limit


@dataclass(eq=False)
class Context:
    """A conversation that the program has with the policy.

    Attributes:
        number: of the context in the record.
        said: the messages so far, the policy's included.
        is_open: whether they end with messages that have no reply yet: the request failed, or was given up.
        is_busy: whether a turn is being sampled.
    """

    chat: TokenChat
    number: int
    said: list[Said]
    turns: int = 0
    is_open: bool = True
    is_busy: bool = False

    def continues(self, request: Request) -> bool:
        """Whether the request goes on from here, with the user's messages and tool results alone."""
        count = len(self.said)
        if self.is_busy or request.said[:count] != self.said or request.tools != self.chat.tools:
            return False
        new = [role for role, _, _ in request.said[count:]]
        return not new if self.is_open else bool(new) and set(new) <= {"user", "tool"}


@dataclass
class Session:
    """The session of one episode.

    Attributes:
        limit: the limit that refused the latest request, and the reason; None where none did.
        ended: becomes the status and the reason, once the episode cannot go on; an InputError where no episode can.
    """

    config: schema.Agent
    model: TokenModel
    environment: Environment
    record: Record
    contexts: list[Context] = field(default_factory=list)
    limit: Status | None = None
    refusal: str = ""

    def __post_init__(self) -> None:
        self.ended: asyncio.Future[tuple[Status, str]] = asyncio.get_running_loop().create_future()
        self._work: set[asyncio.Task[Any]] = set()
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._reserved = 0  # tokens, for turns that are being sampled
        self._released = asyncio.Condition()
        self._waiting = self._refusals = self._calls = 0
        self._latest = 0  # number of the context that had the latest turn
        self._results: set[str] = set()  # of the environment's tools, since that turn

    async def complete(self, body: Any) -> tuple[Request, dict[str, Any]]:
        """The request as read, and the chat completion that answers it.

        Raises:
            Refused: it gets no turn.
            InfrastructureError: the policy is gone, or no teacher of it can be asked: then the episode ends with the
                InputError of its endpoint.
        """
        try:
            if self._waiting >= WAITING:
                raise Refused("too_many_requests", f"{WAITING} requests are waiting for the policy already")
            self._waiting += 1
            try:
                request = openai_chat.read(body)
                async with self._turns:
                    return request, await self._turn(request)
            except (ValueError, TypeError, RecursionError) as reason:
                raise Refused("invalid_request", str(reason)) from None
            finally:
                self._waiting -= 1
        except Refused as refusal:
            self.limit, self.refusal = refusal.limit or self.limit, str(refusal)
            self._refused()
            raise
        except InfrastructureError as reason:
            self.end("infra_error", str(reason))
            raise
        except InputError as reason:  # the user's setting is wrong: no episode can be played
            if not self.ended.done():
                self.ended.set_exception(reason)
            raise InfrastructureError(str(reason)) from None

    async def call(self, name: str, arguments: dict[str, Any]) -> Observation:
        """The result of a call to one of the environment's tools."""
        if self.ended.done() or self._calls >= self.config.max_turns**2:
            self._refused()
            return Observation(f"not run; an episode may make {self.config.max_turns**2} calls", True, 0.0)
        self._calls += 1
        shared = name not in self.environment.independent
        try:
            with self.record.call(self._latest, ToolCall(name, arguments)) as recorded:
                async with self.record.sandbox_lock if shared else nullcontext():
                    recorded.observation = await self.environment.call(name, arguments)
        except InfrastructureError as reason:
            self.end("infra_error", str(reason))
            raise
        finally:
            self.record.seconds["tools"] += recorded.observation.seconds
        self._results.add(recorded.observation.text.strip())
        return recorded.observation

    def start(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Do it as a part of the episode, which `close` ends."""
        task = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        return task

    async def close(self) -> None:
        """End what is under way: nothing is recorded afterwards."""
        self.end("no_answer", "")
        if work := set(self._work):
            for task in work:
                task.cancel()
            await asyncio.wait(work)

    def end(self, status: Status, reason: str) -> None:
        """End the episode; the first reason stays."""
        if not self.ended.done():
            self.ended.set_result((status, reason))

    async def _turn(self, request: Request) -> dict[str, Any]:
        self._check_limits()
        context = next((one for one in reversed(self.contexts) if one.continues(request)), None)
        if context is None:
            context = await self._begin(request)
        context.is_busy = True
        try:
            self._append(context, request)
            prompt = self.model.context - context.chat.room
            seed = turn_seed(self.record.seed, (context.number,), context.turns)
            self._check_room(context.chat)
            wanted = min(self.config.turn_tokens, context.chat.room, request.max_tokens or self.config.turn_tokens)
            async with self._reserving(wanted) as limit:
                message = await self.record.generate(context.chat, limit, seed, context.number)
            if message.is_error:  # a teacher has no turn that the policy could learn; it would have none again
                self.end("no_answer" if message.ended else "max_tokens", message.text)
                raise Refused("no_turn", message.text)
        finally:
            context.is_busy = False
        context.turns += 1
        self._latest, self._results, self.limit = context.number, set(), None
        reply = openai_chat.reply(message, self.model.format, request.stop)
        context.said.append(openai_chat.said(openai_chat.as_read(reply)))
        context.is_open = False
        return openai_chat.completion(reply, message.ended, prompt, message.tokens)

    async def _begin(self, request: Request) -> Context:
        """A new context, where its prompt leaves room for a turn."""
        try:
            chat = await asyncio.to_thread(self.model.chat, request.messages, request.tools)
        except InputError as reason:  # the template refuses the program's messages
            raise ValueError(str(reason)) from None
        self._check_limits()  # others may have had turns meanwhile
        self._check_room(chat)
        number = self.record.open_context(OpenedContext(PROGRAM, chat, (len(self.contexts),), None))
        context = Context(chat, number, list(request.said))
        self.contexts.append(context)
        return context

    def _append(self, context: Context, request: Request) -> None:
        """Append the messages that are new: results behind each other as one message, as the template has them."""
        new = request.messages[len(context.said) :]
        context.said, context.is_open = list(request.said), True
        results: list[str] = []
        for at, message in enumerate(new):
            text = message["content"]
            if message["role"] == "tool":
                results.append(text)
                if [one["role"] for one in new[at + 1 : at + 2]] != ["tool"]:
                    context.chat.add_tool_results(results)
                    results = []
            else:
                context.chat.add_user(text)
            if text.strip() not in self._results:  # else it is in the record, as a call
                now = self.record.now
                self.record.turns.append(Turn("prompt", text, began=now, context=context.number))

    def _check_limits(self) -> None:
        c, record = self.config, self.record
        if self.ended.done():
            raise Refused("ended", "the episode has ended")
        if record.model_turns >= c.max_turns:
            raise Refused("max_turns", f"the episode's {c.max_turns} turns are used up; answer now", "max_turns")
        if record.sampled >= c.max_tokens:
            raise Refused("max_tokens", f"the episode's {c.max_tokens} tokens are used up; answer now", "max_tokens")

    def _check_room(self, chat: TokenChat) -> None:
        if chat.room < 1:
            raise Refused(
                "context_length_exceeded",
                f"the messages take {self.model.context - chat.room} tokens, and the context holds "
                f"{self.model.context}; send fewer",
                "max_tokens",
            )

    @asynccontextmanager
    async def _reserving(self, wanted: int) -> AsyncIterator[int]:
        """The token limit of a turn, at most `wanted`: reserved, so that turns at the same time keep `max_tokens`.

        Waits while the others hold a part of what is wanted.
        """
        async with self._released:
            await self._released.wait_for(lambda: not self._reserved or wanted <= self._left)
            self._check_limits()  # others may have had turns meanwhile
            limit = min(wanted, self._left)
            self._reserved += limit
        try:
            yield limit
        finally:
            async with self._released:
                self._reserved -= limit
                self._released.notify_all()

    @property
    def _left(self) -> int:
        """The tokens of the episode that are neither sampled nor reserved."""
        return self.config.max_tokens - self.record.sampled - self._reserved

    def _refused(self) -> None:
        self._refusals += 1
        if self._refusals > REFUSALS:
            self.end(self.limit or "no_answer", f"it went on after {REFUSALS} refusals; the last: {self.refusal}")
