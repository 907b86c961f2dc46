#!/usr/bin/env python
"""CPU seconds of an episode outside the engine, and of the start of a tool server against one of the official SDK's.

    python benchmarks/episode_cost.py                  # 64 episodes each with environment.reuse=reset and never

The scripted expert plays synthetic tasks through the agent loop, real sandboxes and real tool servers: all of an
episode's work but the model's. The seconds are those of a process and of all that it starts, without its imports. Tools
run as plain processes, as the kernel keeps no count of what ends with a namespace. The rival of the tool server offers
the same tool by the official SDK of the Model Context Protocol.
"""

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from statistics import median

from aworld import config as configuration
from aworld.agents.chat import ChatFormat
from aworld.environments.pool import EnvironmentPool
from aworld.environments.sandbox import Contents, choose
from aworld.environments.toolbox import McpToolbox
from aworld.launch.prepare import texts
from aworld.models.tiny import make_checkpoint
from aworld.phase import Phase
from aworld.rollout.players import ExpertPlayer
from aworld.rollout.workload import Workload
from aworld.tasks.synthetic import SyntheticTasks
from aworld.tools.common.execute import adopt_orphans

OURS = ["-P", "-m", "aworld.tools", "files"]
SDK = """
from pathlib import Path
from mcp.server.mcpserver import MCPServer
def read_file(path: str) -> str:
    return Path(path).read_text()
server = MCPServer("rival", log_level="ERROR")
server.add_tool(read_file, description="Read a text file.", structured_output=False)
server.run()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3, help="the median of so many runs counts")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object")
    arguments = parser.parse_args()
    found = measure(arguments.episodes, arguments.repeats)
    if arguments.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:24} {value:7.3f} CPU s")
    print(f"a server of the SDK's takes {found['sdk_server'] / found['tool_server']:.1f} times as long to start")


def measure(episodes: int = 64, repeats: int = 3) -> dict[str, float]:
    """CPU seconds: `episode_reset` and `episode_never` per episode, `tool_server` and `sdk_server` per start."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        _prepare(Path(folder))
        for reuse in ("reset", "never"):
            found[f"episode_{reuse}"] = _cpu_seconds(repeats, "episodes", folder, reuse, str(episodes))
        for kind in ("tool", "sdk"):
            found[f"{kind}_server"] = _cpu_seconds(repeats, "servers", folder, kind, "4")
    return found


def _config() -> configuration.Config:
    return configuration.load(["recipe=demo", "environment.slots=4", "tasks.train=64", "tasks.held_out=2"])


def _prepare(folder: Path) -> None:
    """Tasks, and a tokenizer that knows their words."""
    config = _config()
    source = SyntheticTasks(config.tasks, folder / "tasks")
    make_checkpoint(config.model.architecture, texts(config, source), 0, folder / "model")


def _cpu_seconds(repeats: int, *words: str) -> float:
    """Of one unit of work, done by a process of its own: the median."""
    found = []
    for _ in range(repeats):
        done = subprocess.run([sys.executable, __file__, "--as", *words], stdout=subprocess.PIPE, text=True, check=True)
        found.append(float(done.stdout.split()[-1]))
    return median(found)


async def play_episodes(folder: Path, reuse: str, count: int) -> None:
    config = _config()
    config.environment.reuse = reuse
    source = SyntheticTasks(config.tasks, folder / "tasks")
    workload = Workload(Phase.COLD_START, "cold start", folder, 0, list(source.tasks("train")), 1, 0.0, range(0))
    player = ExpertPlayer(config, workload, ChatFormat(folder / "model"))
    slots = asyncio.Semaphore(config.environment.slots)
    async with EnvironmentPool(config.environment, choose("subprocess", ""), source.corpus, folder) as pool:

        async def play(number: int) -> None:
            async with slots, pool.episode() as environment:
                task = workload.tasks[number % len(workload.tasks)]
                episode = await player.play(task, 0, number, environment)
            assert episode.status == "answered", episode.error

        await asyncio.gather(*map(play, range(count)))


async def start_servers(folder: Path, kind: str, count: int) -> None:
    config, sandbox = _config().environment, choose("subprocess", "")
    command = [sandbox.python, *(OURS if kind == "tool" else ["-c", SDK])]
    for _ in range(count):
        toolbox = await McpToolbox.start(sandbox.launch(command, Contents(folder, config)), config)
        await toolbox.close()


def _do(what: str, folder: str, kind: str, count: str) -> None:
    adopt_orphans()  # the seconds of a process count once its parent has waited for it
    work = play_episodes if what == "episodes" else start_servers
    before = _spent()
    asyncio.run(work(Path(folder), kind, int(count)))
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
    print((_spent() - before) / int(count))


def _spent() -> float:
    """CPU seconds of this process, and of its children that have ended."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in spent)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--as"]:
        _do(*sys.argv[2:])
    else:
        main()
