"""An environment that takes its slot with its first call."""

import asyncio
import time
from contextlib import suppress
from pathlib import Path

import pytest

from aworld import config as schema
from aworld.environments.lent import LentSlot
from aworld.environments.sandbox import choose
from aworld.environments.slot import Slot
from aworld.errors import InfrastructureError

pytestmark = pytest.mark.unit


def slot(folder: Path) -> Slot:
    return Slot([], schema.Environment(), folder, folder, choose("subprocess", ""))


def test_a_wait_that_was_cut_off_counts_and_what_it_began_is_finished_once(tmp_path: Path) -> None:
    """Else a sandbox that starts slowly would be the policy's fault, and files would come into the next episode."""
    fitted = []

    async def fit(taken: Slot) -> None:
        await asyncio.sleep(0.3)
        fitted.append(taken)

    async def story() -> None:
        async def take() -> Slot:
            return slot(tmp_path)

        environment = LentSlot([], (), take, fit)
        began = time.monotonic()
        for _ in range(2):
            with suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await environment.slot()
        assert environment.waited >= 0.09 and not fitted
        await environment.settled()
        assert fitted == [environment.taken] and time.monotonic() - began >= 0.29
        assert await environment.slot() is environment.taken and len(fitted) == 1

    asyncio.run(story())


def test_waits_at_the_same_time_count_once(tmp_path: Path) -> None:
    async def story() -> float:
        async def take() -> Slot:
            await asyncio.sleep(0.2)
            return slot(tmp_path)

        async def fit(_: Slot) -> None: ...

        environment = LentSlot([], (), take, fit)
        await asyncio.gather(*(environment.slot() for _ in range(5)))
        return environment.waited

    assert 0.19 < asyncio.run(story()) < 0.6


def test_a_failure_stays(tmp_path: Path) -> None:
    async def story() -> None:
        tries = []

        async def take() -> Slot:
            tries.append(1)
            raise InfrastructureError("no sandbox")

        async def fit(_: Slot) -> None: ...

        environment = LentSlot([], (), take, fit)
        for _ in range(2):
            with pytest.raises(InfrastructureError, match="no sandbox"):
                await environment.call("python", {})
        await environment.settled()
        assert len(tries) == 1

    asyncio.run(story())
