#!/usr/bin/env python
"""From the command that starts a run to its first sampled token, and what a large array asks of Slurm and the disk.

    python benchmarks/launch.py --keep           # four minutes on 2 CPU cores; make cluster-packages first
    python benchmarks/launch.py start            # one part alone: start, array, files

**start**: `jobs/pipeline.py` with the demo's model, one worker and no cold start, until its first token is in a
journal; against a vLLM that is started by hand with the same model, until its first token. A turn has one token here.

**array**: a rollout of 100 and of 1,000 elements on a private Slurm of four virtual nodes, of the project's own batch
scripts. `sdiag` counts the requests that slurmctld answers. The elements run `true` in the place of a worker: on two
cores, a thousand workers would take an hour.

**files**: a worker plays 100 and 1,000 episodes of the scripted expert; strace counts its system calls on paths of the
run directory, and the files that are there in the end. It does so once more while 100 and 1,000 other workers hold
tasks of the round.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import results
from results import Figure, alternate, ratios

from aworld import config as configuration
from aworld.config import Config
from aworld.inference.command import command
from aworld.launch.prepare import texts
from aworld.models.tiny import make_checkpoint
from aworld.rundir import RunDir
from aworld.tasks.synthetic import SyntheticTasks
from aworld.trajectories.journal import HEADER

ROOT = Path(__file__).parents[1]
LOOK_SECONDS = 0.02
WORDS = [
    *("recipe=demo", "site=local", "site.rollout.elements=1", "tasks.train=64", "tasks.held_out=2"),
    *("training.cold_start.tasks=0", "pipeline.rounds=1", "pipeline.evaluations=[]"),
    *("agent.turn_tokens=1", "agent.max_tokens=1", "agent.max_turns=1"),
]


def pipeline_start(model: Path, *words: str) -> dict[str, float]:
    """Seconds from `jobs/pipeline.py` to each of its steps; the last one is the first token."""
    with tempfile.TemporaryDirectory() as runs:
        run = RunDir(Path(runs) / "run")
        settings = [*WORDS, f"model.path={model}", f"runs={runs}", "name=run", *words]
        vllm = run.logs / "vllm-rollout-0.log"
        steps: dict[str, Callable[[], bool]] = {
            "run directory, first job": run.jobs.exists,
            "worker, imports": (run.starts / "rollout-0.jsonl").exists,
            "sandbox, policy": vllm.exists,
            "vLLM": lambda: "Application startup complete" in vllm.read_text(errors="replace"),
            "first token": lambda: any(
                path.stat().st_size > len(HEADER) for path in (run.round(1) / "journals").glob("*.journal")
            ),
        }
        with _process([sys.executable, str(ROOT / "jobs" / "pipeline.py"), *settings], signal.SIGINT) as process:
            return _timed(steps, process)


def bare_start(config: Config, model: Path) -> dict[str, float]:
    """Seconds from the start of a vLLM to its first token."""
    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder) / "http"
        _, _, _, *options = command(config.model, model, "policy", socket, without_gpu=True)
        own = options.index("--worker-extension-cls")
        program = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *options[:own], *options[own + 2 :]]
        request = {"model": "policy", "prompt": [0], "max_tokens": 1}
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), base_url="http://vllm", timeout=60.0) as http:

            def answers(path: str, **body: object) -> bool:
                try:
                    return (http.post(path, **body) if body else http.get(path)).is_success  # type: ignore[arg-type]
                except httpx.HTTPError:
                    return False

            steps = {
                "vLLM": lambda: answers("/health"),
                "first token": lambda: answers("/v1/completions", json=request),
            }
            with _process(program, signal.SIGTERM) as process:
                return _timed(steps, process)


@contextmanager
def _process(command: Sequence[str], end: signal.Signals) -> Iterator[subprocess.Popen[bytes]]:
    """A process, which is told to end, and waited for."""
    env = os.environ | {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.send_signal(end)
        process.wait()


def _timed(steps: dict[str, Callable[[], bool]], process: subprocess.Popen[bytes]) -> dict[str, float]:
    began, found = time.perf_counter(), {}
    for name, is_done in steps.items():
        while not is_done():
            if process.poll() is not None:
                raise SystemExit(f"ended with {process.returncode} before: {name}")
            time.sleep(LOOK_SECONDS)
        found[name] = time.perf_counter() - began
    return found


def requests_of(elements: int) -> dict[str, float]:
    """Requests that slurmctld answers for an array of so many elements, by type, per element; and its seconds."""
    cluster = Cluster.temporary(Settings(accounting=False, max_array_size=elements + 1))
    with tempfile.TemporaryDirectory() as runs:
        words = ["recipe=demo", "site=test-cluster", f"site.rollout.elements={elements}", f"runs={runs}"]
        config = configuration.load([*words, f"site.array_limit={elements}", "site.rollout.mem_gb=1"])
        stage = Stage.of(ROLLOUT, config, RunDir(Path(runs) / "run"), 0)
        (array,) = arrays(config.site, stage)
        text = script(config.site, stage, array, []).replace(worker_command(stage, array.elements), "true")
        stage.run.logs.mkdir(parents=True)
        before = dict(os.environ)
        os.environ.update(cluster.env)
        try:
            cluster.start()
            counts, began = _answered(cluster), time.monotonic()
            sbatch(text, stage.run.logs)
            while queued := cluster.slurm("squeue", "--noheader", "--format=%A"):
                time.sleep(LOOK_AT_QUEUE)
            seconds = time.monotonic() - began
            found = _answered(cluster) - counts
            states = list(stage.run.starts.glob("*.tries"))
        finally:
            cluster.stop()
            os.environ.clear()
            os.environ.update(before)
    assert len(states) == elements, f"{len(states)} of {elements} elements ran"
    return {name: count / elements for name, count in found.items()} | {"seconds": seconds}
