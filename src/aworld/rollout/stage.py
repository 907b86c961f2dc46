"""The rollout stage: a worker that lives through a whole run, or plays one part of it.

A worker keeps its vLLM shard and its warm sandboxes through all workloads, and reloads weights in place. It takes the
workloads in order, and goes on to the next one when no unit is free. Whoever finds the last unit of one done closes it:
gathers a round, and notes how long it took. While a worker waits for a policy it looks after the earlier workloads: it
plays what their workers let go, and closes what they left open.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aworld import config as schema
from aworld.agents.chat import ChatFormat
from aworld.agents.endpoint import EndpointSpeaker
from aworld.agents.protocols import Environment
from aworld.agents.scripted import ScriptedPolicy
from aworld.agents.team import Team
from aworld.agents.tokens import PolicySpeaker
from aworld.config import Config
from aworld.containers import container_binds, staged_image
from aworld.environments.pool import EnvironmentPool
from aworld.environments.sandbox import Sandbox, choose
from aworld.environments.scorer import Scorer
from aworld.errors import InfrastructureError, InputError, Interrupted
from aworld.inference.client import VllmPolicy
from aworld.inference.shard import VllmShard
from aworld.processes import Notice
from aworld.publish import append_json, is_complete, publish_json, verify
from aworld.rollout.claims import Claims, Unit
from aworld.rollout.scoring import Scoring
from aworld.rollout.worker import RENEWALS, Player, while_held, work
from aworld.rollout.workload import Workload, reopen_lost
from aworld.rundir import RunDir, StallTimer
from aworld.tasks.judge import Judge
from aworld.tasks.task import Task, TaskSource
from aworld.trajectories.episode import Episode
from aworld.trajectories.launch import run_gather
from aworld.trajectories.timing import publish_timing

CLOSING = Unit("close", (0,))
POLL_SECONDS = 0.2
LOOK_SECONDS = 5.0  # between two looks at the earlier workloads


@dataclass(frozen=True)
class Worker:
    """Who plays.

    Attributes:
        number: of the worker in its stage, from 0.
        name: of its part of the stage, such as rollout-0003-1; no other process of the run has it.
        owner: the name on its claims and its journal; at any time one process goes by it.
        gathers: whether the worker that ends a round gathers it, as in a resident run.
        is_copy: whether the worker it is a copy of may be at work still, on a node that Slurm lost sight of. The job is
            the copy's, so it stays until the other's units are done, or free.
    """

    number: int
    name: str
    owner: str
    gathers: bool
    is_copy: bool = False


def run_rollout(config: Config, run: RunDir, workloads: list[Workload], source: TaskSource, worker: Worker) -> None:
    """`rollout` in an event loop of its own. USR1 or USR2: finish what is in hand, and end; TERM: end now.

    Raises:
        Interrupted: it was told to end before everything was played.
        InfrastructureError: as `rollout`.
    """

    async def cancelled_by_notice() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task

        def heard() -> None:
            if notice.now:
                loop.call_soon_threadsafe(task.cancel)

        notice = Notice(heard)
        try:
            await rollout(config, run, workloads, source, worker, lambda: notice.soon)
        except asyncio.CancelledError:
            if not notice.now:
                raise
            raise Interrupted(f"{worker.owner} was told to end now; what it did not finish is free") from None

    asyncio.run(cancelled_by_notice())


async def rollout(
    config: Config,
    run: RunDir,
    workloads: list[Workload],
    source: TaskSource,
    worker: Worker,
    ends_soon: Callable[[], bool] = lambda: False,
) -> None:
    """Play this worker's share of each workload. Returns once no unit is free for it any more.

    Raises:
        Interrupted: it ends soon, and not everything is played.
        InputError: as `check_contained`; the judge has no key.
        InfrastructureError: the shard or the sandboxes cannot start, or a policy does not come while nothing of the
            run gets on for the site's `wait_seconds`.
    """
    owner = worker.owner
    sandbox = choose(config.site.sandbox, staged_image(config.site.images.environment, config.site.scratch))
    check_contained(config, sandbox, workloads)
    if config.tasks.judge.model:
        Judge(config.tasks.judge)  # its key is missed now rather than at the first answer
    seen = {"name": sandbox.name, "gaps": list(sandbox.gaps)}
    publish_json(run.root / "sandbox.json", seen)
    async with AsyncExitStack() as stack:
        pool: EnvironmentPool | None = None
        shard = Shard(config, run, worker)
        stack.push_async_callback(shard.stop)
        scratch = Path(config.site.scratch or tempfile.gettempdir())
        programs = await stack.enter_async_context(Scorer(sandbox, config.environment, scratch))
        score = Scoring(source.score, config.tasks.score_seconds, programs.run)
        begun: list[Workload] = []

        async def share(workload: Workload) -> None:
            nonlocal pool
            claims = Claims(workload.folder / "claims", owner, config.rollout.lease_seconds)
            if claims.has_free(workload.units):  # else no vLLM starts
                if pool is None:
                    pool = EnvironmentPool(config.environment, sandbox, source.corpus, scratch)
                    await stack.enter_async_context(pool)
                publish_json(workload.folder / "sandbox.json", seen)
                began = time.time()
                play = await _unless_told(ends_soon, shard.player(workload))
                loaded = time.time() - began
                slots = config.environment.slots
                await work(workload, play, pool, score, config.rollout, config.seed, owner, slots, ends_soon)
                timing = {"worker": worker.number, "began": began, "load_seconds": loaded, "ended": time.time()}
                append_json(workload.folder / "timing.jsonl", timing)
            await close(config, run, workload, worker)

        async def look_back() -> None:
            begun[:] = [workload for workload in begun if not workload.closed]
            for workload in begun:
                await share(workload)

        for workload in workloads:
            if workload.publishes and workload.closed:
                continue
            reopen_lost(workload)
            await _wait_for_policy(config, run, workload, worker, look_back, ends_soon)
            await share(workload)
            begun.append(workload)
        while worker.is_copy and not all(_is_played(workload) for workload in begun):
            if ends_soon():
                raise Interrupted(f"{owner} was told to end while it waited for the worker it is a copy of")
            await asyncio.sleep(POLL_SECONDS)
            await look_back()


async def _unless_told(ends_soon: Callable[[], bool], start: Coroutine[Any, Any, Player]) -> Player:
    """The player, unless this worker ends soon: the start of a large model may take longer than the time that is left.

    Raises:
        Interrupted: it ends soon; the start is given up.
    """
    began, task = time.monotonic(), asyncio.create_task(start)
    try:
        while not task.done():
            if ends_soon():
                raise Interrupted(
                    f"told to end while vLLM was starting, for {time.monotonic() - began:.0f} s so far; where the time "
                    "limit of the job leaves no more, raise the stage's minutes"
                )
            await asyncio.wait([task], timeout=POLL_SECONDS)
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])


def _is_played(workload: Workload) -> bool:
    return Claims(workload.folder / "claims", "", 0.0).all_done(workload.units)


def check_contained(config: Config, sandbox: Sandbox, workloads: list[Workload]) -> None:
    """`auto` is no leave to run the policy's code as a plain process on a shared machine, or beside gold answers.

    Raises:
        InputError: it would, and nobody has said that it may.
    """
    if sandbox.name != "subprocess" or config.site.sandbox == "subprocess":
        return
    if config.site.executor == "slurm":
        raise InputError(
            f"no sandbox works on node {os.uname().nodename}, so the policy's code would run as a plain process of "
            "yours; set site.images.environment to an image or have bubblewrap installed, or allow it with "
            "site.sandbox=subprocess"
        )
    if not config.tasks.path:
        return
    if any(task.answer is not None for workload in workloads for task in workload.tasks):
        raise InputError(
            f"no sandbox works here, so the policy's code could read the answers in tasks.path={config.tasks.path}; "
            "install bubblewrap or Apptainer, or allow it with site.sandbox=subprocess"
        )


class Shard:
    """This worker's vLLM, started when a policy is first needed and reloaded in place ever after."""

    def __init__(self, config: Config, run: RunDir, worker: Worker):
        self.config, self.run, self.worker = config, run, worker
        self.vllm: VllmShard | None = None
        self.version = -1

    async def player(self, workload: Workload) -> Player:
        """A player of the newest policy that the workload admits, or of the scripted expert."""
        if workload.newest is None:
            return _expert(self.config, ChatFormat(self.run.base, enable_thinking=self.config.agent.enable_thinking))
        if self.config.evaluation.endpoint.model and not workload.publishes:
            agent = replace(self.config.agent, temperature=workload.temperature)
            return _guest(EndpointSpeaker(self.config.evaluation.endpoint, agent), agent, workload.round)
        version = max(v for v in range(workload.oldest or 0, workload.newest + 1) if is_complete(self.run.policy(v)))
        if version != self.version:
            verify(self.run.policy(version))
        if self.vllm is None:
            log = self.run.logs / f"vllm-{self.worker.name}.log"
            site, binds = self.config.site, container_binds(self.run)
            self.vllm = VllmShard(self.run.policy(version), version, self.config.model, log, site, binds)
            await self.vllm.start()
        elif version != self.version:
            await self.vllm.load(self.run.policy(version), version)
        self.version = version
        agent = replace(self.config.agent, temperature=workload.temperature)
        chat = ChatFormat(self.run.policy(version), agent.answer_form, agent.enable_thinking)
        policy = VllmPolicy(self.vllm, chat.ends)
        team = Team(agent, PolicySpeaker(policy, chat, agent, self.vllm.context))
        return _player(team, workload.round, self.vllm)

    async def stop(self) -> None:
        if self.vllm is not None:
            await self.vllm.stop()


def _player(team: Team, round_: int, shard: VllmShard) -> Player:
    async def play(task: Task, attempt: int, seed: int, environment: Environment) -> Episode:
        starts = await shard.ready()
        episode = await team.run(task, environment, round=round_, attempt=attempt, seed=seed)
        if episode.status in ("timeout", "infra_error") and await shard.revive(starts):
            return replace(episode, status="infra_error", error="vLLM hung, and was started again")
        return episode

    return play


def _guest(speaker: EndpointSpeaker, agent: schema.Agent, round_: int) -> Player:
    team = Team(agent, speaker)

    async def play(task: Task, attempt: int, seed: int, environment: Environment) -> Episode:
        episode = await team.run(task, environment, round=round_, attempt=attempt, seed=seed)
        if episode.status == "infra_error" and not await speaker.is_there():  # so would be every episode to come
            raise InfrastructureError(episode.error)
        return replace(episode, policy_version=round_)

    return play


def _expert(config: Config, chat: ChatFormat) -> Player:
    async def play(task: Task, attempt: int, seed: int, environment: Environment) -> Episode:
        policy = ScriptedPolicy(chat, task.metadata["plan"])
        team = Team(config.agent, PolicySpeaker(policy, chat, config.agent, config.model.shard.max_model_len))
        return await team.run(task, environment, round=0, attempt=attempt, seed=seed)

    return play


async def close(config: Config, run: RunDir, workload: Workload, worker: Worker) -> None:
    """Gather a round, or close an evaluation, once all its units are done; one worker does it."""
    closing = Claims(workload.folder / "closing", worker.owner, config.rollout.lease_seconds)
    if workload.publishes and not worker.gathers:
        return
    if workload.closed or not _is_played(workload) or closing.claim([CLOSING]) is None:
        return
    if workload.publishes:
        episodes = len(workload.tasks) * workload.attempts
        gathering = asyncio.to_thread(run_gather, config, run, workload.round, episodes)
        is_ours = await while_held(closing, CLOSING, config.rollout.lease_seconds / RENEWALS, gathering)
    else:
        publish_timing(workload.folder)
        is_ours = True
    if is_ours:
        closing.done(CLOSING)


async def _wait_for_policy(
    config: Config,
    run: RunDir,
    workload: Workload,
    worker: Worker,
    meanwhile: Callable[[], Awaitable[None]],
    ends_soon: Callable[[], bool],
) -> None:
    """Wait until a policy that the workload admits is there, or others have played it. Calls `meanwhile` at times."""
    if workload.oldest is None or workload.newest is None:
        return
    admitted = [run.policy(version) for version in range(workload.oldest, workload.newest + 1)]
    timer = StallTimer(run, config.site.wait_seconds)
    next_look = 0.0
    while not (any(map(is_complete, admitted)) or _is_played(workload)):
        if ends_soon():
            raise Interrupted(f"{worker.owner} was told to end while it waited for policy {workload.oldest}")
        if timer.has_stalled():
            raise InfrastructureError(
                f"no policy {workload.oldest} yet, and nothing got on for {config.site.wait_seconds:.0f} s; see the "
                f"trainer's log in {run.logs}, then run the same command again"
            )
        if time.monotonic() >= next_look:
            await meanwhile()
            next_look = time.monotonic() + LOOK_SECONDS
        await asyncio.sleep(POLL_SECONDS)
