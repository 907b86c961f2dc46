import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from aworld.agents.messages import URGENT, Exchange, Message
from aworld.errors import InfrastructureError

pytestmark = pytest.mark.unit

Act = Callable[[Message, Exchange], Awaitable[None]]


class Participant:
    """Does as it is told, and remembers what it received."""

    def __init__(self, act: Act):
        self.received: list[Message] = []
        self._act = act

    async def receive(self, message: Message, exchange: Exchange) -> None:
        self.received.append(message)
        await self._act(message, exchange)


async def nothing(message: Message, exchange: Exchange) -> None: ...


def ended(exchange: Exchange) -> Message:
    return asyncio.run(asyncio.wait_for(exchange.deliver("user"), 5))


def contents(participant: Participant) -> list[Any]:
    return [message.content for message in participant.received]


def test_the_most_urgent_comes_first_and_then_the_order_of_sending() -> None:
    inside = Participant(nothing)
    exchange = Exchange({"a": inside})
    for content, priority in (("one", 0), ("two", 0), ("now", URGENT), ("last", -1), ("three", 0)):
        exchange.send("task", "user", "a", content, priority=priority)
    exchange.send("answer", "a", "user", "done", priority=-2)
    assert ended(exchange).content == "done"
    assert contents(inside) == ["now", "one", "two", "three", "last"]


def test_what_a_receiver_raises_is_told_to_the_sender_before_anything_else() -> None:
    async def fail(message: Message, exchange: Exchange) -> None:
        raise InfrastructureError("the disk is full")

    exchange = Exchange({"a": Participant(fail)})
    number = exchange.send("task", "user", "a", "?")
    exchange.send("answer", "b", "user", "from another")
    told = ended(exchange)
    assert (told.topic, told.sender, told.about) == ("error", "a", number)
    assert isinstance(told.content, InfrastructureError)


def test_a_mistake_in_the_code_is_no_message() -> None:
    async def wrong(message: Message, exchange: Exchange) -> None:
        raise KeyError("oops")

    exchange = Exchange({"a": Participant(wrong)})
    exchange.send("task", "user", "a", "?")
    with pytest.raises(KeyError):
        ended(exchange)


def test_nobody_waits_for_a_message_that_cannot_come() -> None:
    exchange = Exchange({"a": Participant(nothing)})
    exchange.send("task", "user", "a", "?")
    with pytest.raises(InfrastructureError, match="no message is left"):
        ended(exchange)


def test_cancelling_takes_along_all_that_followed() -> None:
    numbers: dict[str, int] = {}

    async def pass_on(message: Message, exchange: Exchange) -> None:
        if message.content < 3:
            exchange.send("task", "a", "a", message.content + 1)
        else:
            exchange.cancel(numbers["first"])  # it follows from the first itself
            exchange.send("task", "a", "b", "from one that is cancelled")
            await asyncio.sleep(0)
            raise AssertionError("went on although it was cancelled")

    chain, other = Participant(pass_on), Participant(nothing)
    exchange = Exchange({"a": chain, "b": other})
    numbers["first"] = exchange.send("task", "user", "a", 0)
    exchange.send("task", "user", "b", "another", priority=-1)
    exchange.send("answer", "b", "user", "done", priority=-2)
    assert ended(exchange).content == "done"
    assert contents(chain) == [0, 1, 2, 3]
    assert contents(other) == ["from one that is cancelled", "another"]


def test_a_message_that_waits_can_be_cancelled() -> None:
    inside = Participant(nothing)
    exchange = Exchange({"a": inside})
    exchange.cancel(exchange.send("task", "user", "a", "never"))
    exchange.send("task", "user", "a", "yes")
    exchange.send("answer", "a", "user", "done")
    ended(exchange)
    assert contents(inside) == ["yes"]


@pytest.mark.parametrize(("limit", "expected"), [(0.1, "error"), (5.0, "answer")])
def test_what_takes_too_long_is_cancelled_and_its_sender_told(limit: float, expected: str) -> None:
    cancelled = []

    async def slow(message: Message, exchange: Exchange) -> None:
        try:
            await asyncio.sleep(0.4)
            exchange.send("answer", "b", message.sender, "late", message.number)
        except asyncio.CancelledError:
            cancelled.append(message.number)
            raise

    async def ask(message: Message, exchange: Exchange) -> None:
        if message.topic == "task":
            exchange.cancel_after(limit, exchange.send("task", "a", "b", "?"), "too slow")
        else:
            exchange.send(message.topic, "a", "user", message.content)

    async def story() -> Message:
        exchange = Exchange({"a": Participant(ask), "b": Participant(slow)})
        exchange.send("task", "user", "a", "?")
        return await exchange.deliver("user")

    told = asyncio.run(asyncio.wait_for(story(), 5))
    assert told.topic == expected
    assert told.content == ("too slow" if expected == "error" else "late")
    assert bool(cancelled) == (expected == "error")


def test_an_episode_that_is_ended_from_outside_leaves_nothing_running() -> None:
    async def slow(message: Message, exchange: Exchange) -> None:
        await asyncio.sleep(60)

    async def story() -> set[asyncio.Task[Any]]:
        exchange = Exchange({"a": Participant(slow)})
        exchange.send("task", "user", "a", "?")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await exchange.deliver("user")
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert not asyncio.run(story())
