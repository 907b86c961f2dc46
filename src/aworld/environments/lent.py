"""The environment of one episode: a slot of the pool, taken when it is needed first."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from aworld.agents.protocols import Observation
from aworld.environments.slot import Slot


class LentSlot:
    """An Environment that takes a slot with its first call: until then one may start, while the model takes a turn.

    Args:
        tools: the specs, which all slots share.
        take: waits for a slot.
        fit: makes the slot ready for the episode.

    Attributes:
        taken: the slot; None: not yet.
        failure: the reason why there is none.
        waited: seconds that calls waited for it.
    """

    def __init__(
        self,
        tools: list[dict[str, Any]],
        independent: Collection[str],
        take: Callable[[], Awaitable[Slot]],
        fit: Callable[[Slot], Awaitable[None]],
    ):
        self.tools, self.independent, self.waited = tools, independent, 0.0
        self.taken: Slot | None = None
        self.failure: Exception | None = None
        self._take, self._fit, self._taking = take, fit, asyncio.Lock()
        self._is_fit = False

    async def slot(self) -> Slot:
        """The slot, once there is one.

        Raises:
            InfrastructureError: none could be started.
            InputError: what the episode brings does not fit into it.
        """
        async with self._taking:
            if self.failure:
                raise self.failure
            try:
                if self.taken is None:
                    self.taken = await self._take()
                if not self._is_fit:
                    await self._fit(self.taken)
                    self._is_fit = True
            except Exception as failure:
                self.failure = failure
                raise
            return self.taken

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Observation:
        """Call a tool of the slot. Raises as `slot`."""
        began = time.monotonic()
        slot = await self.slot()
        self.waited += time.monotonic() - began
        return await slot.call(name, arguments)
