"""What a worker does while its policy is being loaded."""

import asyncio

import pytest

from aworld.errors import InfrastructureError, Interrupted
from aworld.rollout.stage import _unless_told

pytestmark = pytest.mark.unit


class Start:
    """Of something that takes its time; it notes whether it was given up."""

    def __init__(self, seconds: float):
        self.seconds, self.given_up = seconds, False

    async def player(self):
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.given_up = True
            raise
        return "player"


@pytest.mark.parametrize("looks", [0, 2])
def test_a_start_is_given_up_when_the_job_is_told_to_end(looks: int) -> None:
    """Also where it was told before: its time limit is then near."""
    start, seen = Start(60), iter([False] * looks + [True])
    with pytest.raises(Interrupted, match=r"told to end while vLLM was starting, for .* raise the stage's minutes"):
        asyncio.run(_unless_told(lambda: next(seen), start.player()))
    assert start.given_up is (looks > 0)  # else it had not begun


def test_a_start_that_nobody_disturbs_gives_its_player() -> None:
    assert asyncio.run(_unless_told(lambda: False, Start(0.5).player())) == "player"


def test_a_start_that_fails_tells_its_reason() -> None:
    async def player():
        raise InfrastructureError("vLLM ended while starting")

    with pytest.raises(InfrastructureError, match="vLLM ended while starting"):
        asyncio.run(_unless_told(lambda: False, player()))


def test_term_gives_a_start_up_as_well() -> None:
    start = Start(60)

    async def told_to_end_now() -> None:
        task = asyncio.create_task(_unless_told(lambda: False, start.player()))
        await asyncio.sleep(0.3)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(told_to_end_now())
    assert start.given_up
