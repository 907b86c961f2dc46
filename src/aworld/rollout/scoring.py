"""Score episodes with a time limit, outside the worker's event loop."""

import _thread
import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from aworld.errors import AWorldError
from aworld.tasks.task import Given, Program, Task, Undecided, Verification, Worth, worth_of
from aworld.trajectories.episode import Episode, Turn

AT_ONCE = 16  # episodes, where a judge takes its time

Reward = Callable[[Episode, Task, Path | None], Given]


class Scoring:
    """Scores an episode by the tasks' reward, within a time limit. A Program or a Verification that it returns goes to
    `run`, which has a sandbox.

    Args:
        seconds: the limit, by the task.

    Attributes:
        folder: makes a new folder for the files that an episode leaves; None: the reward does not read them.
    """

    def __init__(
        self,
        reward: Reward,
        seconds: Callable[[Task], float],
        run: Callable[[Program | Verification], Awaitable[Worth]],
        folder: Callable[[], Path] | None = None,
    ):
        self._reward, self._seconds, self._run, self.folder = reward, seconds, run, folder
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def __call__(self, episode: Episode, task: Task, files: Path | None = None) -> Worth:
        """What the episode is worth.

        Args:
            files: the folder with those that it left.

        Raises:
            Undecided: the scorer failed at this episode, took too long, or gave no such number.
            AWorldError: as the source's `score`.
        """
        scorer, seconds = f"the scorer of {task.source or 'the task'}", self._seconds(task)
        async with self._turns:
            try:
                given = await asyncio.wait_for(_in_thread(self._reward, episode, task, files), seconds)
            except TimeoutError:
                raise Undecided(f"{scorer} took longer than score_seconds={seconds:g}") from None
            except AWorldError:
                raise
            except Exception as error:  # of a user's own scorer, for one
                raise Undecided(f"{scorer} failed: {error!r}") from error
        return await self._run(given) if isinstance(given, Program | Verification) else worth_of(given, scorer)


def answered(task: Task, answer: str) -> Episode:
    """An episode of a task that holds nothing but this answer."""
    return Episode(
        round=0,
        task_id=task.task_id,
        attempt=0,
        level=task.level,
        question=task.question,
        token_ids=[],
        mask=[],
        logprobs=[],
        turns=[Turn("prompt", task.question), Turn("assistant", answer)],
        answer=answer,
        reward=0.0,
        status="answered",
        seconds={"total": 0.0},
        policy_version=0,
        seed=0,
    )


def _in_thread(reward: Reward, episode: Episode, task: Task, files: Path | None) -> "asyncio.Future[Given]":
    """Run `reward` in a thread that nothing waits for. The threads of asyncio stay free for watching sandboxes."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[Given] = loop.create_future()

    def tell(given: Given, error: BaseException | None) -> None:
        if outcome.done():  # given up
            return
        if error is None:
            outcome.set_result(given)
        else:
            outcome.set_exception(error)

    def work() -> None:
        given: Given = 0.0
        failure = None
        try:
            given = reward(episode, task, files)
        except Exception as error:
            failure = error
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(tell, given, failure)

    _thread.start_new_thread(work, ())  # threading.Thread would hold the loop up until the thread runs
    return outcome
