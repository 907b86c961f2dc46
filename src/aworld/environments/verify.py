"""Run the scripts of a task's container: its test, on what an episode left in it, and its solution."""

import asyncio
import json
import os
import shutil
import stat
from contextlib import suppress
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

from aworld import config as schema
from aworld.environments import watchdog
from aworld.environments.container import LAYER, launch, prepare
from aworld.environments.program import Program
from aworld.errors import InfrastructureError
from aworld.nodelocal import remove
from aworld.tasks.task import Container, Undecided, Verification, Worth, worth_of

LONGEST_REWARD = 1 << 16  # bytes
PROBE_SECONDS = 120.0
REWARD = "reward"


@dataclass(frozen=True)
class Verdict:
    """The outcome of a test.

    Attributes:
        said: why the worth is 0, or the last line that the test printed.
    """

    worth: Worth
    said: str


async def verify(asked: Verification, limits: schema.Environment) -> Verdict:
    """What the test gives. It is 0 where the test fails, hangs, exceeds a limit or gives none: the agent may have
    brought that about.

    Raises:
        InfrastructureError: no container of this image starts here, whatever the agent did.
    """
    container, folder = asked.container, asked.folder
    log, tests = folder / "verifier", folder / "tests"
    log.mkdir()
    await asyncio.to_thread(shutil.copytree, container.tests, tests, True)  # the script may write beside itself
    upper = folder / LAYER / "upper"
    if upper.is_dir() and not upper.is_symlink():
        upper.chmod(0o755)  # it is the agent's /, which it may have made read-only
    for place in ("tests", "logs"):  # no mount follows a link of the agent's, and no reward of its own counts
        await asyncio.to_thread(_clear, upper / place)
    binds = {log: "/logs/verifier", tests: "/tests"}
    said = await _run(container, folder, "/tests/test.sh", limits, container.test_seconds, container.test_env, binds)
    given = _reward(log)
    if given is None:
        await _probe(container, folder, limits)
        return Verdict(Worth(0.0), f"it gave no reward: {said}")
    try:
        return Verdict(worth_of(given, "test.sh"), said)
    except Undecided as reason:
        return Verdict(Worth(0.0), f"{reason}; {said}")


async def solve(container: Container, folder: Path, limits: schema.Environment, seconds: float) -> str:
    """Run the solution in a new episode's `folder`; returns the last line that it printed, or why it failed."""
    assert container.solution
    prepare(folder)
    solution = folder / "solution"
    shutil.copytree(container.solution, solution, symlinks=True)
    return await _run(container, folder, "/solution/solve.sh", limits, seconds, {}, {solution: "/solution"})


async def _run(
    container: Container,
    folder: Path,
    script: str,
    limits: schema.Environment,
    seconds: float,
    env: dict[str, str],
    binds: dict[Path, str],
) -> str:
    """Run a script within the limits, to its end; returns its last line, or why it was ended."""
    size = await asyncio.to_thread(watchdog.size, folder)
    limits = replace(limits, scratch_mb=limits.scratch_mb + ceil(max(size, 0) / (1 << 20)))
    program = await Program.start(launch(container, folder, ["bash", script], limits, env, binds), "")
    watching = asyncio.create_task(_watch(program, folder, limits))
    try:
        async with asyncio.timeout(seconds):
            ended = await program.ended()
            return ended.fault or ended.last_line
    except TimeoutError:
        return f"it ran longer than {seconds:g} s"
    finally:
        watching.cancel()
        await program.close()


async def _watch(program: Program, folder: Path, limits: schema.Environment) -> None:
    while program.is_alive:
        if reason := await asyncio.to_thread(watchdog.excess, [program.pid], folder, limits):
            program.stop(reason)
        await asyncio.sleep(watchdog.SECONDS)


async def _probe(container: Container, folder: Path, limits: schema.Environment) -> None:
    """Check that a container of this image starts here.

    Raises:
        InfrastructureError: it does not.
    """
    fresh = folder / "probe"
    fresh.mkdir()
    prepare(fresh)
    program = await Program.start(launch(container, fresh, ["bash", "-c", "exit 0"], limits), "")
    try:
        ended = await asyncio.wait_for(program.ended(), PROBE_SECONDS)
    except TimeoutError:
        raise InfrastructureError(f"{container.image} did not start within {PROBE_SECONDS:g} s") from None
    finally:
        await program.close()
    if ended.fault:
        raise InfrastructureError(f"{container.image} does not start here: {ended.fault}")


def _reward(log: Path) -> Any:
    """The reward that a test wrote: of reward.json, else of reward.txt; None: there is none."""
    for name, read in ((f"{REWARD}.json", json.loads), (f"{REWARD}.txt", float)):
        with suppress(OSError, ValueError, RecursionError):  # nested without end
            opened = os.open(log / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # no link, and no pipe
            with open(opened, "rb") as file:
                if stat.S_ISREG(os.fstat(opened).st_mode):
                    given: Any = read(file.read(LONGEST_REWARD).decode())
                    named = isinstance(given, dict) and REWARD not in given and len(given) == 1
                    return {REWARD: next(iter(given.values()))} if named else given
    return None


def _clear(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        place.chmod(0o700)
        remove(place)
    else:
        place.unlink(missing_ok=True)
