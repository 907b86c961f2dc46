"""One worker's share of a workload: claim units, play their attempts, score the answers, record the episodes."""

import asyncio
import hashlib
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from aworld.agents.record import Record
from aworld.config import Config
from aworld.environments.pool import EnvironmentPool, NotStarted
from aworld.errors import AWorldError, InfrastructureError, Interrupted
from aworld.nodelocal import remove
from aworld.rollout.claims import Claims, Unit
from aworld.rollout.players import Player
from aworld.rollout.scoring import Scoring
from aworld.rollout.spread import has_spread
from aworld.rollout.units import claims_of, units
from aworld.rollout.workload import Workload
from aworld.tasks.task import Task, Undecided
from aworld.trajectories import journal
from aworld.trajectories.episode import NOT_SCORED, Context, Episode, Outcome

PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds after a first failure, and at most; twice as long after each further one
RENEWALS = 4  # of a claim, per lease
MOST_UNSTARTED = 3  # tasks whose containers do not start, one after the other: then it is the node
UNSCORED = 4  # episodes per slot that are played or wait for their reward; a slow reward holds further ones up

Identity = tuple[int, str, int]


def episode_seed(seed: int, round_: int, task_id: str, attempt: int) -> int:
    """The seed of an episode (63 bits). It is the same on each worker, and at each retry."""
    digest = hashlib.sha256(f"{seed}/{round_}/{task_id}/{attempt}".encode()).digest()
    return int.from_bytes(digest[:8]) >> 1


class Worker:
    """Plays units of a workload until none is free: all are done, or in the hands of other workers.

    A finished episode is durable in this worker's journal before the next one begins. An episode that is in a journal
    is not played again.

    Args:
        owner: the name on its claims and its journal. At any time one process goes by it.
        ends_soon: once it returns true, nothing more is claimed.
    """

    def __init__(
        self,
        config: Config,
        workload: Workload,
        player: Player,
        pool: EnvironmentPool,
        score: Scoring,
        owner: str,
        ends_soon: Callable[[], bool] = lambda: False,
    ):
        self._config, self._workload, self._player, self._pool, self._score = config, workload, player, pool, score
        self._ends_soon = ends_soon
        self._units = units(workload)
        self._tasks = {task.task_id: task for task in workload.tasks}
        self._journals = workload.folder / "journals"
        self._journals.mkdir(parents=True, exist_ok=True)
        self._claims = claims_of(workload, owner, config.rollout.lease_seconds)
        self._log: journal.Journal  # open while it runs
        self._writing = asyncio.Lock()  # held while a record is written
        self._capacity = asyncio.Semaphore(config.slots)
        self._unscored = asyncio.Semaphore(UNSCORED * config.slots)
        self._unstarted: set[str] = set()  # tasks whose containers did not start since another did
        self._finished = self._recorded()

    async def run(self) -> None:
        """Play until no unit is free.

        Raises:
            Interrupted: it ends soon, and the units that it held are done.
            InfrastructureError: no environment can be started, the disk is full, or the player or the scorer is gone.
        """
        with _first_failure(), journal.Journal(self._journals / f"{self._claims.owner}.journal") as self._log:
            async with asyncio.TaskGroup() as group:
                playing: set[asyncio.Task[None]] = set()
                while True:
                    while claimed := await self.claim():
                        begun = asyncio.Event()
                        playing.add(group.create_task(self._play_unit(claimed, begun)))
                        await begun.wait()  # else more units would be claimed for the slot that this one takes
                    if not playing:
                        break
                    # Another may be free once one of these is done.
                    _, playing = await asyncio.wait(playing, return_when=asyncio.FIRST_COMPLETED)
            if self._ends_soon() and not self._claims.all_done(self._units):
                raise Interrupted(f"told to end; what is left of {self._workload.name} is free for other workers")

    async def claim(self) -> Unit | None:
        """A unit that can be started now; None: none is free, or the worker ends soon."""
        if self._ends_soon():
            return None
        async with self._unscored, self._capacity:
            return self._claims.claim(self._units)

    async def play(self, task: Task, attempt: int, files: Path | None = None) -> Episode:
        """An episode, not scored yet. An infrastructure failure is played again `rollout.infra_retries` times.

        Args:
            files: an empty folder for the files that the episode leaves.

        Raises:
            InfrastructureError: no environment can be started, also for other tasks, or the player is gone.
        """
        seed = episode_seed(self._config.seed, self._workload.round, task.task_id, attempt)
        retries, at_once = self._config.rollout.infra_retries, bool(self._config.agent.program.command)
        for left in range(retries, -1, -1):
            if left < retries:
                await asyncio.sleep(min(PAUSE * 2.0 ** (retries - left - 1), LONGEST_PAUSE))
            began = time.monotonic()
            try:
                async with self._pool.episode(task.files, files, task.container, at_once) as environment:
                    waited = time.monotonic() - began
                    if task.container:
                        self._unstarted.clear()
                    episode = await self._player.play(task, attempt, seed, environment)
            except NotStarted as failure:
                if not left:
                    return self._lost(task, attempt, seed, failure)
            except InfrastructureError:  # no environment could be started, or the player is gone
                if not left:
                    raise
            else:
                if episode.status != "infra_error" or not left:
                    return replace(episode, seconds=_without_wait(episode.seconds, environment.waited, waited))
        raise AssertionError("the last try returns or raises")

    def _lost(self, task: Task, attempt: int, seed: int, failure: NotStarted) -> Episode:
        """An episode whose container did not start.

        Raises:
            NotStarted: so it was with the containers of several tasks, and none started since.
        """
        self._unstarted.add(task.task_id)
        if len(self._unstarted) > MOST_UNSTARTED:
            raise failure
        empty, round_ = Record(self._config.agent, seed), self._workload.round
        episode = empty.episode(task, None, "infra_error", str(failure), {}, round=round_, attempt=attempt)
        return replace(episode, contexts=[Context("agent")])

    async def score(self, episode: Episode, task: Task, files: Path | None = None) -> Episode:
        """The episode with its reward: 0 where it was lost to the machine. One that cannot be scored is an
        infrastructure failure."""
        if episode.status == "infra_error":
            return replace(episode, reward=0.0)
        try:
            worth = await self._score(episode, task, files)
            return replace(episode, reward=worth.reward, reward_parts=worth.parts)
        except Undecided as reason:
            return replace(episode, status="infra_error", error=f"{NOT_SCORED}{reason}")

    async def record(self, episode: Episode) -> None:
        """Make an episode durable. Other episodes go on while a slow disk writes it."""
        async with self._writing:
            episode = await asyncio.to_thread(self._log.append, episode)
        if not self._workload.plays_again(episode):
            self._finished[episode.identity] = self._worth(episode)

    async def _play_unit(self, unit: Unit, begun: asyncio.Event) -> None:
        """Play what is left of a unit; `begun` is set once it has a slot, or needs none."""
        every = self._claims.lease_seconds / RENEWALS
        try:
            is_ours = await while_held(self._claims, unit, every, self._play_attempts(unit, begun))
        except BaseException:
            self._claims.release(unit)
            raise
        finally:
            begun.set()
        if is_ours and self._claims.renew(unit):  # a write that hung may have outlasted the lease
            rewards = (self._finished.get((self._workload.round, unit.task_id, at)) for at in unit.attempts)
            self._claims.mark_done(unit, has_spread(rewards))
        else:
            print(f"warning: {unit.task_id} was taken over by another worker; its lease ran out", file=sys.stderr)

    async def _play_attempts(self, unit: Unit, begun: asyncio.Event) -> None:
        if self._claims.was_anothers(unit):  # the other may have finished some of it since we looked
            self._finished |= await asyncio.to_thread(self._recorded)
        async with asyncio.TaskGroup() as group:
            for attempt in unit.attempts:
                if (self._workload.round, unit.task_id, attempt) not in self._finished:
                    group.create_task(self._play_attempt(self._tasks[unit.task_id], attempt, begun))

    async def _play_attempt(self, task: Task, attempt: int, begun: asyncio.Event) -> None:
        async with self._unscored:
            files = self._score.folder() if self._score.folder else None
            try:
                async with self._capacity:
                    begun.set()
                    episode = await self.play(task, attempt, files)
                await self.record(await self.score(episode, task, files))
            finally:
                if files:
                    await asyncio.to_thread(remove, files)

    def _recorded(self) -> dict[Identity, float | None]:
        """The episodes that are in a journal and are not played again, each with its worth."""
        recorded = journal.records(self._journals)
        return {each.identity: self._worth(each) for each in recorded if not self._workload.plays_again(each)}

    def _worth(self, outcome: Outcome) -> float | None:
        """The reward of an episode; None: it was lost to the machine."""
        return None if outcome.is_lost(self._config.training.stalled_share) else outcome.reward


def _without_wait(seconds: dict[str, float], within: float, before: float) -> dict[str, float]:
    """The seconds of an episode by phase. Its calls waited `within` it for the sandbox: that time is lost."""
    tools = max(0.0, seconds.get("tools", 0.0) - within)
    stalled = min(seconds.get("stalled", 0.0) + within, seconds["total"])
    return seconds | {"tools": tools, "stalled": stalled, "wait": before}


@contextmanager
def _first_failure() -> Iterator[None]:
    """Raise the first failure that a person can read, in the place of a group of errors."""
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
    """Do the work, and renew the claim each `every` seconds. False: another worker took the unit over."""
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
