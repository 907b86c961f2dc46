"""All that is said in an episode is a message: the user's question, an agent's calls, what tools and agents answer.

Messages are delivered one at a time, the most urgent first and then in the order they were sent, so an episode with the
same tokens is the same episode. What a receiver raises goes back to the sender as an `error`; a message that is
cancelled takes everything with it that was sent on account of it.
"""

import asyncio
import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal, Protocol

from aworld.errors import AWorldError, InfrastructureError

Topic = Literal["task", "call", "result", "answer", "handoff", "error"]
URGENT = 1


@dataclass(frozen=True)
class Message:
    """
    Attributes:
        content: by topic: `task` the question, `call` a ToolCall, `result` an Observation, `answer` an Outcome,
            `handoff` a Handoff, `error` what went wrong.
        about: number of the message that this one answers.
        cause: number of the message whose receiver sent this one; None: nobody inside did.
        priority: the higher, the sooner.
    """

    number: int
    topic: Topic
    sender: str
    receiver: str
    content: Any
    about: int | None
    cause: int | None
    priority: int


class Receiver(Protocol):
    async def receive(self, message: Message, exchange: "Exchange") -> None:
        """Act on a message, and send what follows from it."""
        ...


class Exchange:
    """Where an episode's messages go through. `receivers` are those inside it, by name."""

    def __init__(self, receivers: Mapping[str, Receiver]):
        self._receivers = receivers
        self._waiting: list[tuple[int, int, Message]] = []
        self._numbers = count()
        self._sent: dict[int, Message] = {}
        self._answered: set[int | None] = set()
        self._now: Message | None = None
        self._handling: asyncio.Task[None] | None = None

    def send(
        self, topic: Topic, sender: str, receiver: str, content: Any, about: int | None = None, priority: int = 0
    ) -> int:
        """Post a message; returns its number."""
        cause = self._now.number if self._now else None
        return self._post(Message(next(self._numbers), topic, sender, receiver, content, about, cause, priority))

    def cancel(self, number: int) -> None:
        """Withdraw a message and all that followed from it, also what is being acted on just now."""
        self._waiting = [entry for entry in self._waiting if not self._follows(entry[2], number)]
        heapq.heapify(self._waiting)
        if self._now and self._handling and self._follows(self._now, number):
            self._handling.cancel()

    def cancel_after(self, seconds: float, number: int, reason: str) -> None:
        """Unless it is answered by then, withdraw a message, and tell its sender the reason as an `error`."""
        asyncio.get_running_loop().call_later(seconds, self._expire, number, reason)

    async def deliver(self, to: str) -> Message:
        """Deliver until there is a message for `to`, who stands outside, and return that.

        Raises:
            InfrastructureError: nobody has anything left to say.
        """
        while self._waiting:
            message = heapq.heappop(self._waiting)[2]
            if message.receiver == to:
                return message
            await self._hand_over(message)
        raise InfrastructureError(f"no message is left, and none came for {to}")

    def _post(self, message: Message) -> int:
        self._sent[message.number] = message
        self._answered.add(message.about)
        heapq.heappush(self._waiting, (-message.priority, message.number, message))
        return message.number

    def _expire(self, number: int, reason: str) -> None:
        if number in self._answered:
            return
        self.cancel(number)
        late = self._sent[number]
        sides = (late.receiver, late.sender)
        self._post(Message(next(self._numbers), "error", *sides, reason, number, late.cause, URGENT))

    async def _hand_over(self, message: Message) -> None:
        self._now = message
        self._handling = asyncio.create_task(self._receivers[message.receiver].receive(message, self))
        try:
            await asyncio.wait({self._handling})
        finally:  # also where this episode is ended from outside
            self._handling.cancel()
            await asyncio.gather(self._handling, return_exceptions=True)
            self._now = None
        if self._handling.cancelled():
            return
        error = self._handling.exception()
        if isinstance(error, AWorldError):
            self.send("error", message.receiver, message.sender, error, message.number, URGENT)
        elif error:
            raise error

    def _follows(self, message: Message, number: int) -> bool:
        """Whether a message is that one, or was sent on account of it."""
        at: int | None = message.number
        while at is not None and at != number:
            at = self._sent[at].cause
        return at == number
