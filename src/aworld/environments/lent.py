"""The environment of one episode: a slot of the pool, taken when it is needed first."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from aworld.agents.protocols import Observation

if TYPE_CHECKING:
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
        known: the tools of all sandboxes, as the episode's prompt has them; None: it has none yet.
        waited: seconds that calls waited for it.
    """

    def __init__(
        self,
        tools: list[dict[str, Any]],
        independent: Collection[str],
        take: "Callable[[], Awaitable[Slot]]",
        fit: "Callable[[Slot], Coroutine[Any, Any, None]]",
    ):
        self.tools, self.independent, self.waited = tools, independent, 0.0
        self.taken: Slot | None = None
        self.failure: Exception | None = None
        self.known: list[dict[str, Any]] | None = None
        self._take, self._fit, self._taking = take, fit, asyncio.Lock()
        self._fitting: asyncio.Task[None] | None = None

    async def slot(self) -> "Slot":
        """The slot, once there is one.

        Raises:
            InfrastructureError: none could be started.
            InputError: what the episode brings does not fit into it.
        """
        async with self._taking:
            if self.failure:
                raise self.failure
            began = time.monotonic()
            try:
                if self.taken is None:
                    self.taken = await self._take()
                if self._fitting is None:
                    self._fitting = asyncio.create_task(self._fit(self.taken))
                await asyncio.shield(self._fitting)  # a thread copies files: it does not stop where its caller does
            except Exception as failure:
                self.failure = failure
                raise
            finally:
                self.waited += time.monotonic() - began
            return self.taken

    async def settled(self) -> None:
        """Wait until nothing is copied into the slot any more."""
        if self._fitting:
            await asyncio.gather(self._fitting, return_exceptions=True)

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Observation:
        """Call a tool of the slot. Raises as `slot`."""
        return await (await self.slot()).call(name, arguments)
