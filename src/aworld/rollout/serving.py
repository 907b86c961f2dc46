"""A worker's vLLM shard: it starts when the policy first has to play, and takes newer weights in place."""

import asyncio
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from aworld.config import Config
from aworld.containers import container_binds, linked_folders
from aworld.policies.node import on_this_node
from aworld.publish import is_complete
from aworld.rundir import RunDir

if TYPE_CHECKING:  # what takes long to import is imported where it is needed
    from aworld.agents.gateway import Gateway
    from aworld.inference.shard import VllmShard

NO_POLICY = -1  # version of weights that are none of the run's policies


class Serving:
    """The policies of a run, served by one shard.

    Args:
        name: of the shard's log, such as rollout-0003-1.
    """

    def __init__(self, config: Config, run: RunDir, name: str):
        self.config, self.run, self.name = config, run, name
        self._shard: VllmShard | None = None
        self._teacher: VllmShard | None = None
        self._gateway: Gateway | None = None
        self._copy = ExitStack()  # this node's copy of the policy, kept while the shard serves it: it may start again

    async def shard(self, versions: range) -> "VllmShard":
        """The shard, with the newest policy of these versions; without any, with what the run begins with.

        Raises:
            InfrastructureError: the policy is damaged, or vLLM does not start.
        """
        if not versions:
            return await self._base()
        version = max(version for version in versions if is_complete(self.run.policy(version)))
        if self._shard is not None and version == self._shard.version:
            return self._shard
        site = self.config.site
        with ExitStack() as stack:
            # in a thread, as it may read a large policy from a slow file system
            copy = on_this_node(self.run, version, site.scratch, site.poll_seconds)
            folder = await asyncio.to_thread(stack.enter_context, copy)
            if self._shard is None:
                self._shard = self._made(folder, version, self.name)
                await self._shard.start()
            else:
                await self._shard.load(folder, version)
            self._copy.close()
            self._copy = stack.pop_all()
        return self._shard

    async def teacher(self, folder: Path) -> "VllmShard":
        """A shard that serves the teacher in an HF folder, beside that of the policy.

        Raises:
            InfrastructureError: vLLM does not start.
        """
        if self._teacher is None:
            self._teacher = self._made(folder, NO_POLICY, f"{self.name}-teacher")
            await self._teacher.start()
        return self._teacher

    async def end_teacher(self) -> None:
        """Free what the teacher holds, where there is one."""
        if self._teacher is not None:
            await self._teacher.stop()
        self._teacher = None

    async def _base(self) -> "VllmShard":
        """The shard with the model that the run begins with, before its first policy."""
        if self._shard is None:
            self._shard = self._made(self.run.base, NO_POLICY, self.name)
            await self._shard.start()
        return self._shard

    def _made(self, folder: Path, version: int, name: str) -> "VllmShard":
        """A shard that is not started yet."""
        from aworld.inference.shard import VllmShard

        is_local = not folder.is_relative_to(self.run.root) and version != NO_POLICY
        binds = [*container_binds(self.run), folder.parent, folder.resolve().parent, *linked_folders(folder)]
        log = self.run.logs / f"vllm-{name}.log"
        return VllmShard(folder, version, self.config.model, log, self.config.site, binds, is_local, self.run.caches)

    async def gateway(self) -> "Gateway":
        """The gateway for agent programs.

        Raises:
            InfrastructureError: it cannot listen.
        """
        from aworld.agents.gateway import Gateway

        if self._gateway is None:
            self._gateway = Gateway()
            await self._gateway.start()
        return self._gateway

    async def stop(self) -> None:
        if self._gateway is not None:
            await self._gateway.stop()
        await self.end_teacher()
        if self._shard is not None:
            await self._shard.stop()
        self._copy.close()
