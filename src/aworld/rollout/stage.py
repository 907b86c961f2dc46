"""The rollout stage: a worker that lives through a whole run, or plays one workload.

A worker keeps its vLLM shard and its warm sandboxes through all workloads, and reloads weights in place. It takes the
workloads in order, and goes on to the next one when no unit is free. The worker that finds all units of a workload done
closes it: it gathers a round, or notes how long an evaluation took. While a worker waits for a policy it looks after
the earlier workloads: it plays the units that their workers let go, and closes the workloads that they left open.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from aworld.agents.chat import ChatFormat
from aworld.config import Config
from aworld.environments.pool import EnvironmentPool
from aworld.environments.sandbox import Sandbox, sandbox_of
from aworld.environments.scorer import Scorer
from aworld.errors import InfrastructureError, InputError, Interrupted
from aworld.phase import Phase
from aworld.processes import Notice
from aworld.publish import append_json, is_complete, publish_json
from aworld.rollout.claims import Claims, Unit
from aworld.rollout.curriculum import Choice
from aworld.rollout.players import Player, player
from aworld.rollout.scoring import Scoring
from aworld.rollout.serving import Serving
from aworld.rollout.transcripts import transcribe
from aworld.rollout.units import claims_of, is_closed, is_played, reopen_lost, standing, units
from aworld.rollout.worker import RENEWALS, Worker, while_held
from aworld.rollout.workload import Workload
from aworld.rundir import RunDir, StallTimer
from aworld.tasks import is_own, score_seconds
from aworld.tasks.judge import Judge
from aworld.tasks.task import TaskSet
from aworld.trajectories.launch import run_gather
from aworld.trajectories.timing import publish_timing

CLOSING = Unit("close", (0,))
START_SECONDS = 0.2  # between two looks whether vLLM has started
LOOK_SECONDS = 5.0  # at least, between two looks at the earlier workloads


@dataclass(frozen=True)
class WorkerInfo:
    """A worker of the stage.

    Attributes:
        number: of the worker in its stage, from 0.
        name: of its part of the stage, such as rollout-0003-1; no other process of the run has it.
        owner: the name on its claims and its journal; at any time one process goes by it.
        gathers: whether the worker that finds a round played gathers it, as in a resident run.
        is_copy: whether an earlier copy of this worker may still run, on a node that Slurm lost sight of. The new copy
            stays until every unit is done.
    """

    number: int
    name: str
    owner: str
    gathers: bool
    is_copy: bool = False


def run_rollout(
    config: Config, run: RunDir, workloads: list[Workload], source: TaskSet, worker: WorkerInfo, sandbox: Sandbox
) -> None:
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
            await rollout(config, run, workloads, source, worker, lambda: notice.soon, sandbox)
        except asyncio.CancelledError:
            if not notice.now:
                raise
            raise Interrupted(f"{worker.owner} was told to end now; what it did not finish is free") from None

    asyncio.run(cancelled_by_notice())


async def rollout(
    config: Config,
    run: RunDir,
    workloads: list[Workload],
    source: TaskSet,
    worker: WorkerInfo,
    ends_soon: Callable[[], bool] = lambda: False,
    sandbox: Sandbox | None = None,
) -> None:
    """Play this worker's share of each workload. Returns once no unit is free.

    Args:
        sandbox: the site's; None: it is chosen here.

    Raises:
        Interrupted: it ends soon, and not everything is played.
        InputError: as `check_contained`; the judge has no key.
        InfrastructureError: the shard or the sandboxes cannot start, or a policy does not come while nothing of the
            run gets on for the site's `wait_seconds`.
    """
    owner = worker.owner
    sandbox = sandbox or sandbox_of(config)
    check_contained(config, sandbox, workloads)
    for source_ in (config.tasks, *config.tasks.mixture.values()):
        if source_.judge.model:
            Judge(source_.judge)  # a missing key is an error now, not at the first answer
    seen = {"name": sandbox.name, "gaps": list(sandbox.gaps)}
    publish_json(run.root / "sandbox.json", seen)
    async with AsyncExitStack() as stack:
        pool: EnvironmentPool | None = None
        serving = Serving(config, run, worker.name)
        stack.push_async_callback(serving.stop)
        scratch = Path(config.site.scratch or tempfile.gettempdir())
        environment = replace(config.environment, slots=config.slots)
        programs = await stack.enter_async_context(Scorer(sandbox, environment, scratch))
        folder = programs.folder if source.reads_files else None
        score = Scoring(source.reward, partial(score_seconds, config.tasks), programs.run, folder)
        begun: list[Workload] = []
        looks: dict[Path, Claims] = {}  # they remember which claims of others need no look yet

        async def share(workload: Workload) -> None:
            nonlocal pool
            new = claims_of(workload, owner, config.rollout.lease_seconds)
            claims = looks.setdefault(workload.folder, new)
            if claims.has_free(units(workload)) and workload.conversations:
                began = time.time()
                chat = ChatFormat(run.base, config.agent.answer_form, config.agent.enable_thinking)
                await transcribe(config, workload, chat, owner, ends_soon)
                note(workload, began, 0.0)
            elif claims.has_free(units(workload)):  # else no vLLM starts
                if pool is None:
                    pool = EnvironmentPool(environment, sandbox, source.corpus, scratch, run.root / "sandbox-tools")
                    await stack.enter_async_context(pool)
                publish_json(workload.folder / "sandbox.json", seen)
                began = time.time()
                plays = await _unless_told(ends_soon, player(config, workload, serving))
                loaded = time.time() - began
                await Worker(config, workload, plays, pool, score, owner, ends_soon).run()
                await serving.end_teacher()
                note(workload, began, loaded)
            await close(config, run, workload, worker)

        def note(workload: Workload, began: float, loaded: float) -> None:
            timing = {"worker": worker.number, "began": began, "load_seconds": loaded, "ended": time.time()}
            append_json(workload.folder / "timing.jsonl", timing)

        async def look_back() -> None:
            begun[:] = [workload for workload in begun if not is_closed(workload)]
            for gone in looks.keys() - {workload.folder for workload in begun}:
                del looks[gone]
            for workload in begun:
                await share(workload)

        for workload in workloads:
            if workload.phase.is_trained_on and is_closed(workload):
                continue
            if not is_closed(workload):
                reopen_lost(workload)
            if workload.phase is Phase.EVALUATION and run.lacks(workload.round) and not is_played(workload):
                print(f"warning: {workload.name} is left out: {_made_by(run, workload.round)}", file=sys.stderr)
                continue
            await _wait_for_policy(config, run, workload, worker, look_back, ends_soon)
            await share(workload)
            begun.append(workload)
        while worker.is_copy and not all(map(is_played, begun)):
            if ends_soon():
                raise Interrupted(f"{owner} was told to end while it waited for the worker it is a copy of")
            await asyncio.sleep(config.site.poll_seconds)
            await look_back()


def _made_by(run: RunDir, version: int) -> str:
    return f"policy {version} is gone; make it anew: aworld train {run.root} --round {version}"


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
            await asyncio.wait([task], timeout=START_SECONDS)
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])


def check_contained(config: Config, sandbox: Sandbox, workloads: list[Workload]) -> None:
    """Refuse the plain subprocess on Slurm, or beside gold answers, unless `site.sandbox=subprocess` allows it.

    Raises:
        InputError: it is not allowed.
    """
    if sandbox.name != "subprocess" or config.site.sandbox == "subprocess":
        return
    if config.site.executor == "slurm":
        raise InputError(
            f"no sandbox works on node {os.uname().nodename}, so the policy's code would run as a plain process of "
            "yours; set site.images.environment to an image or have bubblewrap installed, or allow it with "
            "site.sandbox=subprocess"
        )
    sources = (config.tasks, *config.tasks.mixture.values())
    paths = [path for source in sources for path in (source.path, source.held_out_path) if path]
    paths += [str(RunDir.of(config).tasks) for source in sources if is_own(source)]
    if paths and any(not task.is_withheld for workload in workloads for task in workload.tasks):
        raise InputError(
            f"no sandbox works here, so the policy's code could read the answers in {paths[0]}; "
            "install bubblewrap or Apptainer, or allow it with site.sandbox=subprocess"
        )


async def close(config: Config, run: RunDir, workload: Workload, worker: WorkerInfo) -> None:
    """Gather a round, or close an evaluation, once all its units are done; one worker does it."""
    closing = Claims(workload.folder / "closing", worker.owner, config.rollout.lease_seconds)
    if workload.phase.is_trained_on and not worker.gathers:
        return
    seen = standing(workload)
    if is_closed(workload) or not seen.is_played or closing.claim([CLOSING]) is None:
        return
    if workload.phase.is_trained_on:
        episodes = sum(len(unit.attempts) for unit in seen.units)
        gathering = asyncio.to_thread(run_gather, config, run, workload.round, episodes)
        is_ours = await while_held(closing, CLOSING, config.rollout.lease_seconds / RENEWALS, gathering)
    else:
        publish_timing(workload.folder)
        is_ours = True
    if is_ours:
        closing.mark_done(CLOSING)


async def _wait_for_policy(
    config: Config,
    run: RunDir,
    workload: Workload,
    worker: WorkerInfo,
    meanwhile: Callable[[], Awaitable[None]],
    ends_soon: Callable[[], bool],
) -> None:
    """Wait until a policy that the workload admits is there, and its tasks are chosen, or others have played it.

    Calls `meanwhile` at times.
    """
    if not workload.policies:
        return
    oldest, admitted = workload.policies[0], [run.policy(version) for version in workload.policies]
    choice = workload.tasks if isinstance(workload.tasks, Choice) else None
    timer = StallTimer(run, config.site.wait_seconds)
    next_look = 0.0
    while not (has_policy := any(map(is_complete, admitted))) or (choice and not choice.settle()):
        awaited = choice.awaited if choice and has_policy else f"policy {oldest}"
        if ends_soon():
            raise Interrupted(f"{worker.owner} was told to end while it waited for {awaited}")
        if timer.has_stalled():
            raise InfrastructureError(
                f"no {awaited} yet, and nothing got on for {config.site.wait_seconds:.0f} s; see the "
                f"trainer's log in {run.logs}, then run the same command again"
            )
        if time.monotonic() >= next_look:
            if is_played(workload):
                return
            await meanwhile()
            next_look = time.monotonic() + LOOK_SECONDS
        await asyncio.sleep(config.site.poll_seconds)
