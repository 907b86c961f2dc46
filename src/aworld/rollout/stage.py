"""The rollout stage: a worker that lives through a whole run, or plays one part of it.

A worker keeps its vLLM shard and its warm sandboxes through all workloads, and reloads weights in place. It takes the
workloads in order; whoever finds the last unit of one done closes it: gathers a round, and notes how long it took.
"""

import asyncio
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from aworld.agents.chat import ChatFormat
from aworld.agents.loop import ToolAgent
from aworld.agents.protocols import Environment
from aworld.agents.scripted import ScriptedPolicy
from aworld.config import Config
from aworld.containers import folders, staged
from aworld.environments.pool import EnvironmentPool
from aworld.environments.sandbox import choose
from aworld.errors import InfrastructureError
from aworld.inference.client import VllmPolicy
from aworld.inference.shard import VllmShard
from aworld.rollout.claims import Claims, Unit
from aworld.rollout.worker import Player, work
from aworld.rollout.workload import Workload
from aworld.rundir import RunDir, append_json, is_complete, publish_json, read_jsonl
from aworld.tasks.task import Task, TaskSource
from aworld.trajectories.episode import Episode
from aworld.trajectories.gather import run_gather

CLOSING = Unit("close", (0,))
POLL_SECONDS = 0.2


async def rollout(config: Config, run: RunDir, workloads: list[Workload], source: TaskSource, worker: int) -> None:
    """Play this worker's share of each workload.

    Raises:
        InfrastructureError: the shard or the sandboxes cannot start, or a policy does not come within the site's
            `wait_seconds`.
    """
    owner = f"worker-{worker}"
    sandbox = choose(config.site.sandbox, staged(config.site.images.environment, config.site.scratch))
    publish_json(run.root / "sandbox.json", {"name": sandbox.name, "gaps": list(sandbox.gaps)})
    async with AsyncExitStack() as stack:
        pool: EnvironmentPool | None = None
        shard = Shard(config, run, worker)
        stack.push_async_callback(shard.stop)
        for at, workload in enumerate(workloads):
            await _wait_for_policy(config, run, workloads, at, owner)
            if workload.closed:
                continue
            if pool is None:
                scratch = Path(tempfile.gettempdir())  # node-local, as TMPDIR says
                pool = EnvironmentPool(config.environment, sandbox, source.corpus, scratch)
                await stack.enter_async_context(pool)
            began = time.time()
            play = await shard.player(workload)
            loaded = time.time() - began
            slots = config.environment.slots
            await work(workload, play, pool, source.correct, config.rollout, config.seed, owner, slots)
            timing = {"worker": worker, "began": began, "load_seconds": loaded, "ended": time.time()}
            append_json(workload.folder / "timing.jsonl", timing)
            close(config, run, workload, owner)


class Shard:
    """This worker's vLLM, started when a policy is first needed and reloaded in place ever after."""

    def __init__(self, config: Config, run: RunDir, worker: int):
        self.config, self.run, self.worker = config, run, worker
        self.vllm: VllmShard | None = None
        self.version = -1

    async def player(self, workload: Workload) -> Player:
        """A player of the newest policy that the workload admits, or of the scripted expert."""
        if workload.newest is None:
            return _expert(self.config, ChatFormat(self.run.base))
        version = max(v for v in range(workload.oldest or 0, workload.newest + 1) if is_complete(self.run.policy(v)))
        if self.vllm is None:
            log = self.run.logs / f"vllm-{self.worker}.log"
            site, binds = self.config.site, folders(self.run)
            self.vllm = VllmShard(self.run.policy(version), version, self.config.model, log, site, binds)
            await self.vllm.start()
        elif version != self.version:
            await self.vllm.load(self.run.policy(version), version)
        self.version = version
        agent = replace(self.config.agent, temperature=workload.temperature)
        chat = ChatFormat(self.run.policy(version))
        policy = VllmPolicy(self.vllm, chat.end_of_turn)
        return _player(ToolAgent(policy, chat, agent, self.vllm.context), workload.round)

    async def stop(self) -> None:
        if self.vllm is not None:
            await self.vllm.stop()


def _player(agent: ToolAgent, round_: int) -> Player:
    async def play(task: Task, attempt: int, seed: int, environment: Environment) -> Episode:
        return await agent.run(task, environment, round=round_, attempt=attempt, seed=seed)

    return play


def _expert(config: Config, chat: ChatFormat) -> Player:
    async def play(task: Task, attempt: int, seed: int, environment: Environment) -> Episode:
        agent = ToolAgent(
            ScriptedPolicy(chat, task.metadata["plan"]), chat, config.agent, config.model.shard.max_model_len
        )
        return await agent.run(task, environment, round=0, attempt=attempt, seed=seed)

    return play


def close(config: Config, run: RunDir, workload: Workload, owner: str) -> None:
    """Gather a round, or close an evaluation, once all its units are done; one worker does it."""
    units = Claims(workload.folder / "claims", owner, config.rollout.lease_seconds)
    closing = Claims(workload.folder / "closing", owner, config.rollout.lease_seconds)
    if workload.closed or not units.all_done(workload.units) or closing.claim([CLOSING]) is None:
        return
    began = time.time()
    if workload.publishes:
        run_gather(config, run, workload.round)
    timings = read_jsonl(workload.folder / "timing.jsonl")
    timing = {
        "rollout_seconds": max(t["ended"] for t in timings) - min(t["began"] + t["load_seconds"] for t in timings),
        "load_seconds": max(t["load_seconds"] for t in timings),
        "gather_seconds": time.time() - began,
    }
    publish_json(workload.folder / "timing.json", timing)
    closing.done(CLOSING)


async def _wait_for_policy(config: Config, run: RunDir, workloads: list[Workload], at: int, owner: str) -> None:
    """Wait until a policy that the workload admits is published; meanwhile close what a dead worker left open."""
    oldest = workloads[at].oldest
    began = time.monotonic()
    while oldest is not None and not is_complete(run.policy(oldest)) and not workloads[at].closed:
        for earlier in workloads[:at]:
            close(config, run, earlier, owner)
        if time.monotonic() - began > config.site.wait_seconds:
            raise InfrastructureError(
                f"policy {oldest} was not published within {config.site.wait_seconds:.0f} s; see the trainer's log in "
                f"{run.logs}, then run the same command again"
            )
        await asyncio.sleep(POLL_SECONDS)
