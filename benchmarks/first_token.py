"""Seconds from a start to the first sampled token: of pipeline.py, and of a vLLM that is started by hand."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import httpx
from results import Figure, alternate, progress, ratios

from aworld import config as configuration
from aworld.errors import InfrastructureError
from aworld.inference.command import command, environment
from aworld.launch.prepare import texts
from aworld.rundir import RunDir
from aworld.tasks.synthetic import SyntheticTasks
from aworld.trajectories.journal import HEADER

ROOT = Path(__file__).parents[1]
LOOK_SECONDS = 0.02
OFFLINE = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
WORDS = [
    *("recipe=demo", "site=local", "site.rollout.elements=1", "tasks.train=64", "tasks.held_out=2"),
    *("training.cold_start.tasks=0", "pipeline.rounds=1", "pipeline.evaluations=[]", "training.made_for=''"),
    *("agent.turn_tokens=1", "agent.max_tokens=1", "agent.max_turns=1"),
]
SAYS = (
    "The bare vLLM has the options of our worker's vLLM, and else its defaults. The tuned one has our environment as "
    "well, and our program, which imports no more than vLLM needs."
)


def start(repeats: int) -> tuple[list[Figure], list[str]]:
    """The seconds of pipeline.py, beside a vLLM with its defaults and one that is started as our workers start it."""
    found: dict[str, list[dict[str, float]]] = {"pipeline.py": [], "a bare vLLM": [], "a tuned vLLM": []}

    def first_token(name: str, measure: Callable[[], dict[str, float]]) -> float:
        with progress(f"a start of {name}"):
            found[name].append(measure())
        return found[name][-1]["first token"]

    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        with progress("a model"), ProcessPoolExecutor(1, get_context("spawn")) as other:
            other.submit(_make_model, model).result()  # torch would stay in this process while the others are timed
        alternate(
            repeats,
            pipeline=lambda: first_token("pipeline.py", partial(pipeline_start, model)),
            bare=lambda: first_token("a bare vLLM", partial(vllm_start, model, is_tuned=False)),
            tuned=lambda: first_token("a tuned vLLM", partial(vllm_start, model, is_tuned=True)),
        )
    return figures_of(found), says_of(found)


def figures_of(found: dict[str, list[dict[str, float]]]) -> list[Figure]:
    """The lines of the table, from the seconds of each step of each start."""
    seconds = {name: [each["first token"] for each in measured] for name, measured in found.items()}
    ours, bare, tuned = seconds.values()
    return [
        Figure("seconds to the first token, pipeline.py / a bare vLLM", ratios(ours, bare), at_most=1.1),
        Figure("seconds to the first token, pipeline.py / a tuned vLLM", ratios(ours, tuned)),
        *(Figure(f"{name} to the first token", values, "s") for name, values in seconds.items()),
    ]


def says_of(found: Mapping[str, Sequence[Mapping[str, float]]]) -> list[str]:
    """Sentences with the median seconds of each step."""
    ours, bare, tuned = found.values()
    steps = list(ours[0])
    ends = [[0.0, *(each[step] for step in steps)] for each in ours]
    parts = [median(each[at + 1] - each[at] for each in ends) for at in range(len(steps))]
    said = ", ".join(f"{step} {part:.1f} s" for step, part in zip(steps, parts, strict=True))
    by_hand, by_us = (median(each["vLLM"] for each in measured) for measured in (bare, tuned))
    return [
        f"The steps of pipeline.py: {said}. The bare vLLM is healthy after {by_hand:.1f} s, the tuned one after "
        f"{by_us:.1f} s.",
        SAYS,
    ]


def pipeline_start(model: Path, *words: str) -> dict[str, float]:
    """Seconds from the start of `jobs/pipeline.py` to the end of each of its steps, up to the first token."""
    with tempfile.TemporaryDirectory() as runs:
        run = RunDir(Path(runs) / "run")
        settings = [*WORDS, f"model.path={model}", f"runs={runs}", "name=run", *words]
        vllm = run.logs / "vllm-rollout-0.log"
        steps = {
            "run directory": run.jobs.exists,
            "worker": (run.starts / "rollout-0.jsonl").exists,
            "sandbox and policy": vllm.exists,
            "vLLM": lambda: "Application startup complete" in vllm.read_text(errors="replace"),
            "first token": lambda: any(
                path.stat().st_size > len(HEADER) for path in (run.round(1) / "journals").glob("*.journal")
            ),
        }
        program = [sys.executable, str(ROOT / "jobs" / "pipeline.py"), *settings]
        with _process(program, os.environ | OFFLINE, signal.SIGINT) as process:
            return _timed("pipeline.py", steps, process)


def vllm_start(model: Path, is_tuned: bool) -> dict[str, float]:
    """Seconds from the start of a vLLM until it is healthy, and up to its first token.

    Args:
        is_tuned: whether it has the program and the environment of our workers' vLLM; else it has vLLM's own.
    """
    with tempfile.TemporaryDirectory() as folder:
        config, socket = configuration.load(WORDS), Path(folder) / "http"
        program = command(config.model, model, "policy", socket, without_gpu=True)
        env = environment(config.model, config.site, Path(folder), without_gpu=True)
        if not is_tuned:
            options = program[program.index("aworld.inference.serve") + 1 :]
            own = options.index("--worker-extension-cls")
            program = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *options[:own], *options[own + 2 :]]
            env = os.environ | OFFLINE
        request = {"model": "policy", "prompt": [0], "max_tokens": 1}
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), base_url="http://vllm", timeout=60.0) as http:

            def answers(method: str, path: str, body: dict[str, object] | None = None) -> bool:
                try:
                    return http.request(method, path, json=body).is_success
                except httpx.HTTPError:
                    return False

            steps = {
                "vLLM": lambda: answers("GET", "/health"),
                "first token": lambda: answers("POST", "/v1/completions", request),
            }
            with _process(program, env, signal.SIGTERM) as process:
                return _timed("vLLM", steps, process)


@contextmanager
def _process(program: Sequence[str], env: Mapping[str, str], end: signal.Signals) -> Iterator[subprocess.Popen[bytes]]:
    """A process, which is told to end, and waited for."""
    process = subprocess.Popen(program, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.send_signal(end)
        process.wait()


def _timed(what: str, steps: Mapping[str, Callable[[], bool]], process: subprocess.Popen[bytes]) -> dict[str, float]:
    began, found = time.perf_counter(), {}
    for name, is_done in steps.items():
        while not is_done():
            if process.poll() is not None:
                raise InfrastructureError(f"{what} ended with exit code {process.returncode} before: {name}")
            time.sleep(LOOK_SECONDS)
        found[name] = time.perf_counter() - began
    return found


def _make_model(folder: Path) -> None:
    from aworld.models.tiny import make_checkpoint  # which imports torch

    config = configuration.load(WORDS)
    source = SyntheticTasks(config.tasks, folder.parent / "tasks")
    make_checkpoint(config.model.architecture, texts(config, source), 0, folder)
