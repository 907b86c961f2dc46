"""A worker's vLLM shard: it starts when the policy first has to play, and takes newer weights in place."""

import asyncio
from contextlib import ExitStack

from aworld.config import Config
from aworld.containers import container_binds
from aworld.inference.shard import VllmShard
from aworld.policies.node import on_this_node
from aworld.publish import is_complete
from aworld.rundir import RunDir


class Serving:
    """The policies of a run, served by one shard.

    Args:
        name: of the shard's log, such as rollout-0003-1.
    """

    def __init__(self, config: Config, run: RunDir, name: str):
        self.config, self.run, self.name = config, run, name
        self._shard: VllmShard | None = None
        self._copy = ExitStack()  # this node's copy of the policy, kept while the shard serves it: it may start again

    async def shard(self, versions: range) -> VllmShard:
        """The shard, with the newest policy of these versions.

        Raises:
            InfrastructureError: the policy is damaged, or vLLM does not start.
        """
        version = max(version for version in versions if is_complete(self.run.policy(version)))
        if self._shard is not None and version == self._shard.version:
            return self._shard
        site = self.config.site
        with ExitStack() as stack:
            # in a thread, as it may read a large policy from a slow file system
            copy = on_this_node(self.run, version, site.scratch, site.poll_seconds)
            folder = await asyncio.to_thread(stack.enter_context, copy)
            if self._shard is None:
                log = self.run.logs / f"vllm-{self.name}.log"
                binds = [*container_binds(self.run), folder.parent]
                is_local = not folder.is_relative_to(self.run.root)
                self._shard = VllmShard(folder, version, self.config.model, log, site, binds, is_local, self.run.caches)
                await self._shard.start()
            else:
                await self._shard.load(folder, version)
            self._copy.close()
            self._copy = stack.pop_all()
        return self._shard

    async def stop(self) -> None:
        if self._shard is not None:
            await self._shard.stop()
        self._copy.close()
