"""Score answers with a time limit, outside the worker's event loop."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress

from aworld.errors import AWorldError
from aworld.tasks.task import Program, Task, Undecided

AT_ONCE = 16  # answers, where a judge takes its time

Score = Callable[[str | None, Task], "float | Program"]


class Scoring:
    """Scores an answer by the source's `score`, within a time limit. A Program that it returns goes to `run`, which
    has a sandbox."""

    def __init__(self, score: Score, seconds: float, run: Callable[[Program], Awaitable[float]]):
        self._score, self._seconds, self._run = score, seconds, run
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def __call__(self, answer: str | None, task: Task) -> float:
        """The reward, 0 to 1.

        Raises:
            Undecided: the scorer failed at this answer, took too long, or gave no such number.
            AWorldError: as the source's `score`.
        """
        async with self._turns:
            try:
                worth = await asyncio.wait_for(_in_thread(self._score, answer, task), self._seconds)
            except TimeoutError:
                raise Undecided(f"not scored within tasks.score_seconds={self._seconds:g}") from None
            except AWorldError:
                raise
            except Exception as error:  # of a user's own scorer, for one
                raise Undecided(f"the scorer of {task.source or 'the task'} failed: {error!r}") from error
        if isinstance(worth, Program):
            worth = await self._run(worth)
        if not 0.0 <= worth <= 1.0:
            raise Undecided(f"the scorer of {task.source or 'the task'} gave {worth!r}, which is not from 0 to 1")
        return float(worth)


def _in_thread(score: Score, answer: str | None, task: Task) -> "asyncio.Future[float | Program]":
    """Run `score` in a daemon thread. The threads of asyncio stay free for watching sandboxes."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[float | Program] = loop.create_future()

    def tell(worth: "float | Program", error: BaseException | None) -> None:
        if outcome.done():  # given up
            return
        if error is None:
            outcome.set_result(worth)
        else:
            outcome.set_exception(error)

    def work() -> None:
        worth: float | Program = 0.0
        failure = None
        try:
            worth = score(answer, task)
        except Exception as error:
            failure = error
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(tell, worth, failure)

    threading.Thread(target=work, name="score", daemon=True).start()
    return outcome
