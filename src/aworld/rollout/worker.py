"""One worker's share of a workload: claim, play, score, journal."""

import asyncio
import hashlib
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, Protocol

from aworld.agents.protocols import Environment
from aworld.config import Rollout
from aworld.environments.pool import EnvironmentPool
from aworld.errors import AWorldError, InfrastructureError, Interrupted
from aworld.rollout.claims import Claims, Unit
from aworld.rollout.workload import Workload
from aworld.tasks.task import Task, Undecided
from aworld.trajectories import journal
from aworld.trajectories.episode import Episode, sound

PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds after a first failure, and at most; twice as long after each further one
RENEWALS = 4  # of a claim, per lease


class Player(Protocol):
    """Plays one attempt; the policy and the agent behind it are its own affair."""

    async def __call__(self, task: Task, attempt: int, seed: int, environment: Environment) -> Episode: ...


def episode_seed(seed: int, round_: int, task_id: str, attempt: int) -> int:
    """The same episode has the same seed whoever plays it, and however often (63 bits)."""
    digest = hashlib.sha256(f"{seed}/{round_}/{task_id}/{attempt}".encode()).digest()
    return int.from_bytes(digest[:8]) >> 1


async def work(
    workload: Workload,
    play: Player,
    pool: EnvironmentPool,
    score: Callable[[str | None, Task], Awaitable[float]],
    config: Rollout,
    seed: int,
    owner: str,
    slots: int,
    ends_soon: Callable[[], bool] = lambda: False,
) -> None:
    """Play units of the workload until none is free: all are done, or in the hands of other workers.

    A finished episode is durable in this worker's journal before the next begins; what is already in a journal is
    not played again. An infrastructure failure is retried `config.infra_retries` times, then recorded as such; so is an
    answer that nobody can score. Once it `ends_soon` the worker claims nothing more; whatever it does not finish is
    free for others at once.

    Raises:
        Interrupted: it ends soon, and what it had in hand is finished.
        InfrastructureError: no environment can be started, the disk is full, the policy's shard is gone, or so is who
            scores.
    """
    folder = workload.folder / "journals"
    folder.mkdir(parents=True, exist_ok=True)
    tasks = {task.task_id: task for task in workload.tasks}
    units = workload.units
    claims = Claims(workload.folder / "claims", owner, config.lease_seconds)
    capacity = asyncio.Semaphore(slots)
    episodes = journal.collect(folder)
    finished = {episode.identity for episode in episodes if not workload.plays_again(episode)}

    async def attempt(task: Task, number: int) -> None:
        async with capacity:
            episode = await _play_with_retries(play, pool, task, number, workload.round, config.infra_retries, seed)
        reward = 0.0  # of an episode that failed or gave no answer, whatever a scorer makes of None
        try:
            if episode.answer is not None and episode.status != "infra_error":
                reward = await score(episode.answer, task)
            episode = replace(episode, reward=reward)
        except Undecided as reason:
            episode = replace(episode, status="infra_error", error=str(reason))
        episode = sound(episode)
        log.append(episode)
        if not workload.plays_again(episode):
            finished.add(episode.identity)

    async def attempts(claimed: Unit) -> None:
        if claims.was_anothers(claimed):  # which may have finished some of it since we looked
            episodes = await asyncio.to_thread(journal.collect, folder)
            finished.update(episode.identity for episode in episodes if not workload.plays_again(episode))
        async with asyncio.TaskGroup() as group:
            for number in claimed.attempts:
                if (workload.round, claimed.task_id, number) not in finished:
                    group.create_task(attempt(tasks[claimed.task_id], number))

    async def unit(claimed: Unit) -> None:
        try:
            is_ours = await while_held(claims, claimed, config.lease_seconds / RENEWALS, attempts(claimed))
        except BaseException:
            claims.release(claimed)
            raise
        if is_ours:
            claims.done(claimed)
        else:
            print(f"warning: {claimed.task_id} was taken over by another worker; its lease ran out", file=sys.stderr)

    with _first_failure(), journal.Journal(folder / f"{owner}.journal") as log:
        is_any_free = True
        while is_any_free and not ends_soon():
            is_any_free = False
            async with asyncio.TaskGroup() as group:
                while not ends_soon():
                    async with capacity:  # claim no more than can be started now
                        claimed = claims.claim(units)
                    if claimed is None:
                        break
                    is_any_free = True  # another may be so once these are done
                    group.create_task(unit(claimed))
                    await asyncio.sleep(0)
        if ends_soon() and not claims.all_done(units):
            raise Interrupted(f"told to end; what is left of {workload.name} is free for other workers")


async def _play_with_retries(
    play: Player, pool: EnvironmentPool, task: Task, attempt: int, round_: int, retries: int, seed: int
) -> Episode:
    own_seed = episode_seed(seed, round_, task.task_id, attempt)
    for left in range(retries, -1, -1):
        if left < retries:
            await asyncio.sleep(min(PAUSE * 2.0 ** (retries - left - 1), LONGEST_PAUSE))
        began = time.monotonic()
        try:
            async with pool.episode(task.files) as environment:
                waited = time.monotonic() - began
                episode = await play(task, attempt, own_seed, environment)
        except InfrastructureError:  # no slot could be had; the agent itself reports what fails after that
            if not left:
                raise
        else:
            if episode.status != "infra_error" or not left:
                return replace(episode, seconds=episode.seconds | {"wait": waited})
    raise AssertionError("the last try returns or raises")


@contextmanager
def _first_failure() -> Iterator[None]:
    """Instead of a group of errors, the first that a person can read."""
    try:
        yield
    except BaseExceptionGroup as group:
        failures = group.subgroup(AWorldError)
        while failures is not None:
            failure = failures.exceptions[0]
            if isinstance(failure, AWorldError):
                raise failure from group
            failures = failure
        raise


async def while_held(claims: Claims, unit: Unit, every: float, work: Coroutine[Any, Any, None]) -> bool:
    """Do the work and renew the claim meanwhile. False: another took the unit over, so the rest of the work is its."""
    working = asyncio.create_task(work)
    try:
        while not (await asyncio.wait([working], timeout=every))[0]:
            with suppress(OSError):  # a shared disk may fail for a moment; the next renewal makes up for it
                if not claims.renew(unit):
                    return False
        await working
        return True
    finally:
        working.cancel()
        await asyncio.wait([working])
