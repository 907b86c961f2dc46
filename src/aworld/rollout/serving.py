"""A worker's vLLM shard: it starts when the policy first has to play, and takes newer weights in place."""

from aworld.config import Config
from aworld.containers import container_binds
from aworld.inference.shard import VllmShard
from aworld.publish import is_complete, verify
from aworld.rundir import RunDir


class Serving:
    """The policies of a run, served by one shard.

    Args:
        name: of the shard's log, such as rollout-0003-1.
    """

    def __init__(self, config: Config, run: RunDir, name: str):
        self.config, self.run, self.name = config, run, name
        self._shard: VllmShard | None = None

    async def shard(self, versions: range) -> VllmShard:
        """The shard, with the newest policy of these versions.

        Raises:
            InfrastructureError: the policy is damaged, or vLLM does not start.
        """
        version = max(version for version in versions if is_complete(self.run.policy(version)))
        folder = self.run.policy(version)
        if self._shard is None:
            verify(folder)
            log = self.run.logs / f"vllm-{self.name}.log"
            site, binds = self.config.site, container_binds(self.run)
            self._shard = VllmShard(folder, version, self.config.model, log, site, binds, self.run.caches)
            await self._shard.start()
        elif version != self._shard.version:
            verify(folder)
            await self._shard.load(folder, version)
        return self._shard

    async def stop(self) -> None:
        if self._shard is not None:
            await self._shard.stop()
